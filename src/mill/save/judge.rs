//! The evaluation: a part for each week, month and span, for those that are over do not change.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tidemill_operators::evaluate::{Evaluation, Tally};

use super::super::judge::Judge;
use super::part;
use crate::checkpoint::line::Parts;
use crate::checkpoint::section;

/// What is kept beside the buckets.
#[derive(Serialize, Deserialize)]
pub struct SavedJudge {
    /// By evaluation: its name, whether it is exact, how many scores it keeps, its buckets.
    evaluations: Vec<(String, bool, usize, Vec<i64>)>,
    recent: (VecDeque<f64>, f64),
}

fn name(evaluation: &str, bucket: i64) -> String {
    format!("judge/{evaluation}/{bucket}")
}

impl Judge {
    fn named(&mut self) -> impl Iterator<Item = (String, &mut Evaluation)> {
        let spans = self.by_span.iter_mut().enumerate();
        let spans = spans.map(|(i, evaluation)| (format!("span{i}"), evaluation));
        let calendar =
            [("week".to_string(), &mut self.by_week), ("month".to_string(), &mut self.by_month)];
        calendar.into_iter().chain(spans)
    }

    /// Adds the parts, and tells the rest.
    pub(super) fn save(&self, parts: &mut Parts) -> Result<SavedJudge, String> {
        let spans = self.by_span.iter().enumerate().map(|(i, e)| (format!("span{i}"), e));
        let calendar = [("week".to_string(), &self.by_week), ("month".to_string(), &self.by_month)];
        let mut evaluations = Vec::new();
        for (evaluation, found) in calendar.into_iter().chain(spans) {
            for (bucket, tallies) in found.tallies() {
                parts.push((name(&evaluation, *bucket), section::encode(tallies)?));
            }
            let (exact, kept) = found.kept();
            evaluations.push((evaluation, exact, kept, found.buckets().collect()));
        }
        Ok(SavedJudge { evaluations, recent: self.recent.clone() })
    }

    /// Goes on from what was saved.
    pub(super) fn resume(
        &mut self,
        saved: SavedJudge,
        parts: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), String> {
        self.recent = saved.recent;
        for ((evaluation, into), (was, exact, kept, buckets)) in self.named().zip(saved.evaluations)
        {
            if evaluation != was {
                return Err(format!("the evaluation by {was} is not there"));
            }
            let tallies = buckets.into_iter().map(|bucket| {
                let tallies: Vec<Tally> = part(parts, &name(&evaluation, bucket))?;
                Ok((bucket, tallies))
            });
            into.resume(exact, kept, tallies.collect::<Result<_, String>>()?);
        }
        Ok(())
    }
}
