//! Wakes an operator of a worker from another thread: the engine sleeps until somebody rings, and never
//! looks by the clock whether there is something to do.

use std::sync::{Arc, OnceLock};

use timely::scheduling::SyncActivator;

/// A bell at one operator. Clones ring the same one, and each rings once more when it is dropped, so
/// that an operator hears of the end of whoever would have rung.
#[derive(Clone, Default)]
pub struct Bell(Arc<OnceLock<SyncActivator>>);

impl Bell {
    /// Connects it to its operator, which must look by itself once after this.
    pub fn hang(&self, operator: SyncActivator) {
        let _ = self.0.set(operator);
    }

    /// Schedules the operator and wakes its worker. Costs a wake-up of a thread if it sleeps. Before the
    /// bell is hung and after the worker has ended nobody hears it.
    pub fn ring(&self) {
        if let Some(operator) = self.0.get() {
            let _ = operator.activate();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ring();
    }
}
