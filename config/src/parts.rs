//! The tables of a pipeline file, one after another.

use tidemill_types::time::SECOND;
use tidemill_types::{DataType, Field, MOST_ITEMS, Micros, Schema};

use crate::cure;
use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::plan::{
    At, Fallback, FeaturePlan, LabelPlan, ModelPlan, ScorePlan, SinkPlan, SourcePlan, Stream, Until,
};
use crate::section::{Params, Section};
use crate::table::{Item, Node};

/// What later parts may name.
pub(crate) struct Names {
    pub(crate) features: Vec<String>,
    pub(crate) labels: Vec<String>,
    pub(crate) models: Vec<String>,
    pub(crate) batch: Vec<bool>,
    pub(crate) drifts: Vec<String>,
}

impl Names {
    pub(crate) fn new(
        features: &[FeaturePlan],
        labels: &[LabelPlan],
        models: &[(At<String>, Node)],
        drifts: &[(At<String>, Node)],
    ) -> Names {
        let batch = |node: &Node| match &node.value {
            Item::Table(entries) => entries.iter().any(|(k, _)| k.value == "retrain"),
            _ => false,
        };
        Names {
            features: features.iter().map(|f| f.name.value.clone()).collect(),
            labels: labels.iter().map(|l| l.name.value.clone()).collect(),
            models: models.iter().map(|(k, _)| k.value.clone()).collect(),
            batch: models.iter().map(|(_, n)| batch(n)).collect(),
            drifts: drifts.iter().map(|(k, _)| k.value.clone()).collect(),
        }
    }
}

pub(crate) fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// What is written where a type belongs.
fn no_type(text: &At<String>) -> Diagnostic {
    let lists = DataType::LISTS.map(DataType::name);
    let types = DataType::ALL.map(DataType::name);
    let maps = types.map(|name| format!("map<{name}>"));
    Diagnostic::new(
        &text.span,
        format!("`{}` is no type", text.value),
        format!(
            "the types are {}, the lists of these ({}, ...), maps to these ({}, ...) and vector(n), n numbers from 1 to {MOST_ITEMS}",
            types.join(", "),
            lists[0],
            maps[0],
        ),
        match text.value.as_str() {
            vector if vector.starts_with("vector") => {
                "write how long each is: `vector(64)`".to_string()
            }
            map if map.starts_with("map") && (map.contains(',') || !map.contains('<')) => {
                "write what it maps to: `map<float64>`; its keys are texts".to_string()
            }
            other => {
                let maps = maps.iter().map(String::as_str);
                cure(other, types.into_iter().chain(lists).chain(maps))
            }
        },
    )
}

impl Reader {
    pub(crate) fn source(&mut self, key: &At<String>, node: &Node) -> SourcePlan {
        let path = format!("source.{}", key.value);
        let folder = self.folder.clone();
        let entries = self.table_of(key, node).unwrap_or_default();
        let mut p = Params::new(&path, &key.span, entries, &folder);
        let kind = p.text("type");
        let format = p.optional_text("format");
        let declared = p.named_texts("schema");
        let null = p.optional_texts("null");
        let timezone = p.optional_text("timezone").unwrap_or(At::nowhere("UTC".to_string()));
        let filter = p.optional_text("where");
        let columns = p.named_texts("columns");
        let event_time = p.text("event_time");
        let id = p.optional_text("id");
        let lateness = p.duration("lateness", 0);
        let sort = p.optional_duration("sort");
        let hold = p.optional_duration("hold");
        let idle_after = p.duration("idle_after", 10 * SECOND);
        let until = p.node("until").map(|_| match p.choice("until", "end", &["end", "stopped"]) {
            "stopped" => Until::Stopped,
            _ => Until::End,
        });
        let (keys, common) = (p.rest(), p.asked());
        let mut schema = Schema::default();
        for (name, text) in declared {
            match Field::parse(&name.value, &text.value) {
                Some(field) => schema.fields.push(field),
                None => p.error(no_type(&text)),
            }
        }
        if schema.fields.is_empty() {
            p.error(Diagnostic::new(
                &key.span,
                format!("{path} declares no column"),
                "`schema` is required: types are declared, never guessed",
                "add schema = { column = \"int64\", ... }",
            ));
        }
        self.errors.extend(p.errors());
        SourcePlan {
            name: key.clone(),
            section: Section { kind, path, span: key.span.clone(), keys, common, folder },
            format,
            schema,
            null: null.map_or(vec![String::new()], |n| n.into_iter().map(|t| t.value).collect()),
            timezone,
            filter,
            columns,
            event_time,
            id,
            lateness,
            sort,
            hold,
            idle_after,
            until,
        }
    }

