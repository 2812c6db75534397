//! Columns of maps: their entries in the order of keys, and which rows of columnar files do not fit.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, StringArray, StructArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::DataType as Arrow;
use arrow::error::ArrowError;
use tidemill_types::{DataType, Field, Item};

use super::Refusal;
use super::columnar::convert;
use super::lists::{Items, from_zero};
use super::text::{length, shown, wrong};

/// Where the entries of maps stand in the order of their keys, map by map.
#[derive(Default)]
pub(super) struct Order {
    places: Vec<u32>,
    moved: bool,
}

impl Order {
    /// Adds a map, whose entries are those at `places`.
    ///
    /// # Errors
    /// The place of a key that stands there twice; the map is not added then.
    pub(super) fn add<'a>(
        &mut self,
        places: Range<usize>,
        key: impl Fn(usize) -> &'a [u8],
    ) -> Result<(), usize> {
        let first = self.places.len();
        self.places.extend(places.clone().map(|place| place as u32));
        if places.clone().skip(1).all(|place| key(place - 1) < key(place)) {
            return Ok(());
        }
        let added = &mut self.places[first..];
        // Of equal keys the later stands behind: it is the one that is told.
        added.sort_by(|a, b| key(*a as usize).cmp(key(*b as usize)));
        let twice = added.windows(2).find(|pair| key(pair[0] as usize) == key(pair[1] as usize));
        match twice.map(|pair| pair[1] as usize) {
            Some(place) => {
                self.places.truncate(first);
                Err(place)
            }
            None => {
                self.moved = true;
                Ok(())
            }
        }
    }

    /// Leaves out entries.
    fn pass_over(&mut self, places: Range<usize>) {
        self.moved |= !places.is_empty();
    }

    /// How many entries there are.
    fn len(&self) -> usize {
        self.places.len()
    }

    /// Forgets the entries behind so many.
    pub(super) fn truncate(&mut self, entries: usize) {
        self.places.truncate(entries);
    }

    /// The keys or the values of all maps in this order.
    pub(super) fn of(&self, column: ArrayRef) -> Result<ArrayRef, ArrowError> {
        match self.moved {
            true => take(&column, &UInt32Array::from(self.places.clone()), None),
            false => Ok(column),
        }
    }
}

/// A column of maps of their parts: `keys` are texts.
pub(super) fn assemble(
    item: Item,
    keys: ArrayRef,
    values: ArrayRef,
    ends: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let no_map = || ArrowError::CastError("a map has entries".to_string());
    let Arrow::Map(field, sorted) = DataType::Map(item).to_arrow() else { return Err(no_map()) };
    let Arrow::Struct(fields) = field.data_type().clone() else { return Err(no_map()) };
    let entries = StructArray::try_new(fields, vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(field, ends, entries, nulls, sorted)?))
}

/// A column of maps as declared, and the rows that hold a value out of range, a key twice or an entry without one,
/// or too many entries. Such rows hold nothing then, nor do those that are NULL, whatever the file has under them.
pub(super) fn convert_maps(
    found: &ArrayRef,
    field: &Field,
) -> Result<(ArrayRef, Vec<(usize, Refusal)>), ArrowError> {
    let (DataType::Map(item), Some(maps)) = (field.data_type, found.as_map_opt()) else {
        return Err(ArrowError::CastError(format!("{} is no map", found.data_type())));
    };
    let ends: Vec<usize> = maps.offsets().iter().map(|end| *end as usize).collect();
    let (ends, held) = from_zero(&ends)?;
    let items = Items::of(&maps.values().slice(held.start, held.len()), item.into())?;
    let keys = convert(&maps.keys().slice(held.start, held.len()), DataType::String)?;
    let texts: &StringArray = keys.as_string();
    let (mut order, mut fitting, mut refused) = (Order::default(), vec![0], Vec::new());
    for (row, pair) in ends.windows(2).enumerate() {
        let places = pair[0] as usize..pair[1] as usize;
        let fit = match found.is_valid(row) {
            true => fits(field, texts, &items, places.clone()),
            false => Err(None),
        };
        let added = fit.and_then(|()| {
            let twice = |place| {
                let key = shown(texts.value(place));
                Some(wrong(field, format_args!("the key {key} twice"), ""))
            };
            order.add(places.clone(), |place| texts.value(place).as_bytes()).map_err(twice)
        });
        if let Err(refusal) = added {
            order.pass_over(places);
            refused.extend(refusal.map(|refusal| (row, refusal)));
        }
        fitting.push(order.len() as i32);
    }
    // A key that is missing stands in a row that is refused.
    let texts = StringArray::new(texts.offsets().clone(), texts.values().clone(), None);
    let keys = order.of(Arc::new(texts))?;
    let values = order.of(items.converted)?;
    let ends = OffsetBuffer::new(fitting.into());
    Ok((assemble(item, keys, values, ends, found.logical_nulls())?, refused))
}

/// Whether a row's entries are as declared.
fn fits(
    field: &Field,
    keys: &StringArray,
    items: &Items,
    places: Range<usize>,
) -> Result<(), Option<Refusal>> {
    length(field, places.len())?;
    if places.clone().any(|place| keys.is_null(place)) {
        return Err(Some(wrong(field, "an entry without a key", "")));
    }
    match items.lost(places) {
        Some(place) => {
            let why = format!(" (out of range, key {})", shown(keys.value(place)));
            Err(Some(wrong(field, items.as_written(place), &why)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    /// The readers of both formats refuse the files that they see this in.
    #[test]
    fn an_entry_without_a_key_does_not_fit() {
        let field = Field::new("m", DataType::Map(Item::Int64));
        let keys = StringArray::from(vec![Some("a"), None, Some("b")]);
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3));
        let items = Items::of(&values, DataType::Int64).expect("whole numbers");
        assert_eq!(fits(&field, &keys, &items, 0..1), Ok(()));
        let refusal = fits(&field, &keys, &items, 0..3).err().flatten().expect("a reason");
        assert_eq!(
            refusal.detail,
            "column m: found an entry without a key, wanted map<string, int64>"
        );
    }

    #[test]
    fn entries_are_put_in_order_and_what_does_not_fit_is_passed_over() {
        let keys: [&[u8]; 6] = [b"b", b"a", b"x", b"c", b"b", b"c"];
        let key = |place: usize| keys[place];
        let mut order = Order::default();
        assert_eq!(order.add(0..2, key), Ok(()));
        order.pass_over(2..3);
        assert_eq!(order.add(3..6, key), Err(5));
        assert_eq!(order.add(4..6, key), Ok(()));
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..6));
        let wanted: ArrayRef = Arc::new(Int64Array::from(vec![1, 0, 4, 5]));
        assert_eq!((order.len(), &order.of(values).expect("taken")), (4, &wanted));
    }
}
