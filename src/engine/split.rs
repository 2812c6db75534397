//! What of its sources a part of a backfill reads: history is split by a key that all windows of the pipeline know.
//!
//! A row of the spine belongs to the part of its key, by the key groups that divide state among workers. A row of
//! another source belongs to every part that may read it, so that a part has all that its rows' windows hold. What is
//! late is decided before, over all rows of a partition, so that each part decides alike.

use std::collections::BTreeMap;

use arrow::array::ArrayRef;
use tidemill_connectors::source::Chunk;
use tidemill_operators::column;
use tidemill_operators::expression::Scalar;
use tidemill_types::key::KEY_GROUPS;
use tidemill_types::{Id, Key, Schema};

use super::check::Compiled;
use super::rows::OrderedRows;

/// A way in which rows of a source have the key: its components, in one order for all.
type Way = Vec<Scalar>;

/// By what a pipeline's history can be split.
#[derive(Clone, Debug)]
pub struct Split {
    /// By source, the ways in which its rows have the key; none where no window reads it.
    ways: Vec<Vec<Way>>,
    spine: usize,
    /// What the key is, for people.
    pub by: String,
}

impl Split {
    /// The key that all windows share which some feature reads.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn of(compiled: &Compiled) -> Result<Split, String> {
        let program = &compiled.program;
        let spine = program.spine;
        let groups: Vec<_> = program.groups.iter().filter(|g| !g.outputs.is_empty()).collect();
        let mut ways: Vec<Vec<Way>> = vec![Vec::new(); compiled.plan.sources.len()];
        let Some(first) = groups.first() else {
            return Ok(Split { ways, spine, by: "id".to_string() });
        };
        let words = |key: &[Scalar]| words(key, &program.spine_schema);
        let common: Vec<String> = words(&first.spine_key)
            .into_iter()
            .filter(|word| groups.iter().all(|g| words(&g.spine_key).contains(word)))
            .collect();
        if common.is_empty() {
            let mut keys: Vec<String> = Vec::new();
            for group in &groups {
                let key = match words(&group.spine_key).join(", ") {
                    none if none.is_empty() => "no key at all".to_string(),
                    key => format!("({key})"),
                };
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            return Err(format!(
                "the features of one row are of windows by {}",
                keys.join(" and by ")
            ));
        }
        // A source's key has the components of the spine's, one by one.
        let part_of = |key: &[Scalar], spine_key: &[Scalar]| -> Way {
            let place = |word: &String| words(spine_key).iter().position(|known| known == word);
            common.iter().filter_map(place).filter_map(|place| key.get(place).cloned()).collect()
        };
        ways[spine].push(part_of(&first.spine_key, &first.spine_key));
        let streams = groups.iter().flat_map(|group| group.streams.iter().map(move |s| (group, s)));
        for (group, stream) in streams {
            let way = part_of(&stream.key, &group.spine_key);
            let schema = &compiled.sources[stream.source].schema;
            let same = |known: &Way| self::words(known, schema) == self::words(&way, schema);
            if ways[stream.source].iter().any(same) {
                continue;
            }
            if stream.source == spine {
                return Err(format!(
                    "windows over the spine by ({}) are read by ({}), so that a row is of two parts",
                    words(&way).join(", "),
                    common.join(", ")
                ));
            }
            ways[stream.source].push(way);
        }
        Ok(Split { ways, spine, by: common.join(", ") })
    }
}

/// The components of a key; a column is its name, quoted in the file or not.
fn words(key: &[Scalar], schema: &Schema) -> Vec<String> {
    let word = |scalar: &Scalar| {
        let text = scalar.to_string();
        let name = match scalar.columns() {
            [column] => schema.fields.get(*column).map(|field| &field.name),
            _ => None,
        };
        match name {
            Some(name) if text == format!("\"{name}\"") => name.clone(),
            _ => text,
        }
    };
    key.iter().map(word).collect()
}

/// What of its sources a part reads.
pub struct Portion {
    /// By what it is split, which part this is, from 0, and of how many; none for all of it.
    pub share: Option<(Split, u32, u32)>,
    /// By source and partition, the first offset that is not read any more.
    pub ends: BTreeMap<(String, u32), u64>,
}

impl Portion {
    /// What of a chunk stands before the end.
    pub fn within(&self, source: &str, mut chunk: Chunk) -> Chunk {
        let Some(end) = self.ends.get(&(source.to_string(), chunk.partition)) else { return chunk };
        let n = chunk.offsets.partition_point(|offset| offset < end);
        chunk.offsets.truncate(n);
        chunk.rows = chunk.rows.slice(0, n);
        let rejected = chunk.rejected.partition_point(|offset| offset < end);
        chunk.rejected.truncate(rejected);
        chunk.rejects.truncate(rejected);
        chunk
    }

