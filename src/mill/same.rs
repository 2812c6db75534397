//! Whether a row of features is what another one is, bit for bit.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};

/// Whole numbers below this are floats.
const EXACT: f64 = (1u64 << 53) as f64;

/// Whether the numbers of two rows, as models read them, leave no doubt: that these differ, or that so many are all there is
/// to the rows and each is what it says. They lie side by side, where the columns lie apart.
pub fn numbers_tell(a: &[f64], b: &[f64], columns: usize) -> Option<bool> {
    if a.iter().zip(b).any(|(a, b)| a.to_bits() != b.to_bits()) {
        return Some(false);
    }
    // NaN may be NULL, a list or a map.
    let plain = a.len() == columns && a.iter().all(|x| x.abs() < EXACT);
    plain.then_some(true)
}

/// Whether two rows of one schema hold the same: NULL where the other one has NULL, floats with the same bits, lists and maps
/// with the same items in the same places. What models read of a row does not tell: to them NULL is NaN, and a whole number a
/// float. Cost: some nanoseconds a column, some hundred where it is of lists or maps.
pub fn same_row((a, i): (&RecordBatch, usize), (b, j): (&RecordBatch, usize)) -> bool {
    a.num_columns() == b.num_columns()
        && a.columns().iter().zip(b.columns()).all(|(a, b)| same((a, i), (b, j)))
}

fn same((a, i): (&ArrayRef, usize), (b, j): (&ArrayRef, usize)) -> bool {
    if a.data_type() != b.data_type() {
        return false;
    }
    let (known, other) = (a.is_valid(i), b.is_valid(j));
    if !known || !other {
        return known == other;
    }
    match a.data_type() {
        DataType::Float64 => {
            let of = |column: &ArrayRef, row| column.as_primitive::<Float64Type>().value(row);
            of(a, i).to_bits() == of(b, j).to_bits()
        }
        DataType::Int64 => {
            a.as_primitive::<Int64Type>().value(i) == b.as_primitive::<Int64Type>().value(j)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let of = |column: &ArrayRef, row| {
                column.as_primitive::<TimestampMicrosecondType>().value(row)
            };
            of(a, i) == of(b, j)
        }
        DataType::Boolean => a.as_boolean().value(i) == b.as_boolean().value(j),
        DataType::Utf8 => a.as_string::<i32>().value(i) == b.as_string::<i32>().value(j),
        _ => a.slice(i, 1).to_data() == b.slice(j, 1).to_data(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Float64Array, Float64Builder, Int64Array, ListArray, MapBuilder, StringArray,
        StringBuilder, TimestampMicrosecondArray,
    };

    use super::*;

    /// Whether the values of a column are those of another one at these places alone.
    fn equal_at(a: impl Array + 'static, b: impl Array + 'static, equal: &[bool]) {
        let batch = |column: ArrayRef| RecordBatch::try_from_iter([("x", column)]);
        let (a, b) = (Arc::new(a) as ArrayRef, Arc::new(b) as ArrayRef);
        let of = a.data_type().clone();
        let (a, b) = (batch(a).expect("a batch"), batch(b).expect("a batch"));
        for (row, equal) in equal.iter().enumerate() {
            assert_eq!(same_row((&a, row), (&b, row)), *equal, "{of}, row {row}");
            assert!(same_row((&a, row), (&a, row)), "{of}, row {row}");
        }
    }

    #[test]
    fn rows_are_told_apart_by_every_bit() {
        equal_at(
            Float64Array::from(vec![Some(f64::NAN), None, Some(0.0), Some(1.5)]),
            Float64Array::from(vec![Some(f64::NAN), Some(f64::NAN), Some(-0.0), Some(1.5)]),
            &[true, false, false, true],
        );
        // As floats they are one number.
        let big = 1i64 << 53;
        equal_at(
            Int64Array::from(vec![Some(big), Some(7), None]),
            Int64Array::from(vec![Some(big + 1), Some(7), None]),
            &[false, true, true],
        );
        equal_at(
            TimestampMicrosecondArray::from(vec![big, 7]).with_timezone("UTC"),
            TimestampMicrosecondArray::from(vec![big + 1, 7]).with_timezone("UTC"),
            &[false, true],
        );
        equal_at(
            BooleanArray::from(vec![Some(false), Some(true), Some(false)]),
            BooleanArray::from(vec![Some(false), Some(false), None]),
            &[true, false, false],
        );
        equal_at(
            StringArray::from(vec![Some("a"), Some(""), Some("b")]),
            StringArray::from(vec![Some("a"), None, Some("c")]),
            &[true, false, false],
        );
    }

    #[test]
    fn numbers_tell_what_they_can() {
        assert_eq!(numbers_tell(&[1.0, 0.0], &[1.0, 0.0], 2), Some(true));
        assert_eq!(numbers_tell(&[f64::NAN, 0.0], &[f64::NAN, -0.0], 2), Some(false));
        assert_eq!(numbers_tell(&[1.0], &[1.0], 2), None, "a text");
        assert_eq!(numbers_tell(&[f64::NAN], &[f64::NAN], 1), None, "NULL, or a list");
        assert_eq!(numbers_tell(&[EXACT], &[EXACT], 1), None, "a large whole number");
    }

    #[test]
    fn lists_and_maps_are_looked_into() {
        let list = |items: Vec<Option<Vec<Option<i64>>>>| {
            ListArray::from_iter_primitive::<Int64Type, _, _>(items)
        };
        equal_at(
            list(vec![Some(vec![Some(1), None]), Some(vec![Some(1)]), Some(vec![]), None]),
            list(vec![Some(vec![Some(1), None]), Some(vec![Some(2)]), None, None]),
            &[true, false, false, true],
        );
        let map = |entries: &[(&str, f64)]| {
            let mut map = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
            // Something before it, so that the places of the entries are not those of the other one.
            for entries in [&[("z", 9.0)][..], entries] {
                for (key, value) in entries {
                    map.keys().append_value(key);
                    map.values().append_value(*value);
                }
                map.append(true).expect("as many keys as values");
            }
            map.finish()
        };
        let both = [("a", 1.0), ("b", 2.0)];
        equal_at(map(&both), map(&both), &[true, true]);
        equal_at(map(&both), map(&[("a", 1.0), ("b", 3.0)]), &[true, false]);
        equal_at(map(&both), map(&[("a", 1.0), ("c", 2.0)]), &[true, false]);
        equal_at(map(&both), map(&both[..1]), &[true, false]);
    }
}
