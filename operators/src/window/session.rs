//! Sessions of one key: at which times they begin.
//!
//! A row begins a session if the row before it is further away than the gap, or there is none. So a
//! row that comes or goes decides about no more than itself and the row after it, and the session
//! that is open as of a time is found by a binary search, however long it is. Rows of one time are in one session: the time of its
//! first row names it.

use std::collections::VecDeque;

use tidemill_types::Micros;

pub(super) struct Sessions {
    gap: Micros,
    /// When each session begins, ascending.
    starts: VecDeque<Micros>,
}

impl Sessions {
    pub(super) fn new(gap: Micros) -> Sessions {
        Sessions { gap, starts: VecDeque::new() }
    }

    /// Whether a row at `after` is in another session than the one at `before`, next to it.
    pub(super) fn apart(&self, before: Micros, after: Micros) -> bool {
        before.abs_diff(after) > self.gap.unsigned_abs()
    }

    /// A row has come between its neighbours.
    pub(super) fn insert(&mut self, before: Option<Micros>, time: Micros, after: Option<Micros>) {
        if before == Some(time) || after == Some(time) {
            return;
        }
        let begins = |row| before.is_none_or(|before| self.apart(before, row));
        let joined = after.filter(|after| begins(*after) && !self.apart(time, *after));
        let begins = begins(time);
        match joined {
            Some(after) if begins => self.replace(after, time),
            Some(after) => self.take(after),
            None if begins => self.put(time),
            None => {}
        }
    }

    /// A row has gone from between its neighbours.
    pub(super) fn remove(&mut self, before: Option<Micros>, time: Micros, after: Option<Micros>) {
        if before == Some(time) || after == Some(time) {
            return;
        }
        let begins = |row| before.is_none_or(|before| self.apart(before, row));
        let split = after.filter(|after| begins(*after) && !self.apart(time, *after));
        let began = begins(time);
        match split {
            Some(after) if began => self.replace(time, after),
            Some(after) => self.put(after),
            None if began => self.take(time),
            None => {}
        }
    }

    /// When the session begins that a row at `time` is in.
    pub(super) fn start(&self, time: Micros) -> Option<Micros> {
        self.starts
            .get(self.starts.partition_point(|start| *start <= time).checked_sub(1)?)
            .copied()
    }

    /// When the first session after the one of a row at `time` begins.
    pub(super) fn next(&self, time: Micros) -> Option<Micros> {
        self.starts.get(self.starts.partition_point(|start| *start <= time)).copied()
    }

    /// Rows before the one at `first` were let go of; none is left if there is no such row.
    pub(super) fn drop_before(&mut self, first: Option<Micros>) {
        let gone = first
            .map_or(self.starts.len(), |first| self.starts.partition_point(|start| *start < first));
        self.starts.drain(..gone);
        // What is left of a session begins where it was cut.
        if let Some(first) = first.filter(|first| self.starts.front() != Some(first)) {
            self.starts.push_front(first);
        }
        if self.starts.capacity() > 4 * self.starts.len() + 16 {
            self.starts.shrink_to(2 * self.starts.len());
        }
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.starts.capacity() * size_of::<Micros>()
    }

    fn put(&mut self, time: Micros) {
        self.starts.insert(self.starts.partition_point(|start| *start < time), time);
    }

    fn take(&mut self, time: Micros) {
        if let Ok(at) = self.starts.binary_search(&time) {
            self.starts.remove(at);
        }
    }

    /// No session begins between the two.
    fn replace(&mut self, old: Micros, new: Micros) {
        if let Ok(at) = self.starts.binary_search(&old) {
            self.starts[at] = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever rows come and go, and are let go of, sessions begin where they do by definition.
        #[test]
        fn sessions_begin_where_they_do(
            gap in 0..6i64,
            steps in prop::collection::vec((0..60i64, 0..4u8), 0..120),
        ) {
            let mut sessions = Sessions::new(gap);
            let mut rows: Vec<Micros> = Vec::new();
            for (time, kind) in steps {
                let at = rows.partition_point(|row| *row < time);
                match kind {
                    3 if at > 0 && at < rows.len() => {
                        rows.drain(..at);
                        sessions.drop_before(rows.first().copied());
                    }
                    2 if rows.get(at) == Some(&time) => {
                        rows.remove(at);
                        let before = at.checked_sub(1).map(|i| rows[i]);
                        sessions.remove(before, time, rows.get(at).copied());
                    }
                    _ => {
                        let before = at.checked_sub(1).map(|i| rows[i]);
                        sessions.insert(before, time, rows.get(at).copied());
                        rows.insert(at, time);
                    }
                }
                let begins = |i: usize| i == 0 || rows[i] - rows[i - 1] > gap;
                let wanted: Vec<Micros> =
                    (0..rows.len()).filter(|i| begins(*i)).map(|i| rows[i]).collect();
                prop_assert_eq!(&Vec::from(sessions.starts.clone()), &wanted);
                for time in 0..60 {
                    let start = wanted.iter().rfind(|start| **start <= time).copied();
                    prop_assert_eq!(sessions.start(time), start);
                    let next = wanted.iter().find(|start| **start > time).copied();
                    prop_assert_eq!(sessions.next(time), next);
                }
            }
        }
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        let mut sessions = Sessions::new(Micros::MAX);
        sessions.insert(None, Micros::MIN, None);
        sessions.insert(Some(Micros::MIN), Micros::MAX, None);
        assert_eq!(sessions.start(Micros::MAX), Some(Micros::MAX));
        sessions.insert(Some(Micros::MIN), 0, Some(Micros::MAX));
        assert_eq!(sessions.start(0), Some(0));
        assert_eq!(sessions.start(Micros::MAX), Some(0));
    }
}
