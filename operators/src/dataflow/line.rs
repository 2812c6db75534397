//! What a line keeps of the windows, and what they begin with.

use std::collections::BTreeMap;

use tidemill_types::Micros;

use super::message::Round;
use super::program::Program;
use crate::window::Store;

/// The windows of a worker as bytes: by group of the program, by range of key groups.
pub type Saved = Vec<BTreeMap<u64, Vec<u8>>>;

/// A line as a worker's windows see it.
pub trait Lines {
    /// The round of the line under way, until this worker has given its part.
    fn pending(&self) -> Option<Round>;

    /// Takes this worker's windows as of the beginning of that round.
    fn windows(&mut self, round: Round, saved: Saved);
}

/// How the windows of a worker are kept.
#[derive(Default)]
pub struct Keep {
    /// Who asks for them; nobody where no line is made.
    pub lines: Option<Box<dyn Lines>>,
    /// What they begin with, one a group; nothing at the beginning.
    pub stores: Option<Vec<Store>>,
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
