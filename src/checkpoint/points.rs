//! Fail points: named moments of the protocol at which the crash kit kills the process.
//!
//! `TIDEMILL_FAIL_AT=line.committed:3` kills the process, as SIGKILL does, when it comes to that point
//! for the third time. `line.windows:1:panic` has the thread that comes there panic, as a defect would, and
//! `line.part:1:wait=50ms` has it wait there each time from the first on, as a slow disk would. Without the variable a point costs
//! one look at a flag.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The environment variable: a point's name, after a colon at which time (1 without), and after another one
/// what then happens (the process is killed without).
pub const VARIABLE: &str = "TIDEMILL_FAIL_AT";

/// Every point, in the order in which a line passes them, with what is true there.
pub const POINTS: &[(&str, &str)] = &[
    ("line.chosen", "a round was chosen, nothing of it is saved"),
    ("line.source", "the positions of a worker's sources are taken"),
    ("line.windows", "a worker's windows are taken"),
    ("line.held", "`at_once`: a worker's rows that the watermark has not passed are taken"),
    ("line.mill", "models, label join and detectors are taken"),
    ("line.sinks", "the sinks' positions are taken"),
    ("line.complete", "every part is there, nothing is written"),
    ("line.part", "a part is written, the manifest is not"),
    ("line.synced", "all parts, files and the journal are durable, the manifest is not"),
    ("line.committed", "the manifest stands, nothing is cleared away"),
    ("line.manifest_gone", "an old manifest is gone, its parts are not"),
    ("line.part_gone", "a part that no manifest names is gone"),
    ("restore.read", "a restart has read a line, nothing has begun"),
    ("restore.sinks", "a restart has placed the sinks"),
    (
        "epoch.durable",
        "`at_once`: what made up an epoch is durable, nothing that follows from it has left",
    ),
    ("kafka.fenced", "a sink has taken over its transactional id, nothing is sent"),
    ("kafka.sent", "rows and progress of a transaction are sent, the commit is not"),
    ("kafka.committed", "a transaction is committed, the run does not know it yet"),
    ("redis.answered", "Redis has answered for a pipeline of rows, the run does not know it yet"),
    ("file.finished", "an output file is whole and has no name yet"),
    ("file.named", "an output file has got its name"),
    ("run.finished", "the run is over, its lines are not cleared away"),
];

struct Armed {
    point: String,
    left: AtomicU64,
    then: Then,
}

/// What happens at a point.
enum Then {
    Kill,
    Panic,
    Wait(Duration),
    /// The variable says something else.
    Unknown(String),
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let read = || {
        let text = std::env::var(VARIABLE).ok()?;
        let mut parts = text.splitn(3, ':');
        let point = parts.next().unwrap_or_default().to_string();
        let left = AtomicU64::new(parts.next().and_then(|n| n.parse().ok()).unwrap_or(1));
        let wait = |text: &str| {
            let ms = text.strip_prefix("wait=")?.strip_suffix("ms")?.parse().ok()?;
            Some(Then::Wait(Duration::from_millis(ms)))
        };
        let then = match parts.next() {
            None | Some("kill") => Then::Kill,
            Some("panic") => Then::Panic,
            Some(text) => wait(text).unwrap_or_else(|| Then::Unknown(text.to_string())),
        };
        Some(Armed { point, left, then })
    };
    ARMED.get_or_init(read).as_ref()
}

thread_local! {
    static HEARS: RefCell<Option<Rc<dyn Fn(&str)>>> = const { RefCell::new(None) };
}

/// Has every point that this thread comes to told to `by`, or to nobody any more.
pub fn tell(by: Option<Rc<dyn Fn(&str)>>) {
    HEARS.with_borrow_mut(|hears| *hears = by);
}

/// Comes to a point.
pub fn pass(point: &str) {
    debug_assert!(POINTS.iter().any(|(name, _)| *name == point), "{point} is not on the list");
    if let Some(hears) = HEARS.with_borrow(Clone::clone) {
        hears(point);
    }
    let Some(armed) = armed().filter(|armed| armed.point == point) else { return };
    let left = |left: u64| Some(left.saturating_sub(1));
    let left = armed.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
    match (&armed.then, left.unwrap_or_else(|left| left)) {
        (Then::Kill, 1) => die(),
        (Then::Panic, 1) => panic!("{VARIABLE} asks for it at {point}"),
        (Then::Wait(long), 0 | 1) => std::thread::sleep(*long),
        _ => {}
    }
}

/// As SIGKILL does: nothing is flushed, nobody is told.
fn die() {
    let id = std::process::id().to_string();
    let _ = std::process::Command::new("kill").args(["-KILL", &id]).status();
    // The signal is on its way; nothing of this thread may go on meanwhile.
    loop {
        std::thread::park();
    }
}

/// Refuses a name that is on no list.
///
/// # Errors
/// The variable names no point.
pub fn check() -> Result<(), tidemill_types::Error> {
    match armed() {
        Some(armed) if !POINTS.iter().any(|(name, _)| *name == armed.point) => {
            let names: Vec<&str> = POINTS.iter().map(|(name, _)| *name).collect();
            Err(tidemill_types::Error::user(format!(
                "{VARIABLE} names no fail point: `{}`",
                armed.point
            ))
            .help(format!("the points are {}", names.join(", "))))
        }
        Some(Armed { then: Then::Unknown(text), .. }) => {
            Err(tidemill_types::Error::user(format!("{VARIABLE} asks for `{text}`"))
                .help("it is kill, panic or, say, wait=50ms"))
        }
        // The sinks' own steps are among them.
        Some(_) => {
            tidemill_connectors::steps::tell(pass);
            Ok(())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = POINTS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), POINTS.len());
    }
}
