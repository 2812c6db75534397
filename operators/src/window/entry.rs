//! What all windows of a group take in of a row, put together so that a row is looked at once.

use super::layout::{Only, Window};
use super::row::Spot;

/// What all windows take in of a row that enters them all.
#[derive(Default)]
pub(super) struct Entry {
    /// Numbers of one column under one filter, taken apart once for all windows.
    pub(super) lanes: Vec<Lane>,
    /// What else there is: window and feed.
    pub(super) others: Vec<(usize, usize)>,
    /// Numbers that are in no lane.
    pub(super) apart: Vec<usize>,
}

pub(super) struct Lane {
    pub(super) spot: Spot,
    pub(super) filter: Option<Spot>,
    /// With the window that they are of, shorter ones first.
    pub(super) numbers: Vec<(usize, usize)>,
}

impl Entry {
    pub(super) fn new(windows: &[Window]) -> Entry {
        let mut entry = Entry::default();
        for (w, window) in windows.iter().enumerate() {
            for (f, feed) in window.feeds.iter().enumerate() {
                let Some(Only { spot, filter, numbers }) = feed.only else {
                    entry.others.push((w, f));
                    entry.apart.extend(feed.numbers);
                    continue;
                };
                let same = |lane: &&mut Lane| lane.spot == spot && lane.filter == filter;
                match entry.lanes.iter_mut().find(same) {
                    Some(lane) => lane.numbers.push((w, numbers)),
                    None => {
                        entry.lanes.push(Lane { spot, filter, numbers: vec![(w, numbers)] });
                    }
                }
            }
        }
        entry
    }
}
