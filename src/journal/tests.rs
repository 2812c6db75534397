use proptest::prelude::*;
use tempfile::TempDir;
use tidemill_types::task::TrainingTask;

use super::record::{Command, Decision, Gate, Header, Outcome, Passed, Position, Switch};
use super::*;

fn header() -> Record {
    Record::Header(Header::new("flights", "ab".repeat(32)))
}

fn sample() -> Vec<Record> {
    let offsets = vec![Position { source: "departures".into(), partition: 3, offset: 17 }];
    let task = TrainingTask {
        id: "t1".into(),
        model: "trees".into(),
        trainer: "gradient_boosting".into(),
        parameters: serde_json::json!({"z": 1, "a": [0.1, null]}),
        data: vec!["rows.parquet".into()],
        labels: (0, 10),
        max_rows: 5,
        features: vec!["f\u{fc}nf\n".into()],
        categories: 0,
        schema: "s".into(),
        seed: 7,
        triggered: (9, "drift.features".into()),
    };
    vec![
        header(),
        Record::Idle(Passed {
            epoch: 2,
            source: "weather".into(),
            partition: 0,
            offsets,
            watermark: None,
        }),
        Record::Task { task, evidence: vec![("psi".into(), 0.1 + 0.2)] },
        Record::Outcome {
            setbacks: Vec::new(),
            task: "t1".into(),
            epoch: 7,
            outcome: Outcome::Failed { error: "no rows".into(), code: "NO_ROWS".into() },
        },
        Record::Gate(Gate {
            model: "trees".into(),
            challenger: 2,
            champion: 1,
            mean: -1.0e-17,
            standard_error: 5e-324,
            rows: u64::MAX,
            decision: Decision::Promote,
        }),
        Record::Promoted(Switch {
            model: "trees".into(),
            from: 1,
            to: 2,
            epoch: 3,
            event_time: 4,
            why: "not worse".into(),
        }),
        Record::Finished { counts: vec![("rows".into(), 3)] },
    ]
}

fn write(folder: &Path, records: &[Record], roll_bytes: u64) -> (u64, String) {
    let (mut journal, _) = Journal::open_rolling_at(folder, roll_bytes).expect("opens");
    for record in records {
        journal.append(record).expect("appends");
    }
    journal.sync().expect("syncs");
    let (n, hash) = journal.head();
    (n, hash.to_owned())
}

fn only_file(folder: &Path) -> PathBuf {
    folder.join(read::file_name(0))
}

#[test]
fn what_was_written_is_read() {
    let folder = TempDir::new().expect("folder");
    let (n, hash) = write(folder.path(), &sample(), ROLL_BYTES);
    let (journal, history) = Journal::open(folder.path()).expect("opens again");
    assert_eq!(history, sample());
    assert_eq!(journal.head(), (n, hash.as_str()));
    drop(journal);
    let verified = verify(folder.path()).expect("whole");
    assert_eq!((verified.records, verified.head, verified.torn_bytes), (n, hash, 0));
    assert_eq!(verified.header.map(Record::Header), Some(header()));
}

#[test]
fn it_goes_on_across_files_and_restarts() {
    let (rolled, single) = (TempDir::new().expect("folder"), TempDir::new().expect("folder"));
    let whole = write(single.path(), &sample(), ROLL_BYTES);
    for record in sample() {
        write(rolled.path(), &[record], 600);
    }
    let verified = verify(rolled.path()).expect("whole");
    assert!(verified.files > 2, "{verified:?}");
    assert_eq!((verified.records, verified.head), whole, "where files end changes no hash");
}

#[test]
fn a_flip_of_any_bit_of_any_byte_is_found() {
    let folder = TempDir::new().expect("folder");
    write(folder.path(), &sample(), ROLL_BYTES);
    let path = only_file(folder.path());
    let bytes = std::fs::read(&path).expect("bytes");
    let last_line_feed = bytes.len() - 1;
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 1 << (at % 8);
        std::fs::write(&path, &broken).expect("writes");
        match verify(folder.path()) {
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("line") && text.contains("truncate"), "byte {at}: {text}");
            }
            Ok(verified) => {
                assert_eq!(at, last_line_feed, "a flip of byte {at} was not seen");
                assert!(verified.torn_bytes > 0);
            }
        }
    }
}

#[test]
fn every_cut_is_a_torn_tail_or_a_shorter_chain() {
    let folder = TempDir::new().expect("folder");
    write(folder.path(), &sample(), ROLL_BYTES);
    let path = only_file(folder.path());
    let bytes = std::fs::read(&path).expect("bytes");
    for length in (0..bytes.len()).step_by(7) {
        std::fs::write(&path, &bytes[..length]).expect("writes");
        let lines = bytes[..length].iter().filter(|&&b| b == b'\n').count();
        let (mut journal, history) = Journal::open(folder.path()).expect("a torn tail is cut off");
        assert_eq!(history, sample()[..lines]);
        journal.append(&header()).expect("goes on");
        drop(journal);
        assert_eq!(verify(folder.path()).expect("whole again").records, lines as u64 + 1);
    }
}

