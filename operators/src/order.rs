//! The order of rows: by (event time, id).

use tidemill_types::{Id, Micros};

/// The places of rows in the order of (event time, id), rows without any difference by place; `None`
/// where they stand in it already.
///
/// Streams come nearly in order. The rows that are not below any before them are sorted as they stand;
/// only the stragglers are sorted, and the two are merged: n + k log k comparisons for k stragglers.
pub fn order(times: &[Micros], ids: &[Id]) -> Option<Vec<u32>> {
    let key = |row: u32| (times[row as usize], &ids[row as usize]);
    let rows = times.len() as u32;
    let first = (1..rows).find(|row| key(*row) < key(*row - 1))?;
    let mut ordered: Vec<u32> = (0..first).collect();
    let mut stragglers: Vec<u32> = Vec::new();
    let mut highest = first - 1;
    for row in first..rows {
        if key(row) < key(highest) {
            stragglers.push(row);
        } else {
            highest = row;
            ordered.push(row);
        }
    }
    stragglers.sort_by(|a, b| key(*a).cmp(&key(*b)));
    let mut merged = Vec::with_capacity(times.len());
    let mut late = stragglers.into_iter().peekable();
    for row in ordered {
        while let Some(straggler) = late.next_if(|s| (key(*s), *s) < (key(row), row)) {
            merged.push(straggler);
        }
        merged.push(row);
    }
    merged.extend(late);
    Some(merged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_in_order_stay() {
        let ids: Vec<Id> = [3, 1, 1, 2].map(Id::Int).into();
        assert_eq!(order(&[1, 2, 2, 2], &ids), None);
        assert_eq!(order(&[], &[]), None);
        assert_eq!(order(&[2, 2, 2, 2], &ids), Some(vec![1, 2, 3, 0]));
    }

    proptest! {
        #[test]
        fn it_is_a_stable_sort(rows in prop::collection::vec((0..20_i64, 0..4_i64), 0..200)) {
            let times: Vec<Micros> = rows.iter().map(|r| r.0).collect();
            let ids: Vec<Id> = rows.iter().map(|r| Id::Int(r.1)).collect();
            let mut wanted: Vec<u32> = (0..rows.len() as u32).collect();
            wanted.sort_by_key(|row| rows[*row as usize]);
            let found = order(&times, &ids).unwrap_or_else(|| (0..rows.len() as u32).collect());
            prop_assert_eq!(found, wanted);
        }
    }
}
