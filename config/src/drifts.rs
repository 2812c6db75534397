//! Drift: what is watched, by which detectors, against what.

use tidemill_types::time::{DAY, HOUR};

use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::parts::{Names, named, strs};
use crate::plan::{At, DriftOf, DriftPlan};
use crate::section::{Params, Section};
use crate::table::{Item, Node};

impl Reader {
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
}
