//! A store as bytes, bit by bit: as of one moment, while it goes on.
//!
//! A cut walks over the keys, some at each step. What is about to change a key that it has not come to yet saves the
//! key first (copy on write), so that what is saved is what there was when the cut began; nobody waits for more than a
//! step of the walk and the keys that it touches itself. As in the snapshots of Redis and of hypervisors, with a key
//! in place of a page.

use tidemill_types::Key;

use super::Store;
use super::heap::Heap;
use super::history::History;
use super::layout::Layout;
use super::snapshot::Pieces;

/// How many keys a step looks at, if it is not asked for more bytes: all of them may be saved already.
const LOOKS: usize = 1 << 14;

/// A cut under way.
pub(super) struct Cut {
    /// By place: whether its key is saved. Places behind were taken after the cut began.
    saved: Vec<bool>,
    /// Where the walk is.
    next: usize,
    pieces: Pieces,
}

impl Cut {
    /// Saves the key of a place, if it is not saved yet.
    #[inline]
    pub(super) fn before_change(
        &mut self,
        place: u32,
        key: Key,
        history: &History,
        layout: &Layout,
        heap: &Heap,
    ) {
        if let Some(saved @ false) = self.saved.get_mut(place as usize) {
            *saved = true;
            self.pieces.put(key, history, layout, heap);
        }
    }

    /// A read moves windows on, and of those that hold all rows it is kept how far they were.
    #[inline]
    pub(super) fn before_read(
        &mut self,
        place: u32,
        named: &[Key],
        keys: &[History],
        layout: &Layout,
        heap: &Heap,
    ) {
        if layout.lifetime {
            let at = place as usize;
            self.before_change(place, named[at], &keys[at], layout, heap);
        }
    }
}

impl Store {
    /// Begins to save every key as of now; a cut before it that was not taken is given up. Cost: a byte a key.
    pub fn begin_cut(&mut self) {
        let mut saved = vec![false; self.keys.len()];
        self.free.iter().for_each(|place| saved[*place as usize] = true);
        self.cut = Some(Box::new(Cut { saved, next: 0, pieces: Pieces::default() }));
    }

    /// Goes on with the cut until about so many bytes more are saved. Gives what it has when that is everything; and
    /// nothing before, or without a cut.
    pub fn go_on_with_cut(&mut self, bytes: usize) -> Option<Pieces> {
        let Store { cut, keys, named, layout, heap, .. } = self;
        let under_way = cut.as_mut()?;
        let until = under_way.pieces.bytes().saturating_add(bytes);
        for _ in 0..LOOKS.max(bytes) {
            let place = under_way.next;
            if place >= under_way.saved.len() {
                return cut.take().map(|cut| cut.pieces);
            }
            under_way.before_change(place as u32, named[place], &keys[place], layout, heap);
            under_way.next += 1;
            if under_way.pieces.bytes() >= until {
                break;
            }
        }
        None
    }
}
