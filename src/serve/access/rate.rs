//! So many requests a second to a tenant, by the generic cell rate algorithm (ITU-T I.371): of each
//! tenant one time is kept, the one at which its next request would be due.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tenants come from the tokens file, and there is one for whoever has no token; beyond this many,
/// those that have not called of late are forgotten.
const TENANTS: usize = 10_000;

/// Rates of all tenants.
#[derive(Debug)]
pub struct Rates {
    /// What one request takes of a second.
    step: Duration,
    /// How far ahead a tenant may be.
    burst: Duration,
    due: Mutex<HashMap<Arc<str>, Instant>>,
}

impl Rates {
    /// So many requests a second, and at most one second's worth at once.
    pub fn new(per_second: u32) -> Rates {
        let step = Duration::from_secs(1) / per_second.max(1);
        Rates { step, burst: Duration::from_secs(1), due: Mutex::default() }
    }

    /// Lets a request pass, or says after which time one would.
    pub fn pass(&self, tenant: &Arc<str>, now: Instant) -> Result<(), Duration> {
        // Times that are right even if someone panicked while holding them.
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= TENANTS {
            due.retain(|_, due| *due > now);
        }
        let at = due.get(tenant).copied().unwrap_or(now).max(now);
        let ahead = (at + self.step).saturating_duration_since(now);
        if ahead > self.burst {
            return Err(ahead - self.burst);
        }
        due.insert(Arc::clone(tenant), at + self.step);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_does_not_take_the_others_share() {
        let rates = Rates::new(10);
        let (flood, quiet): (Arc<str>, Arc<str>) = (Arc::from("flood"), Arc::from("quiet"));
        let start = Instant::now();
        let passed = (0..100).filter(|_| rates.pass(&flood, start).is_ok()).count();
        assert_eq!(passed, 10);
        assert!(rates.pass(&quiet, start).is_ok());
        let wait = rates.pass(&flood, start).expect_err("too many");
        assert!(rates.pass(&flood, start + wait).is_ok());
        let later = start + Duration::from_secs(5);
        let passed = (0..100).filter(|_| rates.pass(&flood, later).is_ok()).count();
        assert_eq!(passed, 10, "what was not used is not saved up");
    }
}
