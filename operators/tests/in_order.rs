//! The law of windows where rows are read as they come, which is what most windows see and the steps of other laws hardly do.

mod law;
mod naive;

use law::*;
use proptest::prelude::*;
use tidemill_config::plan::Frame;
use tidemill_operators::aggregate::{Aggregate, Primitive};

/// Rows that are read as they come, hardly ever late: what most windows see.
fn in_order_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        60 => row(2, 2).prop_map(|row| vec![Step::Insert(row), Step::Read(row)]),
        3 => row(2, 30).prop_map(|row| vec![Step::Insert(row), Step::Read(row)]),
        2 => row(2, 30).prop_map(|row| vec![Step::Read(row)]),
        2 => any::<prop::sample::Index>().prop_map(|which| vec![Step::Retract(which)]),
        2 => (20..60i64).prop_map(|ago| vec![Step::Advance(ago)]),
        1 => (1..400usize).prop_map(|bytes| vec![Step::Cut(bytes)]),
    ];
    prop::collection::vec(step, 80..140).prop_map(|steps| {
        let at = |(i, steps): (usize, Vec<Step>)| {
            // Pauses let windows run empty.
            let now = i as i64 / 2 + i as i64 / 40 * 25;
            steps.into_iter().map(move |step| match step {
                Step::Insert(row) => Step::Insert(Row { time: now - row.time, ..row }),
                Step::Read(row) => Step::Read(Row { time: now - row.time, ..row }),
                Step::Advance(ago) => Step::Advance(now - ago),
                other => other,
            })
        };
        steps.into_iter().enumerate().flat_map(at).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// Windows that reach back in time, moved by the newest row and by nothing else.
    #[test]
    fn windows_go_on_with_the_newest_row(steps in in_order_steps(), own_stream in prop::bool::weighted(0.9)) {
        let frames = [Frame::Last(0), Frame::Last(3), Frame::Last(20), Frame::Last(70)];
        let by_position = |aggregate: &dyn Aggregate| {
            aggregate.primitives().iter().all(|primitive| *primitive == Primitive::Position)
        };
        let mut all = asked(&frames.map(up_to_now), |_| true);
        all.extend(asked(&[up_to_now(Frame::Rows(2))], by_position));
        let before = Before { inserts: false, retracts: false };
        run(&all, own_stream, before, &steps)?;
    }
}
