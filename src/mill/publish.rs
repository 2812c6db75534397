//! What the models that learn from every label have learnt becomes a version, now and then.

use tidemill_types::model::{Lineage, ModelVersion};
use tidemill_types::{Error, Micros};

use super::Mill;
use super::models::State;
use crate::report::Step;

impl Mill {
    /// Makes versions of what the online models have learnt; none where that is nothing since the last.
    pub(super) fn publish(&mut self, epoch: u64, before: Micros, now: Micros) -> Result<(), Error> {
        for m in 0..self.models.len() {
            let period = self.models[m].plan.publish;
            let due = period.is_some_and(|period| self.comes(period, before, now));
            let State::Online(online) = &mut self.models[m].state else { continue };
            let rows = online.learner.learnt();
            if !due || rows == online.published {
                continue;
            }
            online.versions += 1;
            online.published = rows;
            let (number, bytes) = (online.versions, online.learner.save());
            let model = self.models[m].name.to_string();
            let manifest = ModelVersion {
                version: number,
                kind: self.models[m].plan.section.kind.value.clone(),
                artifact: self.ledger.store(&model, bytes)?,
                since: now,
                lineage: Lineage {
                    tidemill: env!("CARGO_PKG_VERSION").to_string(),
                    schema: self.compiled.program.feature_schema.fingerprint(),
                    trigger: "publish".to_string(),
                    rows,
                    labels: (Micros::MIN, now),
                    seed: self.compiled.plan.pipeline.seed,
                    offsets: self.offsets.through(now.saturating_sub(1)),
                    ..Lineage::default()
                },
                metrics: Vec::new(),
                model,
            };
            self.ledger.register(&manifest)?;
            if number == 1 {
                self.moment(now, m, Some(number), Step::Promoted, "first published state");
            }
            self.emit.model(&manifest, now)?;
            tracing::debug!(model = manifest.model, version = number, epoch, "published");
        }
        Ok(())
    }
}
