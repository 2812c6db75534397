//! Models: what they read, and when they are trained anew.

use tidemill_types::time::DAY;

use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::parts::{Names, named, strs};
use crate::plan::{At, Fallback, ModelInput, ModelPlan, Plan, PromotePlan, Promotion, RetrainPlan};
use crate::section::{Params, Section};
use crate::table::{Item, Node};
use crate::units;

impl Reader {
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
}

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
