//! `[online]`: its columns are those of the spine, and what is kept of a row for requests.

use tidemill_config::cure;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{LeadingEdge, OnlinePlan};
use tidemill_operators::dataflow::{CallProgram, FeatureProgram, GroupProgram, Kept};
use tidemill_types::{DataType, Field, Schema};

use super::{Compiled, Derive};

/// What is kept of each row of the spine, beside its features.
pub(super) fn compile(
    plan: &OnlinePlan,
    source: &Derive,
    (features, names): (&[FeatureProgram], &Schema),
    groups: &[GroupProgram],
    errors: &mut Vec<Diagnostic>,
) -> Kept {
    let spine = &source.schema;
    let mut kept = Kept::default();
    for column in &plan.entity {
        let columns: Vec<&str> = spine.names().collect();
        let Some(index) = spine.index_of(&column.value) else {
            errors.push(Diagnostic::new(
                &column.span,
                format!("`entity` of [online] names no column of the spine: `{}`", column.value),
                format!("the columns are {}", columns.join(", ")),
                cure(&column.value, columns.iter().copied()),
            ));
            continue;
        };
        let data_type = spine.fields[index].data_type;
        if data_type.is_nested() || matches!(data_type, DataType::Float64 | DataType::Timestamp) {
            errors.push(Diagnostic::new(
                &column.span,
                format!("`{}` cannot name an entity", column.value),
                format!("its type is {data_type}, of which hardly two values are equal"),
                "name a column of type string, int64 or bool",
            ));
        }
        let same = features.iter().zip(&names.fields).find(|(_, f)| f.name == column.value);
        if same.is_some_and(|(feature, _)| feature.scalar.columns() != [index]) {
            errors.push(Diagnostic::new(
                &column.span,
                format!("`{}` is an entity's column and a feature too", column.value),
                "a request could not say which of the two it gives",
                "give the feature another name",
            ));
        }
        kept.entity.push(index);
    }
    for feature in features {
        let reads = |c: &&usize| **c < spine.fields.len();
        let (own, calls): (Vec<usize>, Vec<usize>) =
            feature.scalar.columns().iter().partition(|c| reads(c));
        if own.is_empty() {
            continue;
        }
        let calls = calls.iter().filter_map(|c| feature.calls.get(c - spine.fields.len()));
        kept.columns.extend(own.iter().filter(|c| !kept.columns.contains(c)).collect::<Vec<_>>());
        let known = |kept: &[CallProgram], call: &CallProgram| kept.contains(call);
        let new: Vec<CallProgram> = calls.filter(|c| !known(&kept.calls, c)).copied().collect();
        kept.calls.extend(new);
    }
    if plan.edge == LeadingEdge::WallClock {
        read_anew(&mut kept, source, groups);
    }
    kept
}

/// Where windows are read as of a request, the columns are kept that name their keys, and in place of each
/// computed one that changes with the event time those that it is computed of.
fn read_anew(kept: &mut Kept, source: &Derive, groups: &[GroupProgram]) {
    kept.calls.clear();
    for (n, scalar) in source.computed.iter().enumerate() {
        let column = source.declared + n;
        let moves = |read: &usize| *read == source.time || kept.moving.contains(read);
        if column != source.time && scalar.columns().iter().any(moves) {
            kept.moving.push(column);
        }
    }
    let keys = groups.iter().flat_map(|group| &group.spine_key);
    let mut wanted = std::mem::take(&mut kept.columns);
    wanted.extend(keys.flat_map(|key| key.columns()));
    let mut next = 0;
    while next < wanted.len() {
        let column = wanted[next];
        next += 1;
        if let Some(n) =
            column.checked_sub(source.declared).filter(|_| kept.moving.contains(&column))
        {
            wanted.extend(source.computed[n].columns());
        }
        // Every column is computed of those before it, so that this comes to an end.
    }
    kept.moving.retain(|column| wanted.contains(column));
    for column in wanted {
        let known = column == source.time || kept.moving.contains(&column);
        if !known && !kept.columns.contains(&column) && !kept.entity.contains(&column) {
            kept.columns.push(column);
        }
    }
}

impl Compiled {
    /// The columns of the entity that stand before the features in what is sent: their places among the
    /// columns that are kept. One that is a feature as well, or the id, is not sent twice.
    pub fn sent_entity(&self) -> Vec<(usize, Field)> {
        let fields = self.entity().into_iter().enumerate();
        let features = &self.program.feature_schema;
        let sent = |name: &str| features.index_of(name).is_some() || self.is_own_id(name);
        fields.filter(|(_, field)| !sent(&field.name)).collect()
    }

    /// Whether this column of the spine is the `id` that stands first in each row that is sent.
    pub(super) fn is_own_id(&self, name: &str) -> bool {
        let spine = &self.plan.sources[self.plan.pipeline.spine.value];
        name == "id" && spine.id.as_ref().is_some_and(|id| id.value == name)
    }

    /// The columns of the features stream between the event time and the diff.
    pub fn sent_features(&self) -> Schema {
        let entity = self.sent_entity().into_iter().map(|(_, field)| field);
        Schema {
            fields: entity.chain(self.program.feature_schema.fields.iter().cloned()).collect(),
        }
    }

    /// The columns of the spine that name an entity.
    pub fn entity(&self) -> Vec<Field> {
        let kept = self.program.kept.as_ref();
        let columns = kept.map(|kept| kept.entity.as_slice()).unwrap_or_default();
        columns.iter().map(|c| self.program.spine_schema.fields[*c].clone()).collect()
    }
}