    pub(crate) fn feature(&mut self, key: &At<String>, node: &Node) -> Option<FeaturePlan> {
        if key.value == "score" || key.value.starts_with("__") {
            self.errors.push(Diagnostic::new(
                &key.span,
                format!("`{}` cannot be a feature", key.value),
                "`score` and names that begin with `__` are taken by Tidemill itself",
                "choose another name",
            ));
        }
        match &node.value {
            Item::Text(text) => Some(FeaturePlan {
                name: key.clone(),
                text: At { value: text.clone(), span: node.span.clone() },
            }),
            _ => {
                self.errors.push(Diagnostic::new(
                    &node.span,
                    format!("feature `{}` cannot be {}", key.value, node.kind()),
                    "it is an expression in a string",
                    "write for example \"avg(amount) over last_hour\"",
                ));
                None
            }
        }
    }

    pub(crate) fn label(
        &mut self,
        key: &At<String>,
        node: &Node,
        sources: &[SourcePlan],
    ) -> Option<LabelPlan> {
        let path = format!("label.{}", key.value);
        let folder = self.folder.clone();
        let entries = self.table_of(key, node)?;
        let mut p = Params::new(&path, &key.span, entries, &folder);
        let over = p.text("over");
        let value = p.text("value");
        let wait = p.optional_period("wait");
        if wait.is_none() && !entries.iter().any(|(k, _)| k.value == "wait") {
            p.error(Diagnostic::new(
                &key.span,
                format!("{path} has no `wait`"),
                "a row cannot wait for its label for ever",
                "add wait = \"36h\": how long after the event a label may come",
            ));
        }
        let settled = p.boolean("settled", false);
        let otherwise = match p.node("otherwise").map(|n| (&n.value, n)) {
            None => None,
            Some((Item::Text(text), _)) if text == "drop" => None,
            Some((Item::Int(i), _)) => Some(*i as f64),
            Some((Item::Float(f), _)) => Some(*f),
            Some((Item::Bool(b), _)) => Some(f64::from(u8::from(*b))),
            Some((_, node)) => {
                p.error(Diagnostic::new(
                    &node.span,
                    format!("`otherwise` of {path} cannot be {}", node.kind()),
                    "it is \"drop\" or the value that counts when no label came",
                    "write \"drop\", 0 or 1",
                ));
                None
            }
        };
        self.finish(p);
        let names: Vec<&str> = sources.iter().map(|s| s.name.value.as_str()).collect();
        let source = self.bind(&over, &names, "over", "source")?;
        let (name, wait) = (key.clone(), wait.unwrap_or(1));
        Some(LabelPlan { name, source, value, wait, otherwise, settled })
    }

    pub(crate) fn score(
        &mut self,
        key: &At<String>,
        node: &Node,
        names: &Names,
        models: &[ModelPlan],
    ) -> Option<ScorePlan> {
        let folder = self.folder.clone();
        let mut p = Params::new("[score]", &key.span, self.table_of(key, node)?, &folder);
        let champion = p.text("champion");
        let challengers = p.optional_texts("challengers").unwrap_or_default();
        let fallback = p.node("fallback");
        let freeze = p.optional_text("freeze");
        let spans = p.named_texts("spans");
        self.finish(p);
        let spans = spans.into_iter().filter_map(|(name, text)| self.span(name, &text)).collect();
        let all = strs(&names.models);
        let fallback = self.fallback(key, fallback, &all);
        let challengers =
            challengers.iter().filter_map(|c| self.bind(c, &all, "challengers", "model")).collect();
        let freeze = match freeze {
            Some(name) => {
                let index = self.bind(&name, &all, "freeze", "model")?;
                if models.get(index).is_some_and(|m| m.retrain.is_none()) {
                    self.errors.push(Diagnostic::new(
                        &name.span,
                        format!("`freeze` names a model that is never retrained: `{}`", name.value),
                        "only a model with `retrain` has a first version to keep",
                        "name a model with `retrain`, or remove `freeze`",
                    ));
                }
                Some(index)
            }
            None => None,
        };
        let champion = self.bind(&champion, &all, "champion", "model")?;
        Some(ScorePlan { champion, challengers, fallback, freeze, spans })
    }

