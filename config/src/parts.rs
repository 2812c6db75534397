//! The tables of a pipeline file, one after another.

use tidemill_types::time::{DAY, HOUR, SECOND};
use tidemill_types::{DataType, Field, Micros, Schema};

use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::plan::{
    At, DriftOf, DriftPlan, Fallback, FeaturePlan, LabelPlan, ModelInput, ModelPlan, Plan,
    PromotePlan, Promotion, RetrainPlan, ScorePlan, SinkPlan, SourcePlan, Stream, Until,
};
use crate::section::{Params, Section};
use crate::table::{Item, Node};
use crate::{cure, units};

/// What later parts may name.
pub(crate) struct Names {
    pub(crate) features: Vec<String>,
    labels: Vec<String>,
    models: Vec<String>,
    batch: Vec<bool>,
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

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
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
            match DataType::parse(&text.value) {
                Some(data_type) => schema.fields.push(Field { name: name.value, data_type }),
                None => {
                    let types = DataType::ALL.map(DataType::name);
                    p.error(Diagnostic::new(
                        &text.span,
                        format!("`{}` is no type", text.value),
                        format!("the types are {}", types.join(", ")),
                        cure(&text.value, types),
                    ));
                }
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
        Some(LabelPlan { name: key.clone(), source, value, wait: wait.unwrap_or(1), otherwise })
    }

    pub(crate) fn models(&mut self, all: &[(At<String>, Node)], names: &Names) -> Vec<ModelPlan> {
        all.iter().filter_map(|(key, node)| self.model(key, node, names)).collect()
    }

    fn model(&mut self, key: &At<String>, node: &Node, names: &Names) -> Option<ModelPlan> {
        let path = format!("model.{}", key.value);
        let folder = self.folder.clone();
        let entries = self.table_of(key, node)?;
        let mut p = Params::new(&path, &key.span, entries, &folder);
        let kind = p.text("type");
        let label = p.text("label");
        let inputs = p.optional_texts("inputs");
        let publish = p.optional_period("publish");
        let (retrain, training, promote) =
            (p.node("retrain"), p.node("training"), p.node("promote"));
        let (rollout, gate) = (p.node("rollout"), p.node("gate"));
        let section = Section {
            kind,
            path: path.clone(),
            span: key.span.clone(),
            keys: p.rest(),
            common: p.asked(),
            folder: self.folder.clone(),
        };
        self.errors.extend(p.errors());
        let more = training.or(promote).or(rollout).or(gate);
        if let (Some(_), Some(promote)) = (rollout, promote) {
            self.errors.push(crate::rollout::both(key, promote));
        }
        if retrain.is_none() && more.is_some() {
            self.errors.push(Diagnostic::new(
                &key.span,
                format!("{path} is never retrained"),
                "`training`, `promote`, `rollout` and `gate` belong to a model with `retrain`",
                "add retrain = { on = [\"every 7d\"] }, or remove them",
            ));
        }
        let rollout = rollout.and_then(|n| self.rollout(key, n, names));
        let gate = gate.and_then(|n| self.gate(key, n, names));
        let retrain = retrain.and_then(|n| self.retrain(key, n, training, promote, names));
        let label = self.bind(&label, &strs(&names.labels), "label", "label")?;
        let inputs = inputs.unwrap_or(vec![At::nowhere("features.*".to_string())]);
        let named = named(&inputs, names);
        let inputs = self.inputs(&inputs, names);
        let name = key.clone();
        Some(ModelPlan { name, section, label, inputs, named, publish, retrain, rollout, gate })
    }

    fn inputs(&mut self, texts: &[At<String>], names: &Names) -> Vec<ModelInput> {
        let mut inputs = Vec::new();
        for text in texts {
            let found: Vec<ModelInput> = if text.value == "features.*" {
                (0..names.features.len()).map(ModelInput::Feature).collect()
            } else if let Some(model) = text.value.strip_suffix(".margin") {
                let model = At { value: model.to_string(), span: text.span.clone() };
                let found = self.bind(&model, &strs(&names.models), "inputs", "model");
                found.map(ModelInput::Margin).into_iter().collect()
            } else {
                let bare = text.value.strip_prefix("features.").unwrap_or(&text.value);
                let feature = At { value: bare.to_string(), span: text.span.clone() };
                let found = self.bind(&feature, &strs(&names.features), "inputs", "feature");
                found.map(ModelInput::Feature).into_iter().collect()
            };
            for input in found {
                if !inputs.contains(&input) {
                    inputs.push(input);
                }
            }
        }
        inputs
    }