    /// Those of a source's rows that the part needs.
    pub fn own(&self, source: usize, rows: OrderedRows) -> OrderedRows {
        let Some((split, part, parts)) = &self.share else { return rows };
        let n = rows.times.len();
        // A row without a key is one all the same.
        let of = |key: Option<Key>| {
            key.map_or(0, |key| key.group() * u64::from(*parts) / KEY_GROUPS) == u64::from(*part)
        };
        let mut keep = vec![false; n];
        let ways = &split.ways[source];
        for way in ways {
            let columns: Vec<ArrayRef> =
                way.iter().map(|scalar| scalar.evaluate_rows(&rows.batch).0).collect();
            let keys = column::keys(&columns, n);
            keep.iter_mut().zip(keys).for_each(|(keep, key)| *keep |= of(key));
        }
        if ways.is_empty() && source == split.spine {
            let key = |id: &Id| Some(Key::of_bytes(id.to_string().as_bytes()));
            keep.iter_mut().zip(&rows.ids).for_each(|(keep, id)| *keep = of(key(id)));
        }
        if keep.iter().all(|keep| *keep) {
            return rows;
        }
        let picks: Vec<u32> = (0..n as u32).filter(|row| keep[*row as usize]).collect();
        rows.take(&picks)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use tidemill_config::document::parse;
    use tidemill_types::{DeadLetter, Provenance};

    use super::*;
    use crate::engine::check::compile;

    /// What it is split by, where windows are these.
    fn split(windows: &str, features: &str) -> Result<String, String> {
        let text = format!(
            r#"
[pipeline]
name = "split"
spine = "sent"
[source.sent]
type = "file"
path = "sent.csv"
schema = {{ id = "int64", at = "timestamp", card = "int64", other = "int64", shop = "int64" }}
event_time = "at"
id = "id"
[source.back]
type = "file"
path = "back.csv"
schema = {{ at = "timestamp", owner = "int64", place = "int64" }}
event_time = "at"
[windows]
{windows}
[features]
card = "card"
{features}
[sink.features]
type = "blackhole"
"#
        );
        let loaded = parse("split.toml", &text, Path::new(""), &[], &|_| None).expect("sound");
        Split::of(&compile(loaded).unwrap_or_else(|e| panic!("{e}"))).map(|split| split.by)
    }

    #[test]
    fn what_a_topic_got_since_is_not_read() {
        let ends = BTreeMap::from([(("orders".to_string(), 1), 12)]);
        let portion = Portion { share: None, ends };
        let of = |source: &str, partition: u32| {
            let letter = |offset: u64| DeadLetter {
                source: source.to_string(),
                provenance: Provenance { origin: String::new(), partition, offset },
                reason: String::new(),
                detail: String::new(),
                raw: Vec::new(),
            };
            let ids = Int64Array::from(vec![9, 10, 13]);
            let rows = RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).expect("rows");
            let (offsets, rejected) = (vec![9, 10, 13], vec![11, 12]);
            let rejects = rejected.iter().map(|offset| letter(*offset)).collect();
            let chunk = Chunk { partition, rows, offsets, rejects, rejected, contexts: Vec::new() };
            let chunk = portion.within(source, chunk);
            (chunk.rows.num_rows(), chunk.offsets, chunk.rejects.len(), chunk.rejected)
        };
        assert_eq!(of("orders", 1), (2, vec![9, 10], 1, vec![11]));
        assert_eq!(of("orders", 0), (3, vec![9, 10, 13], 2, vec![11, 12]));
        assert_eq!(of("others", 1).0, 3);
    }

    #[test]
    fn history_is_split_by_what_all_windows_share() {
        let two = "a = \"count(*) over one\"\nb = \"count(*) over two\"";
        let of = |windows: &str| split(windows, two);
        let by_card = "one = { by = \"card\", last = \"1h\" }\n";
        assert_eq!(
            of(&format!("{by_card}two = {{ by = \"card\", last = \"1d\" }}")).unwrap(),
            "card"
        );
        let both = "two = { by = [\"shop\", \"card\"], last = \"1d\" }";
        assert_eq!(of(&format!("{by_card}{both}")).unwrap(), "card");
        // Another source's column, by an expression that means the same.
        let back = "two = { over = \"back\", by = { owner = \"card\" }, last = \"1d\" }";
        assert_eq!(of(&format!("{by_card}{back}")).unwrap(), "card");
        let back =
            "two = { over = \"back\", by = { place = \"shop\", owner = \"card\" }, last = \"1d\" }";
        assert_eq!(of(&format!("{by_card}{back}")).unwrap(), "card");
        // No window, or none that is read.
        assert_eq!(split("", "").unwrap(), "id");
        assert_eq!(split("one = { by = [], last = \"1h\" }", "").unwrap(), "id");

        let none = of(&format!("{by_card}two = {{ by = \"shop\", last = \"1h\" }}")).unwrap_err();
        assert!(none.contains("(card) and by (shop)"), "{none}");
        let none = of(&format!("{by_card}two = {{ by = [], last = \"1h\" }}")).unwrap_err();
        assert!(none.contains("no key at all"), "{none}");
        // A payment is put in under one card and is a row of another.
        let turned = "one = { by = { other = \"card\" }, last = \"1h\" }\n";
        let none = of(&format!("{turned}two = {{ by = \"card\", last = \"1h\" }}")).unwrap_err();
        assert!(none.contains("of two parts"), "{none}");
    }
}
