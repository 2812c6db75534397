//! Orders from people at the dashboard: they go the way of `tidemill models`, by a letter in the run's folder.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemill_types::Error;

use super::Board;
use crate::models::orders::{Control, Letter, Order};
use crate::models::people::{People, prove};
use crate::serve::orders::{What, Wish};

/// How long whoever asks waits to hear what came of it.
const PATIENCE: Duration = Duration::from_secs(3);

impl Board {
    /// Lays an order down and waits a while for what comes of it.
    ///
    /// # Errors
    /// What the run refuses, with the reason; a folder that cannot be written.
    pub(super) fn obey(&self, wish: &Wish) -> Result<Json, Error> {
        let known =
            |name: &str| self.setup.compiled.plan.models.iter().any(|m| m.name.value == name);
        let model = wish.model.clone();
        if !known(&model) {
            return Err(Error::user(format!("there is no model `{model}`")));
        }
        let order = match wish.what {
            What::Promote(version) => Order::Promote(model, version),
            What::RollBack(version) => Order::RollBack(model, version),
            What::Approve(version) => Order::Approve(model, version),
            What::Retrain => Order::Retrain(model),
        };
        let run = &self.setup.folder;
        let mut letter = Letter::new(&wish.who, &order, &wish.why);
        if let Some(token) = &wish.token {
            letter.proof = prove(&letter, token);
        }
        // What the run would refuse is refused here at once, and never laid down.
        People::of_run(run)?.judge(&letter, &order).map_err(Error::user)?;
        let control = Control::of_run(run);
        control.lay_down(&letter)?;
        let patience = if self.has_ended() { Duration::ZERO } else { PATIENCE };
        match control.wait(&letter.id, patience) {
            None => Ok(json!({"order": letter.what, "id": letter.id, "state": "waiting"})),
            Some(answer) => match answer.refused {
                Some(why) => Err(Error::user(why)),
                None => Ok(json!({
                    "order": letter.what,
                    "id": letter.id,
                    "state": "done",
                    "epoch": answer.epoch,
                })),
            },
        }
    }
}