    fn retrain(
        &mut self,
        key: &At<String>,
        node: &Node,
        training: Option<&Node>,
        promote: Option<&Node>,
        names: &Names,
    ) -> Option<RetrainPlan> {
        let folder = self.folder.clone();
        let path = format!("retrain of model.{}", key.value);
        let mut p = Params::new(&path, &node.span, self.table_of(key, node)?, &folder);
        let on = p.optional_texts("on").unwrap_or_default();
        let cooldown = p.duration("cooldown", DAY);
        let takes = p.duration("takes", 0);
        let budget = p.integer("budget", 24, 1..=1_000_000) as u64;
        let executor =
            p.optional_texts("executor").unwrap_or(vec![At::nowhere("in_process".to_string())]);
        self.finish(p);
        let executor = self.choices(node, &path, executor);
        let (mut every, mut drifts, mut labels, mut loss) = (Vec::new(), Vec::new(), None, None);
        for text in &on {
            if let Some(name) = text.value.strip_prefix("drift.") {
                let name = At { value: name.to_string(), span: text.span.clone() };
                drifts.extend(self.bind(&name, &strs(&names.drifts), "on", "drift"));
                continue;
            }
            let number = |text: &str| text.replace('_', "").parse::<f64>().ok();
            let after = |prefix| text.value.strip_prefix(prefix).and_then(number);
            if let Some(n) = after("labels ").filter(|n| *n >= 1.0 && n.fract() == 0.0) {
                labels = Some(n as u64);
                continue;
            }
            if let Some(n) = after("loss above ").filter(|n| *n > 0.0 && n.is_finite()) {
                loss = Some(n);
                continue;
            }
            match text.value.strip_prefix("every ").map(units::duration) {
                Some(Ok(period)) if period > 0 => every.push(period),
                other => self.errors.push(Diagnostic::new(
                    &text.span,
                    format!("`{}` triggers nothing", text.value),
                    match other {
                        Some(Err(reason)) => reason,
                        Some(Ok(_)) => "an interval is above zero".to_string(),
                        None => "a trigger is an interval, a drift section, a number of labels or a loss".to_string(),
                    },
                    "write \"every 7d\", \"drift.NAME\", \"labels 20000\" or \"loss above 0.45\"",
                )),
            }
        }
        if on.is_empty() {
            self.errors.push(Diagnostic::new(
                &node.span,
                format!("{path} has no trigger"),
                "`on` is missing or empty",
                "add on = [\"every 7d\"]",
            ));
        }
        let empty = Node { span: node.span.clone(), value: Item::Table(Vec::new()) };
        let training = training.unwrap_or(&empty);
        let path = format!("training of model.{}", key.value);
        let mut p = Params::new(&path, &training.span, self.table_of(key, training)?, &folder);
        let last = p.optional_period("last");
        let max_rows = p.integer("max_rows", 1_000_000, 1..=1_000_000_000) as u64;
        let min_rows = p.integer("min_rows", 1_000, 1..=1_000_000_000) as u64;
        self.finish(p);
        let promote = promote.unwrap_or(&empty);
        let path = format!("promote of model.{}", key.value);
        let mut p = Params::new(&path, &promote.span, self.table_of(key, promote)?, &folder);
        let when = match p.choice("when", "not_worse", &["not_worse", "always"]) {
            "always" => Promotion::Always,
            _ => Promotion::NotWorse,
        };
        p.choice("by", "log_loss", &["log_loss"]);
        let promote = PromotePlan {
            when,
            margin: p.float("margin", 0.002, -1.0..=1.0),
            last: p.optional_period("last").unwrap_or(7 * DAY),
            min_rows: p.integer("min_rows", 2_000, 1..=1_000_000_000) as u64,
        };
        self.finish(p);
        Some(RetrainPlan {
            every,
            drifts,
            cooldown,
            takes,
            labels,
            loss,
            budget,
            executor,
            last,
            max_rows,
            min_rows,
            promote,
        })
    }

    pub(crate) fn drift(
        &mut self,
        key: &At<String>,
        node: &Node,
        names: &Names,
    ) -> Option<DriftPlan> {
        let path = format!("drift.{}", key.value);
        let folder = self.folder.clone();
        let mut p = Params::new(&path, &key.span, self.table_of(key, node)?, &folder);
        let of = p.optional_texts("of").unwrap_or(vec![At::nowhere("*".to_string())]);
        let detect = p.node("detect");
        let reference = p.choice("reference", "training", &["training"]);
        debug_assert_eq!(reference, "training");
        let model = p.optional_text("model");
        let reference_rows = p.integer("reference_rows", 10_000, 10..=1_000_000) as u64;
        let window = p.optional_period("window").unwrap_or(7 * DAY);
        let every = p.optional_period("every").unwrap_or(HOUR);
        self.finish(p);
        let named = named(&of, names);
        let of = self.drift_of(&of, names);
        let detect = self.detectors(key, &path, detect);
        let model = match model {
            Some(model) => Some(self.bind(&model, &strs(&names.models), "model", "model")?),
            None => names.batch.iter().position(|b| *b),
        };
        if matches!(of, DriftOf::Inputs { .. }) && !model.is_some_and(|m| names.batch[m]) {
            self.errors.push(Diagnostic::new(
                &key.span,
                format!("{path} has no reference"),
                "the reference is the training set of a model with `retrain`, and there is none",
                "name one: model = \"NAME\"",
            ));
        }
        let name = key.clone();
        Some(DriftPlan { name, of, named, detect, model, reference_rows, window, every })
    }