    /// An ISO 8601 interval.
    fn span(&mut self, name: At<String>, text: &At<String>) -> Option<(String, Micros, Micros)> {
        let ends = text.value.split_once('/').and_then(|(from, to)| {
            let read = tidemill_types::time::from_rfc3339;
            Some((read(from.trim())?, read(to.trim())?))
        });
        match ends {
            Some((from, to)) if from < to => Some((name.value, from, to)),
            _ => {
                self.errors.push(Diagnostic::new(
                    &text.span,
                    format!("`{}` is no range of time", text.value),
                    "a range is its beginning, a slash and its end, which is not part of it",
                    "write for example \"2013-02-01/2013-07-01\"",
                ));
                None
            }
        }
    }

    fn fallback(
        &mut self,
        key: &At<String>,
        node: Option<&Node>,
        models: &[&str],
    ) -> Vec<Fallback> {
        let Some(node) = node else { return vec![Fallback::Constant(0.5)] };
        let nodes = match &node.value {
            Item::Array(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut out = Vec::new();
        for node in nodes {
            let constant = match &node.value {
                Item::Text(name) => {
                    let name = At { value: name.clone(), span: node.span.clone() };
                    out.extend(self.bind(&name, models, "fallback", "model").map(Fallback::Model));
                    continue;
                }
                Item::Int(i) => *i as f64,
                Item::Float(f) => *f,
                _ => f64::NAN,
            };
            if (0.0..=1.0).contains(&constant) {
                out.push(Fallback::Constant(constant));
            } else {
                self.errors.push(Diagnostic::new(
                    &node.span,
                    "`fallback` of [score] holds what is neither a model nor a probability",
                    "a constant lies between 0 and 1",
                    "write for example [\"trees\", 0.2]",
                ));
            }
        }
        if !matches!(out.last(), Some(Fallback::Constant(_))) {
            let span = if node.span.is_empty() { &key.span } else { &node.span };
            self.errors.push(Diagnostic::new(
                span,
                "`fallback` of [score] does not end in a constant",
                "before the first training there is no model at all",
                "end it with a probability, for example 0.2",
            ));
        }
        out
    }

    pub(crate) fn sink(
        &mut self,
        key: &At<String>,
        node: &Node,
        pipeline: &str,
    ) -> Option<SinkPlan> {
        let pipeline = pipeline.to_string();
        let path = format!("sink.{}", key.value);
        let folder = self.folder.clone();
        let mut p = Params::new(&path, &key.span, self.table_of(key, node)?, &folder);
        let kind = p.text("type");
        let of = p.optional_text("of").unwrap_or_else(|| key.clone());
        let format = p.optional_text("format");
        let columns = p.optional_texts("columns");
        let (keys, common) = (p.rest(), p.asked());
        self.errors.extend(p.errors());
        let section = Section { kind, path, span: key.span.clone(), keys, common, folder };
        let names = Stream::ALL.map(|(_, name)| name);
        let stream = self.bind(&of, &names, "of", "stream")?;
        let stream = Stream::ALL[stream].0;
        Some(SinkPlan { name: key.clone(), pipeline, stream, section, format, columns })
    }
}

/// The features among these texts, each at its place.
pub(crate) fn named(texts: &[At<String>], names: &Names) -> Vec<At<usize>> {
    let feature = |text: &At<String>| {
        let bare = text.value.strip_prefix("features.").unwrap_or(&text.value);
        let index = names.features.iter().position(|name| name.as_str() == bare)?;
        Some(At { value: index, span: text.span.clone() })
    };
    texts.iter().filter_map(feature).collect()
}
