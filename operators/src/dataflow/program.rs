//! A pipeline's features, compiled: what `scatter`, `windows` and `gather` carry out.

use arrow::array::{ArrayRef, RecordBatch};
use tidemill_config::plan::Mode;
use tidemill_types::{DataType, Key, Micros, Schema};

use super::message::{Failed, Round, Rows, Site};
use crate::expression::Scalar;
use crate::window::{Group, Rank};

/// Everything the operators of this folder need to know. Shared by all workers.
pub struct Program {
    /// What cuts an epoch.
    pub mode: Mode,
    /// Microseconds to a round in `final` mode.
    pub round: Micros,
    /// Index of the spine among the sources.
    pub spine: usize,
    /// Declared and computed columns of the spine.
    pub spine_schema: Schema,
    /// Groups of windows: one for each set of sources and key.
    pub groups: Vec<GroupProgram>,
    /// Features in the order of the file.
    pub features: Vec<FeatureProgram>,
    /// Names and types of the features.
    pub feature_schema: Schema,
    /// Labels in the order of the file.
    pub labels: Vec<LabelProgram>,
    /// What travels beside the features of a row, where somebody keeps rows for requests.
    pub kept: Option<Kept>,
    /// Texts, lists and maps of a batch that the operators put together, in bytes: one with more goes on as several.
    pub batch_bytes: u64,
}

/// What is kept of a row beside its features, so that a request can find it and compute features anew
/// with values of its own: the columns of [`Kept::entity`], then those of [`Kept::columns`], then the
/// answers of [`Kept::calls`].
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Columns of the spine that name an entity.
    pub entity: Vec<usize>,
    /// Columns of the spine that some feature reads itself.
    pub columns: Vec<usize>,
    /// Window answers that such features read; none where windows are read anew for each request.
    pub calls: Vec<CallProgram>,
    /// Where windows are read anew: the computed columns that change with the event time, in the order in which
    /// they are computed.
    pub moving: Vec<usize>,
}

/// Rounds are counted from far before 1970, so that no event time has a negative one.
const BIAS: i64 = 1 << 52;

impl Program {
    /// The round of an event time in `final` mode.
    pub fn round_of(&self, time: Micros) -> Round {
        (time.div_euclid(self.round) + BIAS) as Round
    }

    /// The first event time of a round in `final` mode.
    pub fn start_of(&self, round: Round) -> Micros {
        (round as i64 - BIAS).saturating_mul(self.round)
    }
}

/// The windows over one source, or several, by one key.
pub struct GroupProgram {
    /// The windows, in the order of the file.
    pub names: Vec<String>,
    /// The sources, in the order of their ranks.
    pub streams: Vec<StreamProgram>,
    /// The key over the spine's columns.
    pub spine_key: Vec<Scalar>,
    /// The columns that the windows keep, over those that the sources share.
    pub columns: Vec<Scalar>,
    /// The windows and what they answer.
    pub group: Group,
    /// Types of the answers.
    pub outputs: Vec<DataType>,
}

/// A source of a group's rows.
pub struct StreamProgram {
    /// Index of the source.
    pub source: usize,
    /// How its rows order among those of one time: the spine has the last rank.
    pub rank: Rank,
    /// The key over its columns.
    pub key: Vec<Scalar>,
    /// Where those of its columns stand that all sources of the group share; none where it is the only one.
    pub shared: Option<Vec<usize>>,
}

impl StreamProgram {
    /// The keys of rows.
    pub fn keys(&self, batch: &RecordBatch) -> Vec<Option<Key>> {
        keys(&self.key, batch)
    }

    /// The columns of rows that all sources of the group share.
    pub fn shared(&self, batch: &RecordBatch) -> RecordBatch {
        match &self.shared {
            None => batch.clone(),
            Some(places) => batch.project(places).expect("places are among the columns"),
        }
    }
}

impl GroupProgram {
    /// What it takes of a source, if that is one of its own.
    pub fn stream(&self, source: usize) -> Option<&StreamProgram> {
        self.streams.iter().find(|stream| stream.source == source)
    }

    /// The keys that rows of the spine read.
    pub fn spine_keys(&self, batch: &RecordBatch) -> Vec<Option<Key>> {
        keys(&self.spine_key, batch)
    }

    /// The same as the `index`-th group, telling of rows whose key cannot be computed.
    pub(super) fn spine_keys_of(
        &self,
        index: usize,
        rows: &Rows,
        failed: &mut Vec<Failed>,
    ) -> Vec<Option<Key>> {
        let parts = self.spine_key.iter().enumerate().map(|(part, scalar)| {
            column(scalar, &rows.batch, Site::Key(index, part), rows, failed)
        });
        keys_of(parts, &rows.batch)
    }

    /// Whether a row of the spine reads the very key that it is inserted under, so that one request
    /// does for both.
    pub(super) fn takes(&self) -> bool {
        let same = |(a, b): (&Scalar, &Scalar)| a.to_string() == b.to_string();
        let own = self.streams.last().filter(|_| self.group.own_stream);
        own.is_some_and(|own| {
            own.key.len() == self.spine_key.len() && own.key.iter().zip(&self.spine_key).all(same)
        })
    }
}

/// One feature: a scalar expression over the spine's columns followed by window answers.
pub struct FeatureProgram {
    /// The expression.
    pub scalar: Scalar,
    /// The window answers that it reads, in the order of its columns.
    pub calls: Vec<CallProgram>,
}

/// A window answer that a feature reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallProgram {
    /// Index of the group.
    pub group: usize,
    /// Index among the group's outputs.
    pub output: usize,
    /// The answer is the list of so many outputs, from that one on: a series.
    pub steps: Option<usize>,
}

/// One label.
pub struct LabelProgram {
    /// Index of its source.
    pub source: usize,
    /// The expression over that source's columns.
    pub value: Scalar,
}

/// The keys of all rows; one that cannot be computed is NULL.
fn keys(scalars: &[Scalar], batch: &RecordBatch) -> Vec<Option<Key>> {
    keys_of(scalars.iter().map(|scalar| scalar.evaluate_rows(batch).0), batch)
}

fn keys_of(
    components: impl ExactSizeIterator<Item = ArrayRef>,
    batch: &RecordBatch,
) -> Vec<Option<Key>> {
    if components.len() == 0 {
        return vec![Some(Key::GLOBAL); batch.num_rows()];
    }
    crate::column::keys(&components.collect::<Vec<_>>(), batch.num_rows())
}

/// A scalar over a batch, which has the columns of these rows or some of them. Rows on which it fails are NULL,
/// and told of.
pub(super) fn column(
    scalar: &Scalar,
    batch: &RecordBatch,
    site: Site,
    rows: &Rows,
    failed: &mut Vec<Failed>,
) -> ArrayRef {
    let (column, found) = scalar.evaluate_rows(batch);
    failed.extend(Failed::of(site, found, &rows.times, &rows.ids));
    column
}