    fn drift_of(&mut self, of: &[At<String>], names: &Names) -> DriftOf {
        if let [only] = of {
            if only.value == "loss" {
                return DriftOf::Loss;
            }
            if only.value == "*" {
                let features = (0..names.features.len()).collect();
                return DriftOf::Inputs { features, score: !names.models.is_empty() };
            }
        }
        let (mut features, mut score) = (Vec::new(), false);
        for text in of {
            if text.value == "score" {
                score = true;
            } else {
                features.extend(self.bind(text, &strs(&names.features), "of", "feature"));
            }
        }
        DriftOf::Inputs { features, score }
    }

    fn detectors(&mut self, key: &At<String>, path: &str, node: Option<&Node>) -> Vec<Section> {
        let nodes = match node.map(|n| &n.value) {
            Some(Item::Array(nodes)) => nodes.clone(),
            Some(_) => node.cloned().into_iter().collect(),
            None => Vec::new(),
        };
        if nodes.is_empty() {
            self.errors.push(Diagnostic::new(
                &key.span,
                format!("{path} has no detector"),
                "`detect` is missing or empty",
                "add detect = [\"psi\", \"ks\"]",
            ));
        }
        let mut sections = Vec::new();
        for node in &nodes {
            let folder = self.folder.clone();
            let path = format!("detect of {path}");
            match &node.value {
                Item::Text(kind) => {
                    let kind = At { value: kind.clone(), span: node.span.clone() };
                    let span = node.span.clone();
                    let (keys, common) = (Vec::new(), Vec::new());
                    sections.push(Section { kind, path, span, keys, common, folder });
                }
                Item::Table(entries) => {
                    let mut p = Params::new(&path, &node.span, entries, &folder);
                    let kind = p.text("type");
                    let (keys, common) = (p.rest(), p.asked());
                    self.errors.extend(p.errors());
                    let span = node.span.clone();
                    sections.push(Section { kind, path, span, keys, common, folder });
                }
                _ => self.errors.push(Diagnostic::new(
                    &node.span,
                    format!("a detector cannot be {}", node.kind()),
                    "it is a name, or a table with `type`",
                    "write \"psi\" or { type = \"psi\", threshold = 0.2 }",
                )),
            }
        }
        sections
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

    pub(crate) fn sink(&mut self, key: &At<String>, node: &Node) -> Option<SinkPlan> {
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
        Some(SinkPlan { name: key.clone(), stream, section, format, columns })
    }
}

/// Puts each model after those whose margin it reads.
pub(crate) fn sort_models(plan: &mut Plan) -> Result<(), Diagnostic> {
    let reads = |m: &ModelPlan| -> Vec<usize> {
        m.inputs
            .iter()
            .filter_map(|i| match i {
                ModelInput::Margin(m) => Some(*m),
                ModelInput::Feature(_) => None,
            })
            .collect()
    };
    let mut order: Vec<usize> = Vec::new();
    while order.len() < plan.models.len() {
        let ready = (0..plan.models.len()).find(|i| {
            !order.contains(i) && reads(&plan.models[*i]).iter().all(|r| order.contains(r))
        });
        match ready {
            Some(model) => order.push(model),
            None => {
                let stuck = plan.models.iter().enumerate().filter(|(i, _)| !order.contains(i));
                let names: Vec<&str> = stuck.map(|(_, m)| m.name.value.as_str()).collect();
                let first = plan.models.iter().find(|m| m.name.value == names[0]);
                return Err(Diagnostic::new(
                    &first.map_or(0..0, |m| m.name.span.clone()),
                    "models read each other's margin in a circle",
                    format!("none of {} can be scored before the others", names.join(", ")),
                    "remove one of these inputs",
                ));
            }
        }
    }
    let place = |old: usize| order.iter().position(|o| *o == old).unwrap_or(old);
    let mut models: Vec<ModelPlan> = order.iter().map(|i| plan.models[*i].clone()).collect();
    for model in &mut models {
        for input in &mut model.inputs {
            if let ModelInput::Margin(m) = input {
                *m = place(*m);
            }
        }
    }
    plan.models = models;
    for drift in &mut plan.drifts {
        drift.model = drift.model.map(place);
    }
    if let Some(score) = &mut plan.score {
        score.champion = place(score.champion);
        score.challengers.iter_mut().for_each(|c| *c = place(*c));
        score.freeze = score.freeze.map(place);
        for fallback in &mut score.fallback {
            if let Fallback::Model(m) = fallback {
                *m = place(*m);
            }
        }
    }
    Ok(())
}

/// The features among these texts, each at its place.
fn named(texts: &[At<String>], names: &Names) -> Vec<At<usize>> {
    let feature = |text: &At<String>| {
        let bare = text.value.strip_prefix("features.").unwrap_or(&text.value);
        let index = names.features.iter().position(|name| name.as_str() == bare)?;
        Some(At { value: index, span: text.span.clone() })
    };
    texts.iter().filter_map(feature).collect()
}