#[test]
fn pages_of_zeros_after_a_crash_are_a_torn_tail() {
    let folder = TempDir::new().expect("folder");
    write(folder.path(), &sample(), ROLL_BYTES);
    let path = only_file(folder.path());
    let mut bytes = std::fs::read(&path).expect("bytes");
    bytes.extend([0; 4096]);
    std::fs::write(&path, &bytes).expect("writes");
    let (_, history) = Journal::open(folder.path()).expect("opens");
    assert_eq!(history, sample());
}

#[test]
fn a_missing_file_and_an_unfinished_middle_are_errors() {
    for cut in [false, true] {
        let folder = TempDir::new().expect("folder");
        write(folder.path(), &sample(), 600);
        let files = records(folder.path()).expect("lists").files;
        if cut {
            let bytes = std::fs::read(&files[1]).expect("bytes");
            std::fs::write(&files[1], &bytes[..bytes.len() - 9]).expect("writes");
        } else {
            std::fs::remove_file(&files[1]).expect("removes");
        }
        let error = Journal::open(folder.path()).expect_err("broken").to_string();
        let wanted = if cut { "ends within it" } else { "which is not there" };
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn lines_swapped_or_forged_are_told() {
    let folder = TempDir::new().expect("folder");
    write(folder.path(), &sample(), ROLL_BYTES);
    let path = only_file(folder.path());
    let text = std::fs::read_to_string(&path).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let swapped = [&[lines[0], lines[2], lines[1]], &lines[3..]].concat().join("\n") + "\n";
    std::fs::write(&path, swapped).expect("writes");
    assert!(verify(folder.path()).expect_err("swapped").message.contains("out of place"));

    // A forger who recomputes hash and CRC of one line still breaks the next.
    let (_, first) = line::build(0, line::GENESIS, b"");
    let (forged, _) = line::build(1, &first, br#"{"kind":"finished","counts":[]}"#);
    let forged = String::from_utf8(forged).expect("ASCII");
    let text = [&[lines[0], &forged], &lines[2..]].concat().join("\n") + "\n";
    std::fs::write(&path, text).expect("writes");
    assert!(verify(folder.path()).expect_err("forged").message.contains("line 2"));
}

#[test]
fn what_would_not_read_back_is_refused_and_changes_nothing() {
    let folder = TempDir::new().expect("folder");
    let (mut journal, _) = Journal::open(folder.path()).expect("opens");
    let nan = Record::Task {
        task: match &sample()[2] {
            Record::Task { task, .. } => task.clone(),
            other => panic!("{other:?}"),
        },
        evidence: vec![("psi".into(), f64::NAN)],
    };
    assert!(journal.append(&nan).expect_err("no header yet").message.contains("header"));
    journal.append(&header()).expect("appends");
    assert!(journal.append(&nan).expect_err("NaN").message.contains("read back"));
    journal.append(&sample()[1]).expect("goes on");
    drop(journal);
    assert_eq!(verify(folder.path()).expect("whole").records, 2);
}

/// Whoever is killed lets go of the lock only when the system has cleared it away.
#[test]
fn a_lock_that_is_let_go_soon_is_waited_for() {
    let folder = TempDir::new().expect("folder");
    let (journal, _) = Journal::open(folder.path()).expect("opens");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            drop(journal);
        });
        Journal::open(folder.path()).expect("opens when the other one is gone");
    });
}

#[test]
fn one_writer_and_known_formats_only() {
    let folder = TempDir::new().expect("folder");
    let (mut journal, _) = Journal::open(folder.path()).expect("opens");
    assert!(Journal::open(folder.path()).expect_err("locked").message.contains("another process"));
    let mut future = Header::new("p", "x");
    future.format += 1;
    journal.append(&Record::Header(future)).expect("appends");
    drop(journal);
    assert!(Journal::open(folder.path()).expect_err("newer").message.contains("format 2"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_and_number_survives(who in ".*", what in ".*", values in prop::collection::vec(prop::num::f64::NORMAL, 0..5)) {
        let command = Record::Command(Command {
            id: String::new(),
            who,
            proven: true,
            what: what.clone(),
            why: String::new(),
            epoch: 1,
            event_time: 2,
            refused: None,
        });
        let outcome = Record::Outcome {
            setbacks: Vec::new(),
            task: what,
            epoch: 7,
            outcome: Outcome::Trained {
                artifact: String::new(),
                kind: String::new(),
                rows: 1,
                metrics: values.into_iter().map(|v| ("m".to_owned(), v)).collect(),
            },
        };
        for record in [command, outcome] {
            prop_assert!(encode(&record).is_ok());
        }
    }
}
