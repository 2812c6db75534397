//! Columns of lists of columnar files: their items as declared, and which rows do not fit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, ListArray, OffsetSizeTrait};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType as Arrow, Field as ArrowField};
use arrow::error::ArrowError;
use tidemill_types::{DataType, Field};

use super::Refusal;
use super::columnar::convert;
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
    // Parts of a batch share its items: only those of these rows are looked at.
    let (first, last) = (ends.first().copied().unwrap_or(0), ends.last().copied().unwrap_or(0));
    let items = items.slice(first, last - first);
    let converted = convert(&items, item)?;
    let there = items.logical_nulls();
    let lost =
        |at: usize| converted.is_null(at) && there.as_ref().is_none_or(|nulls| nulls.is_valid(at));
    let any_lost = converted.null_count() > items.logical_null_count();
    let mut refused = Vec::new();
    for row in (0..found.len()).filter(|row| found.is_valid(*row)) {
        let range = ends[row] - first..ends[row + 1] - first;
        if let Err(refusal) = length(field, range.len()) {
            refused.push((row, refusal));
        } else if any_lost && let Some(at) = range.clone().find(|at| lost(*at)) {
            let place = at - range.start + 1;
            let why = format!(" (out of range, item {place})");
            refused.push((row, wrong(field, super::columnar::as_written(&items, at), &why)));
        }
    }
    let small = |end: &usize| {
        i32::try_from(end - first)
            .map_err(|_| ArrowError::CastError(format!("{} items are too many", end - first)))
    };
    let ends: Vec<i32> = ends.iter().map(small).collect::<Result<_, _>>()?;
    let item = Arc::new(ArrowField::new("item", item.to_arrow(), true));
    let ends = OffsetBuffer::new(ends.into());
    let lists = ListArray::try_new(item, ends, converted, found.logical_nulls())?;
    Ok((Arc::new(lists), refused))
}
