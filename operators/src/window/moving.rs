//! How the windows of a key move to the moment of a read.

use std::ops::Range;

use tidemill_types::Micros;

use super::frame::Span;
use super::heap::Heap;
use super::history::{AsOf, end_of, start_of};
use super::layout::{Layout, Window};
use super::log::Log;
use super::session::Sessions;
use super::standing::{Cursor, Standing, States, enter, refill, shift, step_feed, take_in};

/// Moves all windows to where a read sees them, and tells where that is.
#[inline]
pub(super) fn move_to(
    log: &Log,
    sessions: &[Sessions],
    layout: &Layout,
    at: AsOf<'_>,
    standing: &mut Standing,
    ranges: &mut [Range<usize>],
    heap: &Heap,
) {
    let n = layout.windows.len();
    let (windows, ranges) = (&layout.windows[..n], &mut ranges[..n]);
    match &layout.spans {
        Some((spans, since)) if at.time >= *since => {
            let spans = &spans[..n];
            let hint = standing.cursors.first().map_or(0, |cursor| cursor.end);
            let end = log.first_after_row(hint, at.time, at.id, heap);
            let to = (end, at.time);
            if layout.onward && onward(log, layout, spans, to, standing, ranges, heap) {
                return;
            }
            let cursors = &standing.cursors[..n];
            for w in 0..n {
                let start = match spans[w].last {
                    Some(last) => first_at(log, &cursors[w], at.time - last),
                    None => log.base(),
                };
                ranges[w] = start.max(end.saturating_sub(spans[w].rows)).min(end)..end;
            }
        }
        _ => {
            let mut end = 0;
            let cursors = standing.cursors.iter();
            for ((window, cursor), range) in windows.iter().zip(cursors).zip(&mut *ranges) {
                let as_of = window.reach.as_of(at.time);
                if !window.ends_alike {
                    end = end_of(log, window.reach.bound(as_of), cursor.end, at, heap);
                }
                let first_at = |floor| first_at(log, cursor, floor);
                *range = start_of(log, sessions, window, end, as_of, first_at)..end;
            }
        }
    }
    let Standing { cursors, states } = standing;
    let cursors = &mut cursors[..n];
    enter(log, layout, cursors, ranges, states, heap);
    for w in 0..n {
        if cursors[w].start != ranges[w].start || cursors[w].end != ranges[w].end {
            shift(log, &windows[w], &mut cursors[w], ranges[w].clone(), states, heap);
        }
    }
}

/// Where the first row at a time or later is; most often where the window begins.
#[inline]
fn first_at(log: &Log, cursor: &Cursor, floor: Micros) -> usize {
    if cursor.before < floor && floor <= cursor.first {
        return cursor.start;
    }
    far_first_at(log, cursor, floor)
}

#[inline(never)]
fn far_first_at(log: &Log, cursor: &Cursor, floor: Micros) -> usize {
    match cursor.before < floor {
        true => log.first_at_from(cursor.start, floor),
        false => log.first_at(cursor.start, floor),
    }
}

/// Whether [`onward`] can move windows: each reaches back in time and no further, or has nothing but rows.
pub(super) fn goes_onward(spans: &[Span], windows: &[Window]) -> bool {
    let simple = |(span, window): (&Span, &Window)| match span.last {
        Some(_) => span.rows == usize::MAX,
        None => window.feeds.is_empty(),
    };
    spans.iter().zip(windows).all(simple)
}

/// What most reads ask for: the newest row, which has just come, enters all windows, and rows that have grown too old
/// leave them. Each is looked at once. False, and nothing is changed, where there is more to do than that to make
/// windows end at `end` as of `time`.
#[inline]
fn onward(
    log: &Log,
    layout: &Layout,
    spans: &[Span],
    (end, time): (usize, Micros),
    standing: &mut Standing,
    ranges: &mut [Range<usize>],
    heap: &Heap,
) -> bool {
    let Standing { cursors, states } = standing;
    let n = spans.len();
    let (windows, cursors, ranges) = (&layout.windows[..n], &mut cursors[..n], &mut ranges[..n]);
    let next = end.wrapping_sub(1);
    let mut all = end == log.end() && log.len() > 0;
    for (span, cursor) in spans.iter().zip(&*cursors) {
        all &= cursor.end == next && span.last.is_none_or(|last| cursor.before < time - last);
    }
    if !all || log.time(next) != time {
        return false;
    }
    let before = log.beside(next).0;
    for w in 0..n {
        let cursor = &mut cursors[w];
        cursor.end = end;
        match spans[w].last {
            None => cursor.start = end.saturating_sub(spans[w].rows).max(log.base()),
            // None of those that it has stays.
            Some(last) if before < time - last => {
                if cursor.start < next {
                    states.clear(&windows[w]);
                }
                (cursor.start, cursor.before, cursor.first) = (next, before, time);
            }
            Some(_) => {}
        }
    }
    take_in(log, layout, next, states, heap);
    for w in 0..n {
        let cursor = &mut cursors[w];
        if let Some(last) = spans[w].last
            && cursor.first < time - last
        {
            leave(log, &windows[w], cursor, time - last, states, heap);
        }
        ranges[w] = cursor.start..end;
    }
    true
}

/// Takes out what is before `floor`; the newest row is not.
#[inline]
fn leave(
    log: &Log,
    window: &Window,
    cursor: &mut Cursor,
    floor: Micros,
    states: &mut States,
    heap: &Heap,
) {
    let (mut at, mut time) = (cursor.start, cursor.first);
    while time < floor {
        for feed in &window.feeds {
            step_feed::<false>(log, at, feed, states, heap);
        }
        cursor.before = time;
        at += 1;
        time = log.time(at);
    }
    (cursor.start, cursor.first) = (at, time);
    refill(log, at..cursor.end, window, states);
}
