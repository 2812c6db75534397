//! Columns of lists of columnar files: their items as declared, and which rows do not fit.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, ListArray, OffsetSizeTrait};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType as Arrow, Field as ArrowField};
use arrow::error::ArrowError;
use tidemill_types::{DataType, Field};

use super::Refusal;
use super::columnar::{as_written, convert};
use super::text::{length, wrong};

/// The items of all rows, and where those of each begin and end.
struct Found {
    items: ArrayRef,
    ends: Vec<usize>,
}

fn of<O: OffsetSizeTrait>(lists: &arrow::array::GenericListArray<O>) -> Found {
    let ends = lists.offsets().iter().map(|end| end.as_usize()).collect();
    Found { items: Arc::clone(lists.values()), ends }
}

fn of_one_size(lists: &FixedSizeListArray) -> Found {
    let size = lists.value_length() as usize;
    let ends = (0..=lists.len()).map(|row| row * size).collect();
    Found { items: Arc::clone(lists.values()), ends }
}

/// What lists or maps hold: as found, and as declared.
pub(super) struct Items {
    found: ArrayRef,
    there: Option<NullBuffer>,
    any_lost: bool,
    pub(super) converted: ArrayRef,
}

impl Items {
    pub(super) fn of(found: &ArrayRef, wanted: DataType) -> Result<Items, ArrowError> {
        let converted = convert(found, wanted)?;
        let any_lost = converted.null_count() > found.logical_null_count();
        Ok(Items { found: Arc::clone(found), there: found.logical_nulls(), any_lost, converted })
    }

    /// The first of these that is out of range, and so became NULL.
    pub(super) fn lost(&self, mut places: Range<usize>) -> Option<usize> {
        let was_there = |at| self.there.as_ref().is_none_or(|nulls| nulls.is_valid(at));
        let lost = |at: &usize| self.converted.is_null(*at) && was_there(*at);
        if self.any_lost { places.find(lost) } else { None }
    }

    /// The value at a place as text.
    pub(super) fn as_written(&self, place: usize) -> String {
        as_written(&self.found, place)
    }
}

/// The same ends, counted from the first item of these rows, and which items they hold: parts of a batch share
/// its items, of which only those of their rows are looked at.
pub(super) fn from_zero(ends: &[usize]) -> Result<(Vec<i32>, Range<usize>), ArrowError> {
    let held = ends.first().copied().unwrap_or(0)..ends.last().copied().unwrap_or(0);
    let small = |end: &usize| {
        let items = end - held.start;
        i32::try_from(items)
            .map_err(|_| ArrowError::CastError(format!("{items} items are too many")))
    };
    Ok((ends.iter().map(small).collect::<Result<_, _>>()?, held))
}

/// A column of lists as declared, and the rows that hold an item out of range, too many or not as many as
/// a vector has. What such rows hold then is not to be looked at.
pub(super) fn convert_lists(
    found: &ArrayRef,
    field: &Field,
) -> Result<(ArrayRef, Vec<(usize, Refusal)>), ArrowError> {
    let DataType::List(item) = field.data_type else {
        return Err(ArrowError::CastError(format!("{} is no list", field.data_type)));
    };
    let item = DataType::from(item);
    let Found { items, ends } = match found.data_type() {
        Arrow::List(_) => of(found.as_list::<i32>()),
        Arrow::LargeList(_) => of(found.as_list::<i64>()),
        _ => of_one_size(found.as_fixed_size_list()),
    };
    let (ends, held) = from_zero(&ends)?;
    let items = Items::of(&items.slice(held.start, held.len()), item)?;
    let mut refused = Vec::new();
    for row in (0..found.len()).filter(|row| found.is_valid(*row)) {
        let range = ends[row] as usize..ends[row + 1] as usize;
        if let Err(refusal) = length(field, range.len()) {
            refused.push((row, refusal));
        } else if let Some(at) = items.lost(range.clone()) {
            let why = format!(" (out of range, item {})", at - range.start + 1);
            refused.push((row, wrong(field, items.as_written(at), &why)));
        }
    }
    let item = Arc::new(ArrowField::new("item", item.to_arrow(), true));
    let ends = OffsetBuffer::new(ends.into());
    let lists = ListArray::try_new(item, ends, items.converted, found.logical_nulls())?;
    Ok((Arc::new(lists), refused))
}
