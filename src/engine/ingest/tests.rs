//! An ingest by itself: what it lets go of when its run ends before its input.

use std::path::Path;

use crossbeam_channel::{Sender, bounded};
use tidemill_config::document::parse;

use super::*;
use crate::engine::check::{Compiled, compile};
use crate::host::Host;

const PIPELINE: &str = r#"
[pipeline]
name = "shop"
spine = "payments"
[source.payments]
type = "file"
path = "payments.jsonl"
schema = { id = "int64", amount = "float64", at = "timestamp" }
event_time = "at"
id = "id"
[features]
double = "amount * 2"
"#;

/// What comes of a reader.
type Way = Sender<Result<Piece, Error>>;

/// The ingests of two workers of a process, what these share, and the ways of their readers.
fn two() -> (Vec<Ingest>, Arc<Shared>, Vec<Way>) {
    let loaded = parse("shop.toml", PIPELINE, Path::new(""), &[], &|_| None).expect("a pipeline");
    let compiled: Compiled = compile(loaded).unwrap_or_else(|e| panic!("{e}"));
    let stop = Arc::new(AtomicBool::new(false));
    let outputs = Outputs::elsewhere(&compiled, &stop, Arc::new(|_| {}));
    let shared = Arc::new(Shared {
        epoch: AtomicU64::new(0),
        stop,
        failed: Mutex::new(None),
        pace: None,
        offsets: Arc::new(Offsets::new(compiled.plan.pipeline.tick, false)),
        bells: vec![Bell::default(); 2],
        ahead: 1_000,
        watermarks: Arc::new(Watermarks::new(2, 1)),
    });
    let (mut ingests, mut ways) = (Vec::new(), Vec::new());
    for worker in 0..2 {
        let (to, from) = bounded(1);
        let feed = Feed {
            source: 0,
            name: "payments".to_string(),
            from,
            partitions: vec![worker],
            idle_after: Duration::from_secs(60),
            hold: None,
            host: Host::default(),
        };
        let place =
            Place { worker: worker as usize, gathers: false, line: None, epochs: None, far: None };
        let (program, shared) = (Arc::clone(&compiled.program), Arc::clone(&shared));
        ingests.push(Ingest::new(program, shared, outputs.clone(), vec![feed], place));
        ways.push(to);
    }
    (ingests, shared, ways)
}

/// Whether an ingest says that everything is read, and whether it holds on to its round.
fn step(ingest: &mut Ingest) -> (bool, bool) {
    let mut ended = false;
    ingest.step(Some(0), &mut |step| ended |= matches!(step, Step::End(..)));
    (ended, ingest.round().is_some())
}

#[test]
fn a_stop_lets_go_of_the_rounds_under_way() {
    let (mut ingests, shared, _ways) = two();
    assert_eq!(step(&mut ingests[0]), (false, true));
    shared.stop.store(true, Ordering::SeqCst);
    assert_eq!(step(&mut ingests[0]), (true, false));
}

/// The head of several processes would take what the workers had read for all of it.
#[test]
fn a_failure_does_not() {
    let (mut ingests, shared, ways) = two();
    ways[0].send(Err(Error::external("a disk that is gone"))).expect("there is room");
    assert_eq!(step(&mut ingests[0]), (false, true));
    assert!(shared.has_failed() && shared.stop.load(Ordering::SeqCst));
    for ingest in &mut ingests {
        assert_eq!(step(ingest), (false, true), "it lets go");
    }
}
