//! A read that leaves no trace: what a row that came now would find, answered to somebody who asks and
//! is no row.
//!
//! [`Store::read`] moves the windows of a key to where it reads, which is what makes a stream of reads
//! cheap; one as of an hour from now would empty them, and the next row would fill them again. So a look
//! copies what they hold and moves the copy.

use tidemill_types::{Key, Micros, Value};

use super::Store;
use super::answers::One;
use super::frame::Bound;
use super::heap::Heap;
use super::held::{Reply, answer};
use super::history::{History, Scratch, start_of};
use super::layout::Layout;
use super::standing::{fill, shift};

impl Store {
    /// Answers every output, appended to `out`, as a row of this key at `time` would be answered that
    /// orders after all others of that time and is itself in no window. Nothing in the store is moved, so
    /// that no later answer nor its cost depends on it.
    ///
    /// The cost is a step for each row that entered or left the windows since the key was last read, and for each
    /// value of aggregates that keep them all (medians, numbers of different values); of a key of few rows, for
    /// each row in the windows.
    ///
    /// # Errors
    /// A time before the watermark, which is told: of the rows that such a read would see, some may have been
    /// let go.
    pub fn peek(
        &mut self,
        key: Option<Key>,
        time: Micros,
        out: &mut Vec<Value>,
    ) -> Result<(), Micros> {
        if time < self.watermark {
            return Err(self.watermark);
        }
        let Store { layout, places, keys, heap, scratch, empty, .. } = self;
        match key.and_then(|key| places.get(&key)) {
            Some(&place) => {
                let first = out.len();
                out.resize(first + empty.len(), Value::Null);
                let mut one = One { layout, values: &mut out[first..] };
                keys[place as usize].peek(layout, time, heap, scratch, &mut one);
            }
            None => out.extend_from_slice(empty),
        }
        Ok(())
    }
}

impl History {
    /// See [`Store::peek`].
    fn peek(
        &self,
        layout: &Layout,
        time: Micros,
        heap: &Heap,
        scratch: &mut Scratch,
        give: &mut impl Reply,
    ) {
        let (log, sessions) = (&self.log, &self.sessions);
        let Scratch { states, ranges, .. } = scratch;
        for (window, range) in layout.windows.iter().zip(&mut **ranges) {
            let as_of = window.reach.as_of(time);
            let end = match window.reach.bound(as_of) {
                // Who asks is no row: all rows of the time are before him.
                Bound::ThroughRow | Bound::BeforeRow => log.first_after(log.end(), time),
                Bound::Through(last) => log.first_after(log.end(), last),
                Bound::Before(next) => log.first_at(log.end(), next),
            };
            let first_at = |floor| log.first_at(log.base(), floor);
            *range = start_of(log, sessions, window, end, as_of, first_at)..end;
        }
        match &self.standing {
            Some(standing) => {
                let windows = layout.windows.iter().zip(&*standing.cursors).zip(&**ranges);
                for ((window, cursor), range) in windows {
                    states.copy(window, &standing.states);
                    shift(log, window, &mut cursor.clone(), range.clone(), states, heap);
                }
            }
            None => fill(log, layout, ranges, states, heap),
        }
        if let Some(tiles) = &self.tiles {
            tiles.pour_aside(layout, time, states);
        }
        answer(layout, log, ranges, heap, states, time, give);
    }
}
