//! What the disk has to have before something else may count on it. All that outlives a crash asks here, so that a
//! simulation can lose what nobody asked for.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tidemill_types::Error;
pub use tidemill_types::error::{ROOM, is_full};

/// A disk that is simulated: files are real, and what of them outlives a crash is its business.
pub trait Disk: Send + Sync {
    /// A file's content is to be durable.
    fn content(&self, file: &File) -> io::Result<()>;

    /// The names in a folder are to be durable.
    fn names(&self, folder: &Path) -> io::Result<()>;

    /// A file was cut to this length.
    fn cut(&self, file: &File, bytes: u64) -> io::Result<()>;
}

thread_local! {
    static SIMULATED: RefCell<Option<Arc<dyn Disk>>> = const { RefCell::new(None) };
}

/// What could not be done with a file or a folder, and what to do where there is no room.
pub fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    let said = Error::external(format!("cannot {what} {}: {error}", path.display()));
    if is_full(error) { said.help(ROOM) } else { said }
}

/// Has this thread use a simulated disk, or the real one again.
pub fn simulate(disk: Option<Arc<dyn Disk>>) {
    SIMULATED.with_borrow_mut(|simulated| *simulated = disk);
}

fn simulated() -> Option<Arc<dyn Disk>> {
    SIMULATED.with_borrow(Clone::clone)
}

/// Has the disk take a file, its size and times too.
///
/// # Errors
/// A disk that does not.
pub fn sync(file: &File) -> io::Result<()> {
    simulated().map_or_else(|| file.sync_all(), |disk| disk.content(file))
}

/// Has the disk take a file's content.
///
/// # Errors
/// A disk that does not.
pub fn sync_data(file: &File) -> io::Result<()> {
    simulated().map_or_else(|| file.sync_data(), |disk| disk.content(file))
}

/// Has the disk take the names in a folder: without it a new file may be gone after a crash, whatever was done for
/// its content.
///
/// # Errors
/// A disk that does not.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    match simulated() {
        Some(disk) => disk.names(folder),
        None => File::open(folder).and_then(|folder| folder.sync_all()),
    }
}

/// Cuts a file to this length, which is durable only after [`sync`].
///
/// # Errors
/// A disk that does not.
pub fn cut(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    simulated().map_or(Ok(()), |disk| disk.cut(file, bytes))
}
