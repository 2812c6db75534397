//! `rollout = {...}` of a retrained model: how a new version comes into charge step by step.

use tidemill_types::Micros;
use tidemill_types::time::DAY;

use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::parts::Names;
use crate::plan::At;
use crate::section::Params;
use crate::table::Node;
use crate::units;

/// `rollout = { shadow = "1d", canary = ["5% for 1d", "25% for 1d"] }`
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutPlan {
    /// `shadow`: a new version is scored beside the champion, and served to nobody, at least so long;
    /// default 1 d.
    pub shadow: Micros,
    /// `canary`: then it serves a growing share of the keys; default 5 % and 25 %, a day each.
    pub canary: Vec<CanaryStep>,
    /// `by`: the feature whose values are the keys: index into [`crate::plan::Plan::features`]; the
    /// row's id if not given.
    pub by: Option<At<usize>>,
    /// `false_promotion`: the chance, at most, that a version that is not better takes over; default
    /// 0.05.
    pub false_promotion: f64,
    /// `false_abort`: the chance, at most, that one that is not worse is aborted or rolled back;
    /// default 0.01.
    pub false_abort: f64,
    /// `margin`: more log loss, in nats, that is no fault; default 0.
    pub margin: f64,
    /// `clip`: probabilities count as no nearer to 0 and 1 than this; default 0.001.
    pub clip: f64,
    /// `min_rows`: no step ends before so many rows were compared in all; default 500.
    pub min_rows: u64,
    /// `give_up`: a version that is neither found better nor worse in this time is turned away;
    /// default 30 d.
    pub give_up: Micros,
    /// `probation`: after it took over it is still compared with the one before, so long, and rolled
    /// back if it is found worse; default 7 d.
    pub probation: Micros,
    /// `abort_on = ["drift.loss"]`: when one of these says drift while a version is a canary or on
    /// probation, it is aborted or rolled back: indices into [`crate::plan::Plan::drifts`].
    pub abort_on: Vec<usize>,
}

/// `"5% for 1d"`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CanaryStep {
    /// Share of the keys, above 0 and at most 1.
    pub share: f64,
    /// At least so long.
    pub lasts: Micros,
}

impl Reader {
    pub(crate) fn rollout(
        &mut self,
        model: &At<String>,
        node: &Node,
        names: &Names,
    ) -> Option<RolloutPlan> {
        let folder = self.folder.clone();
        let path = format!("rollout of model.{}", model.value);
        let mut p = Params::new(&path, &node.span, self.table_of(model, node)?, &folder);
        let shadow = p.duration("shadow", DAY);
        let canary = p.optional_texts("canary");
        let by = p.optional_text("by");
        let false_promotion = p.float("false_promotion", 0.05, 1e-9..=0.5);
        let false_abort = p.float("false_abort", 0.01, 1e-9..=0.5);
        let margin = p.float("margin", 0.0, 0.0..=1.0);
        let clip = p.float("clip", 0.001, 1e-9..=0.1);
        let min_rows = p.integer("min_rows", 500, 1..=1_000_000_000) as u64;
        let give_up = p.optional_period("give_up").unwrap_or(30 * DAY);
        let probation = p.duration("probation", 7 * DAY);
        let abort_on = p.optional_texts("abort_on").unwrap_or_default();
        self.finish(p);
        let canary = match canary {
            Some(texts) => self.canary(&texts),
            None => [0.05, 0.25].map(|share| CanaryStep { share, lasts: DAY }).to_vec(),
        };
        let by = by.and_then(|name| {
            let bare = name.value.strip_prefix("features.").unwrap_or(&name.value).to_string();
            let named = At { value: bare, span: name.span.clone() };
            let all: Vec<&str> = names.features.iter().map(String::as_str).collect();
            let value = self.bind(&named, &all, "by", "feature")?;
            Some(At { value, span: name.span })
        });
        let drifts: Vec<&str> = names.drifts.iter().map(String::as_str).collect();
        let abort_on = abort_on.into_iter().filter_map(|name| {
            let bare = name.value.strip_prefix("drift.").unwrap_or(&name.value).to_string();
            self.bind(&At { value: bare, span: name.span }, &drifts, "abort_on", "drift")
        });
        let abort_on = abort_on.collect();
        let steps = canary.iter().fold(shadow, |sum, step| sum.saturating_add(step.lasts));
        if steps >= give_up {
            self.errors.push(Diagnostic::new(
                &node.span,
                format!("{path} gives up before its last step ends"),
                format!(
                    "its steps take {} and `give_up` is {}",
                    units::show_duration(steps),
                    units::show_duration(give_up)
                ),
                "make `give_up` longer, or the steps shorter",
            ));
        }
        Some(RolloutPlan {
            shadow,
            canary,
            by,
            false_promotion,
            false_abort,
            margin,
            clip,
            min_rows,
            give_up,
            probation,
            abort_on,
        })
    }

    fn canary(&mut self, texts: &[At<String>]) -> Vec<CanaryStep> {
        let mut steps: Vec<CanaryStep> = Vec::new();
        for text in texts {
            match step(&text.value) {
                Ok(step) if steps.last().is_some_and(|last| last.share >= step.share) => {
                    self.errors.push(Diagnostic::new(
                        &text.span,
                        format!("`{}` is not more than the step before it", text.value),
                        "shares of a canary grow, so that a key that it serves stays with it",
                        "put the steps in rising order",
                    ));
                }
                Ok(step) => steps.push(step),
                Err(reason) => self.errors.push(Diagnostic::new(
                    &text.span,
                    format!("`{}` is no step of a canary", text.value),
                    reason,
                    "write a share and a time: \"5% for 1d\"",
                )),
            }
        }
        steps
    }
}

fn step(text: &str) -> Result<CanaryStep, String> {
    let (share, lasts) = text.split_once("% for ").ok_or("it has no `% for `".to_string())?;
    let percent: f64 = share.trim().parse().map_err(|_| format!("`{share}` is no number"))?;
    if !(percent > 0.0 && percent <= 100.0) {
        return Err("a share is above 0 and at most 100 %".to_string());
    }
    Ok(CanaryStep { share: percent / 100.0, lasts: units::duration(lasts.trim())? })
}

/// `promote` and `rollout` in one model.
pub(crate) fn both(model: &At<String>, promote: &Node) -> Diagnostic {
    Diagnostic::new(
        &promote.span,
        format!("model.{} has `promote` and `rollout`", model.value),
        "both say when a new version takes over",
        "remove `promote` to have the version proven on the rows to come, or `rollout`",
    )
}
