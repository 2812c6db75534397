//! What a line keeps of the windows and of rows that wait for the watermark, and what they begin with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidemill_types::Micros;

use super::message::{HeldRows, Round};
use super::program::Program;
use super::shelf::Shelf;
use crate::window::{Pieces, Store};

/// The windows of a worker as bytes, by group of the program.
pub type Saved = Vec<Pieces>;

/// A line as one operator of a worker sees it, which has a `T` to give.
pub trait Lines<T> {
    /// The round of the line under way, until this operator has given its part.
    fn pending(&self) -> Option<Round>;

    /// Takes what the operator holds as of the beginning of that round.
    fn take(&mut self, round: Round, part: T);
}

/// Who asks an operator for its part.
pub type Asker<T> = Box<dyn Lines<T>>;

/// How the state of a worker is kept.
#[derive(Default)]
pub struct Keep {
    /// Who asks for the windows; nobody where no line is made.
    pub windows: Option<Asker<Saved>>,
    /// `at_once`: who asks for the rows that are owed their last answer.
    pub held: Option<Asker<Option<HeldRows>>>,
    /// What the windows begin with; nothing at the beginning.
    pub begin: Option<Begin>,
    /// Where the windows of all workers stand, where others look into them.
    pub shelf: Option<Arc<Shelf>>,
    /// Set when the run is to end: the round under way is left, and no other is taken.
    pub stop: Arc<AtomicBool>,
}

/// What the windows of a worker begin with.
pub struct Begin {
    /// One a group.
    pub stores: Vec<Store>,
    /// What the watermark had passed.
    pub watermark: Micros,
}

/// The stores of worker `index` of `peers` as of a line; `saved` names the group of each range.
///
/// # Errors
/// Bytes that are no windows of this program.
pub fn restored<'a>(
    program: &Program,
    before: Micros,
    saved: impl IntoIterator<Item = (usize, &'a [u8])>,
    index: usize,
    peers: usize,
) -> Result<Vec<Store>, String> {
    let mut stores: Vec<Store> =
        program.groups.iter().map(|group| Store::new(group.group.clone())).collect();
    for (group, bytes) in saved {
        let store = stores.get_mut(group).ok_or("a window is not of this pipeline")?;
        store.restore(bytes, |key| key.worker(peers) == index)?;
    }
    stores.iter_mut().for_each(|store| store.advance(before));
    Ok(stores)
}
