//! From the text of a pipeline file to its plan: read, substitute, override, bind.

use std::path::{Path, PathBuf};

use crate::cure;
use crate::diagnostic::{Diagnostic, Report, SourceText};
use crate::plan::{At, Mode, Pipeline, Plan};
use crate::section::Params;
use crate::table::{self, Item, Node};
use crate::{models, parts};

/// A pipeline that has been read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The plan.
    pub plan: Plan,
    /// The file, for later errors.
    pub text: SourceText,
}

/// Reads a pipeline file; `overrides` are the `--set` pairs.
///
/// # Errors
/// Everything that is wrong with it, as far as names and limits go.
pub fn load(path: &Path, overrides: &[(String, String)]) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Report::new(
            SourceText { name: name.clone(), text: "".into() },
            vec![Diagnostic::new(
                &(0..0),
                "the pipeline file cannot be read",
                error.to_string(),
                "name a file that exists, or make one with `tidemill new`",
            )],
        )
    })?;
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    parse(&name, &text, &folder, overrides, &|name| std::env::var(name).ok())
}

/// The same from a text; relative paths start at `folder`.
///
/// # Errors
/// As [`load`].
pub fn parse(
    name: &str,
    text: &str,
    folder: &Path,
    overrides: &[(String, String)],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Report> {
    let source = SourceText { name: name.to_string(), text: text.into() };
    let fail = |errors| Report::new(source.clone(), errors);
    let mut root = table::parse(text).map_err(fail)?;
    let mut errors = Vec::new();
    table::substitute(&mut root, env, &mut errors);
    for (path, value) in overrides {
        if let Err(error) = table::set(&mut root, path, value) {
            errors.push(error);
        }
    }
    if !errors.is_empty() {
        return Err(fail(errors));
    }
    let mut reader = Reader { folder: folder.to_path_buf(), errors };
    let plan = reader.plan(&root);
    match plan {
        Some(plan) if reader.errors.is_empty() => Ok(Loaded { plan, text: source }),
        _ => Err(fail(reader.errors)),
    }
}

/// The tables of a file, in the order of the river.
const TABLES: [&str; 13] = [
    "pipeline",
    "source",
    "windows",
    "features",
    "label",
    "executor",
    "model",
    "drift",
    "score",
    "online",
    "sink",
    "checkpoint",
    "traces",
];

/// Reads the parts of a file and keeps what is wrong with them.
pub(crate) struct Reader {
    pub(crate) folder: PathBuf,
    pub(crate) errors: Vec<Diagnostic>,
}

impl Reader {
    fn plan(&mut self, root: &Node) -> Option<Plan> {
        let Item::Table(tables) = &root.value else { return None };
        for (key, _) in tables.iter().filter(|(k, _)| !TABLES.contains(&k.value.as_str())) {
            self.errors.push(Diagnostic::new(
                &key.span,
                format!("there is no table `{}`", key.value),
                format!("the tables are {}", TABLES.join(", ")),
                cure(&key.value, TABLES),
            ));
        }
        let named = |name: &str| tables.iter().find(|(k, _)| k.value == name);
        let Some((pipeline_key, pipeline)) = named("pipeline") else {
            self.errors.push(Diagnostic::new(
                &(0..0),
                "there is no [pipeline]",
                "a pipeline needs a name and a spine",
                "begin the file with [pipeline], name = \"...\" and spine = \"...\"",
            ));
            return None;
        };
        let sections = |reader: &mut Reader, name: &str| -> Vec<(At<String>, Node)> {
            named(name).map(|(k, n)| reader.entries(k, n)).unwrap_or_default()
        };
        let source_entries = sections(self, "source");
        let sources: Vec<_> = source_entries.iter().map(|(k, n)| self.source(k, n)).collect();
        let pipeline = self.pipeline(pipeline_key, pipeline, &sources)?;
        let spine = pipeline.spine.value;
        let windows = sections(self, "windows")
            .iter()
            .filter_map(|(k, n)| self.window(k, n, &sources, spine))
            .collect();
        let features: Vec<_> =
            sections(self, "features").iter().filter_map(|(k, n)| self.feature(k, n)).collect();
        let labels: Vec<_> = sections(self, "label")
            .iter()
            .filter_map(|(k, n)| self.label(k, n, &sources))
            .collect();
        let executors: Vec<_> =
            sections(self, "executor").iter().filter_map(|(k, n)| self.executor(k, n)).collect();
        let model_entries = sections(self, "model");
        let drift_entries = sections(self, "drift");
        let names = parts::Names::new(&features, &labels, &model_entries, &drift_entries);
        let models = self.models(&model_entries, &names);
        let drifts = drift_entries.iter().filter_map(|(k, n)| self.drift(k, n, &names)).collect();
        let score = named("score").and_then(|(k, n)| self.score(k, n, &names, &models));
        let online = named("online").and_then(|(k, n)| self.online(k, n));
        let called = &pipeline.name.value;
        let sinks = sections(self, "sink");
        let sinks = sinks.iter().filter_map(|(k, n)| self.sink(k, n, called)).collect();
        let checkpoint = self.checkpoint(named("checkpoint"));
        let traces = named("traces").and_then(|(k, n)| self.traces(k, n));
        let mut plan = Plan {
            pipeline,
            sources,
            windows,
            features,
            labels,
            executors,
            models,
            drifts,
            score,
            online,
            sinks,
            checkpoint,
            traces,
        };
        if let Err(error) = models::sort_models(&mut plan) {
            self.errors.push(error);
        }
        Some(plan)
    }

    /// The entries of a table of tables.
    fn entries(&mut self, key: &At<String>, node: &Node) -> Vec<(At<String>, Node)> {
        match &node.value {
            Item::Table(entries) => {
                for (name, _) in entries {
                    self.check_name(name);
                }
                entries.clone()
            }
            _ => {
                self.errors.push(Diagnostic::new(
                    &node.span,
                    format!("`{}` cannot be {}", key.value, node.kind()),
                    "it is a table",
                    format!("write [{}] or [{}.NAME]", key.value, key.value),
                ));
                Vec::new()
            }
        }
    }

    /// Names go into paths, metrics and SQL.
    pub(crate) fn check_name(&mut self, name: &At<String>) {
        let text = &name.value;
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let begins = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !(begins && text.chars().all(good) && text.len() <= 63) {
            self.errors.push(Diagnostic::new(
                &name.span,
                format!("`{text}` cannot be a name"),
                "a name is 1 to 63 letters, digits, `_` or `-`, and begins with a letter or `_`",
                "choose another name",
            ));
        }
    }

    fn pipeline(
        &mut self,
        key: &At<String>,
        node: &Node,
        sources: &[crate::plan::SourcePlan],
    ) -> Option<Pipeline> {
        let entries = self.table_of(key, node)?;
        let mut p = Params::new("[pipeline]", &key.span, entries, Path::new(""));
        let name = p.text("name");
        let spine = p.text("spine");
        let mode = match p.choice("mode", "final", &["final", "at_once"]) {
            "at_once" => Mode::AtOnce,
            _ => Mode::Final,
        };
        let tick = p.optional_period("tick").unwrap_or(tidemill_types::time::SECOND);
        let bundle = p.node("bundle").map(|_| p.integer("bundle", 1, 1..=1_000_000) as u64);
        let max_ahead = p.duration("max_ahead", tidemill_types::time::DAY);
        let seed = p.integer("seed", 0, 0..=i64::MAX) as u64;
        let ahead = p.integer("ahead", 65_536, 1..=1_000_000_000) as u64;
        if tick < tidemill_types::time::MILLISECOND {
            p.error(Diagnostic::new(
                &key.span,
                "`tick` of [pipeline] is too short",
                "it is at least 1 ms",
                "write tick = \"1ms\" or more",
            ));
        }
        self.finish(p);
        if !name.value.is_empty() {
            self.check_name(&name);
        }
        let names: Vec<&str> = sources.iter().map(|s| s.name.value.as_str()).collect();
        let index = self.bind(&spine, &names, "spine", "source")?;
        Some(Pipeline {
            name,
            spine: At { value: index, span: spine.span },
            mode,
            tick,
            bundle,
            max_ahead,
            seed,
            ahead,
        })
    }

    /// The index of a name, or an error that suggests one.
    pub(crate) fn bind(
        &mut self,
        name: &At<String>,
        there: &[&str],
        key: &str,
        kind: &str,
    ) -> Option<usize> {
        let found = there.iter().position(|n| *n == name.value);
        if found.is_none() && !name.value.is_empty() {
            self.errors.push(Diagnostic::new(
                &name.span,
                format!("`{key}` names no {kind}: `{}`", name.value),
                match there.is_empty() {
                    true => format!("there is no {kind}"),
                    false => format!("the {kind}s are {}", there.join(", ")),
                },
                cure(&name.value, there.iter().copied()),
            ));
        }
        found
    }

    /// The entries of a table, or an error.
    pub(crate) fn table_of<'a>(
        &mut self,
        key: &At<String>,
        node: &'a Node,
    ) -> Option<&'a [(At<String>, Node)]> {
        match &node.value {
            Item::Table(entries) => Some(entries),
            _ => {
                self.errors.push(Diagnostic::new(
                    &node.span,
                    format!("`{}` cannot be {}", key.value, node.kind()),
                    "it is a table",
                    "write a table: { ... }",
                ));
                None
            }
        }
    }

    /// Ends a reading and keeps what was wrong.
    pub(crate) fn finish(&mut self, params: Params<'_>) {
        if let Err(errors) = params.finish() {
            self.errors.extend(errors);
        }
    }
}
