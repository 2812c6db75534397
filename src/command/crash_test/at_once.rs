//! What a crash test compares of runs in `at_once`. When events come differs from life to life, so two lives are
//! the same only after all corrections. Within a life it is not so: what was sent before a kill has to be made again
//! byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;
use tidemill_config::plan::{Plan, SinkPlan, Stream};
use tidemill_connectors::sink::Delivery;
use tidemill_types::Error;

use super::{Files, delivery_of, path_of};

/// What the text files of one life have held so far, in whole lines.
#[derive(Default)]
pub(super) struct Sent(Files);

impl Sent {
    /// Looks at the files of a life whose run was killed or came to its end. `aside` are the beginnings of names of
    /// those whose rows have no order.
    ///
    /// # Errors
    /// A file holds something else than it did.
    pub(super) fn look(&mut self, folder: &Path, aside: &[String]) -> Result<(), Error> {
        for entry in fs::read_dir(folder).map_err(Error::from)? {
            let path = entry.map_err(Error::from)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let under_way = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
            let name = under_way.unwrap_or(&name);
            let text = name.ends_with(".jsonl") || name.ends_with(".csv");
            if !text || aside.iter().any(|beginning| name.starts_with(beginning.as_str())) {
                continue;
            }
            let mut bytes = fs::read(&path).map_err(Error::from)?;
            bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
            let before = self.0.entry(name.to_string()).or_default();
            let both = before.len().min(bytes.len());
            if before[..both] != bytes[..both]
                || (under_way.is_none() && bytes.len() < before.len())
            {
                let folder = folder.display();
                return Err(Error::internal(format!(
                    "what {name} held when the run was killed was not made again"
                ))
                .help(format!("look into {folder}; the log of epochs is in `epochs` there")));
            }
            if bytes.len() > before.len() {
                *before = bytes;
            }
        }
        Ok(())
    }

    /// Bytes that were held before some kill or the end.
    pub(super) fn bytes(&self) -> u64 {
        self.0.values().map(|bytes| bytes.len() as u64).sum()
    }
}

/// What two lives must have in common: features after all corrections, which rows were scored, what was refused
/// and what was late.
pub(super) fn in_common(plan: &Plan, found: Files) -> Files {
    let of = |(name, bytes): (String, Vec<u8>)| {
        let sink = plan.sinks.iter().find(|sink| is_of(sink, &name))?;
        let bytes = match sink.stream {
            Stream::Features => net(&bytes)?,
            Stream::Scores => ids(&bytes)?,
            Stream::DeadLetters | Stream::Late => bytes,
            _ => return None,
        };
        Some((name, bytes))
    };
    found.into_iter().filter_map(of).collect()
}

/// Whether something of what a sink wrote is among that: rows of features and scores are told apart where they are JSON
/// lines.
pub(super) fn is_compared(sink: &SinkPlan) -> bool {
    let file = path_of(sink);
    let json = match &sink.format {
        Some(format) => format.value == "json",
        None => file.is_none_or(|path| path.ends_with(".jsonl")),
    };
    match sink.stream {
        Stream::Features | Stream::Scores => {
            json && delivery_of(sink).is_some_and(|delivery| delivery != Delivery::Upserts)
        }
        stream => file.is_some() && matches!(stream, Stream::DeadLetters | Stream::Late),
    }
}

fn is_of(sink: &SinkPlan, name: &str) -> bool {
    let elsewhere = name == super::readers_of(sink);
    elsewhere || path_of(sink).is_some_and(|path| name.starts_with(path))
}

/// Counts of the summary that no arrival changes.
pub(super) fn counts_in_common(told: &Json) -> Json {
    let names = ["events", "scores", "labelled", "timed_out", "late", "dead_letters"];
    names.iter().map(|name| ((*name).to_string(), told[*name].clone())).collect()
}

fn rows(bytes: &[u8]) -> impl Iterator<Item = Option<Json>> + '_ {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    // A message of a topic stands behind its partition and key.
    lines.map(|line| {
        let begin = line.iter().position(|byte| *byte == b'{')?;
        serde_json::from_slice(&line[begin..]).ok()
    })
}

/// The rows that stand when each `diff` is added up; nothing for a file that is no JSON lines.
fn net(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for row in rows(bytes) {
        let mut row = row?;
        let diff = row.as_object_mut()?.remove("diff")?.as_i64()?;
        *counts.entry(row.to_string()).or_default() += diff;
    }
    counts.retain(|_, count| *count != 0);
    Some(counts.iter().map(|(row, count)| format!("{count} {row}\n")).collect::<String>().into())
}

/// The ids of rows, each as often as it is there.
fn ids(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut ids: Vec<String> =
        rows(bytes).map(|row| Some(row?["id"].to_string())).collect::<Option<_>>()?;
    ids.sort_unstable();
    Some(ids.join("\n").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_has_to_be_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("it");
        let mut sent = Sent::default();
        write(".a.jsonl.partial", "1\n2\n3");
        sent.look(folder.path(), &[]).expect("it is new");
        write(".a.jsonl.partial", "1\n");
        sent.look(folder.path(), &[]).expect("it is on its way again");
        write(".a.jsonl.partial", "1\n4\n");
        let error = sent.look(folder.path(), &[]).expect_err("2 was sent");
        assert!(error.to_string().contains("a.jsonl"), "{error}");
        sent.look(folder.path(), &["a".to_string()]).expect("it is set aside");
        fs::remove_file(folder.path().join(".a.jsonl.partial")).expect("removed");
        write("a.jsonl", "1\n");
        sent.look(folder.path(), &[]).expect_err("2 is missing at the end");
        write("a.jsonl", "1\n2\n5\n");
        sent.look(folder.path(), &[]).expect("all of it");
        assert_eq!(sent.bytes(), 6);
    }

    #[test]
    fn corrections_add_up() {
        let text = r#"{"id":1,"n":2,"diff":1}
{"id":2,"n":1,"diff":1}
0 key {"id":1,"n":2,"diff":-1}
{"id":1,"n":3,"diff":1}
"#;
        let net = String::from_utf8(net(text.as_bytes()).expect("JSON lines")).expect("text");
        assert_eq!(net, "1 {\"id\":1,\"n\":3}\n1 {\"id\":2,\"n\":1}\n");
        assert_eq!(super::net(b"PAR1"), None);
        assert_eq!(ids(text.as_bytes()), Some(b"1\n1\n1\n2".to_vec()));
    }
}
