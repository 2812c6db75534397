//! The features of entities as of a moment, the wall clock's or one that is asked about: what a row that
//! came then would get, the row itself being in no window.
//!
//! Columns of such a row are those that the request gives, else those of the entity's newest row; its event time is
//! the moment. The windows are read where the workers keep them: a request waits for a round that is
//! being taken in, and a worker for requests that look.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use tidemill_operators::column::{Builder, values};
use tidemill_operators::dataflow::{Kept, Shelf, Unseen, answer};
use tidemill_types::time::to_rfc3339;
use tidemill_types::{DataType, Micros, Value};

use super::question::{Asked, Held, given_column, kept_column};
use crate::engine::check::Compiled;
use crate::serve::scorer::Refusal;

/// How often a moment is tried again, where the clock is behind the watermark.
const TRIES: usize = 4;

/// Reads windows as of moments.
pub(super) struct Clock {
    shelf: Arc<Shelf>,
    now: fn() -> Micros,
}

/// Features by their place, each with its values.
type Computed = Vec<(usize, Vec<Value>)>;

impl Clock {
    pub(super) fn new(shelf: Arc<Shelf>, now: fn() -> Micros) -> Clock {
        Clock { shelf, now }
    }

    /// The wanted features that depend on the moment or on what is given, and the moment: `as_of`, else that of the
    /// clock, or of the newest event where that is later. Cost: a lock and a look into each group of windows that
    /// they read, for each row.
    ///
    /// # Errors
    /// A moment before an entity's newest row, or before the watermark; a pipeline that has not begun.
    pub(super) fn features(
        &self,
        compiled: &Compiled,
        asked: &Asked<'_>,
        as_of: Option<Micros>,
    ) -> Result<(Micros, Computed), Refusal> {
        let newest = asked.held.iter().filter_map(Held::time).max();
        let early = |than: Micros| {
            let than = to_rfc3339(than);
            Refusal::Invalid(format!("`as_of` is too early: rows up to {than} have been taken in"))
        };
        let mut at = match (as_of, newest) {
            (Some(at), Some(newest)) if at < newest => return Err(early(newest)),
            (Some(at), _) => at,
            (None, newest) => newest.map_or_else(self.now, |newest| newest.max((self.now)())),
        };
        for _ in 0..TRIES {
            match self.compute(compiled, asked, at) {
                Ok(computed) => return Ok((at, computed)),
                Err(Unseen::Before(watermark)) if as_of.is_some() => return Err(early(watermark)),
                Err(Unseen::Before(watermark)) => at = at.max(watermark),
                Err(Unseen::NotYet) => break,
            }
        }
        Err(Refusal::Unavailable("the windows cannot be read yet".to_string()))
    }

    fn compute(
        &self,
        compiled: &Compiled,
        asked: &Asked<'_>,
        at: Micros,
    ) -> Result<Computed, Unseen> {
        let (program, rows) = (&compiled.program, asked.rows);
        let kept = program.kept.clone().unwrap_or_default();
        let (mut columns, mut changed) = spine(compiled, &kept, asked, at);
        let source = &compiled.sources[program.spine];
        for &column in &kept.moving {
            if !changed[column] {
                let scalar = &source.computed[column - source.declared];
                (columns[column], changed[column]) =
                    (scalar.evaluate_columns(&columns, rows).0, true);
            }
        }
        let answers = self.answers(compiled, asked, &columns, at)?;
        let mut computed = Vec::new();
        for &f in asked.wanted {
            let feature = &program.features[f];
            let reads = |column: &usize| changed.get(*column) == Some(&true);
            if feature.calls.is_empty() && !feature.scalar.columns().iter().any(reads) {
                continue;
            }
            let called = feature.calls.iter().map(|call| answer(call, &answers));
            let all: Vec<ArrayRef> = columns.iter().map(Arc::clone).chain(called).collect();
            computed.push((f, values(&feature.scalar.evaluate_columns(&all, rows).0)));
        }
        Ok(computed)
    }

    /// What the windows of the wanted features answer: by group, a column an output; of other groups nothing.
    fn answers(
        &self,
        compiled: &Compiled,
        asked: &Asked<'_>,
        columns: &[ArrayRef],
        at: Micros,
    ) -> Result<Vec<Vec<ArrayRef>>, Unseen> {
        let program = &compiled.program;
        let options = RecordBatchOptions::new().with_row_count(Some(asked.rows));
        let schema = program.spine_schema.to_arrow();
        let batch = RecordBatch::try_new_with_options(schema, columns.to_vec(), &options)
            .expect("columns of the spine's types");
        let calls = asked.wanted.iter().flat_map(|f| &program.features[*f].calls);
        let mut called = vec![false; program.groups.len()];
        calls.for_each(|call| called[call.group] = true);
        let mut answers = Vec::with_capacity(called.len());
        let mut row = Vec::new();
        for (g, group) in program.groups.iter().enumerate() {
            if !called[g] {
                answers.push(Vec::new());
                continue;
            }
            let built = |output: &DataType| Builder::new(*output, asked.rows);
            let mut outputs: Vec<Builder> = group.outputs.iter().map(built).collect();
            for key in group.spine_keys(&batch) {
                row.clear();
                self.shelf.peek(g, key, at, &mut row)?;
                outputs.iter_mut().zip(&row).for_each(|(output, value)| output.push(value));
            }
            answers.push(outputs.into_iter().map(Builder::finish).collect());
        }
        Ok(answers)
    }
}

/// The columns of the rows that are asked about, and which of them are not those of a row that is held.
fn spine(
    compiled: &Compiled,
    kept: &Kept,
    asked: &Asked<'_>,
    at: Micros,
) -> (Vec<ArrayRef>, Vec<bool>) {
    let fields = &compiled.program.spine_schema.fields;
    let time = compiled.sources[compiled.program.spine].time;
    let given = asked.given;
    let mut changed = vec![false; fields.len()];
    let column = |(c, changed): (usize, &mut bool)| {
        let data_type = fields[c].data_type;
        let part = kept.entity.iter().position(|entity| *entity == c);
        if let Some((_, values)) = given.spine.iter().find(|(spine, _)| *spine == c) {
            *changed = true;
            given_column(values, data_type)
        } else if let Some((_, values)) = given.entity.iter().find(|(of, _)| Some(*of) == part) {
            given_column(values, data_type)
        } else if c == time {
            *changed = true;
            given_column(&vec![Value::Int(at); asked.rows], data_type)
        } else if let Some(place) = kept.columns.iter().position(|column| *column == c) {
            kept_column(asked.held, place, data_type)
        } else {
            new_null_array(&data_type.to_arrow(), asked.rows)
        }
    };
    let columns = changed.iter_mut().enumerate().map(column).collect();
    (columns, changed)
}
