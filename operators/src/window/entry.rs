//! What all windows of a group take in of a row, put together so that a row is looked at once.

use super::layout::Window;
use super::row::Spot;

/// What all windows take in of a row that enters them all.
#[derive(Default)]
pub(super) struct Entry {
    /// Numbers of one column under one filter, taken apart once for all windows.
    pub(super) lanes: Vec<Lane>,
    /// What else there is: window and feed.
    pub(super) others: Vec<(usize, usize)>,
}

pub(super) struct Lane {
    pub(super) spot: Spot,
    pub(super) filter: Option<usize>,
    /// With the window that they are of.
    pub(super) numbers: Vec<(usize, usize)>,
}

impl Entry {
    pub(super) fn new(windows: &[Window]) -> Entry {
        let mut entry = Entry::default();
        for (w, window) in windows.iter().enumerate() {
            for (f, feed) in window.feeds.iter().enumerate() {
                let Some((spot, numbers)) = feed.only else {
                    entry.others.push((w, f));
                    continue;
                };
                let same = |lane: &&mut Lane| lane.spot == spot && lane.filter == feed.filter;
                match entry.lanes.iter_mut().find(same) {
                    Some(lane) => lane.numbers.push((w, numbers)),
                    None => {
                        let filter = feed.filter;
                        entry.lanes.push(Lane { spot, filter, numbers: vec![(w, numbers)] });
                    }
                }
            }
        }
        entry
    }
}
