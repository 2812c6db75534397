//! Words between two processes, in their order: a length and bincode. An empty word each second shows that somebody
//! is there.

use std::io::{BufWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_types::Error;

/// Words that wait at most: more, and who would send one waits.
const QUEUE: usize = 256;
/// A process from which nothing is heard for so long is taken for gone; one that was stopped for half a minute is not.
const SILENCE: Duration = Duration::from_secs(60);
/// How often something is heard of a process that has nothing to say.
const BEAT: Duration = Duration::from_secs(1);
/// How long a process that ends waits for its last words to go out.
const FLUSH: Duration = Duration::from_secs(5);
/// The longest word.
const MOST: u32 = 1 << 30;

/// The sending end; clones send in turn.
pub(super) struct Link<W> {
    to: Sender<Sent<W>>,
}

enum Sent<W> {
    Word(W),
    /// Told when everything before it has gone out.
    Flush(Sender<()>),
}

impl<W> Clone for Link<W> {
    fn clone(&self) -> Link<W> {
        Link { to: self.to.clone() }
    }
}

impl<W: Serialize + Send + 'static> Link<W> {
    /// Sends a word; waits while too many are on their way. To one that is gone nothing is sent.
    pub(super) fn send(&self, word: W) {
        let _ = self.to.send(Sent::Word(word));
    }

    /// Waits until what was sent has gone out, but not for ever.
    pub(super) fn flush(&self) {
        let (to, from) = bounded(1);
        if self.to.send(Sent::Flush(to)).is_ok() {
            let _ = from.recv_timeout(FLUSH);
        }
    }
}

/// Starts both directions over a connection: `heard` is called for each word, and once more, with the reason, when
/// the other side is gone.
///
/// # Errors
/// No threads are to be had.
pub(super) fn start<W, H>(
    stream: TcpStream,
    peer: usize,
    mut heard: impl FnMut(Result<H, String>) + Send + 'static,
) -> Result<Link<W>, Error>
where
    W: Serialize + Send + 'static,
    H: DeserializeOwned + 'static,
{
    let failed = |e: std::io::Error| Error::external(format!("no link to process {peer}: {e}"));
    stream.set_read_timeout(Some(SILENCE)).map_err(failed)?;
    let (mut reads, writes) = (stream.try_clone().map_err(failed)?, stream);
    let (to, from) = bounded(QUEUE);
    let write = move || {
        let _ = send_all(&writes, &from);
        let _ = writes.shutdown(Shutdown::Write);
        // Whoever sends is not to wait for ever.
        while from.recv().is_ok() {}
    };
    let named = |what| std::thread::Builder::new().name(format!("{what} process {peer}"));
    named("to").spawn(write).map_err(failed)?;
    let read = move || {
        loop {
            match receive(&mut reads) {
                Ok(Some(word)) => heard(Ok(word)),
                Ok(None) => {}
                Err(why) => return heard(Err(why)),
            }
        }
    };
    named("from").spawn(read).map_err(failed)?;
    Ok(Link { to })
}

fn send_all<W: Serialize>(stream: &TcpStream, from: &Receiver<Sent<W>>) -> std::io::Result<()> {
    let mut out = BufWriter::new(stream);
    loop {
        let next = match from.try_recv() {
            Ok(next) => next,
            Err(_) => {
                out.flush()?;
                match from.recv_timeout(BEAT) {
                    Ok(next) => next,
                    Err(RecvTimeoutError::Timeout) => {
                        out.write_all(&0u32.to_le_bytes())?;
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return out.flush(),
                }
            }
        };
        let word = match next {
            Sent::Word(word) => word,
            Sent::Flush(told) => {
                out.flush()?;
                let _ = told.send(());
                continue;
            }
        };
        let bytes = bincode::serialize(&word).map_err(std::io::Error::other)?;
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MOST);
        let length = length.ok_or_else(|| std::io::Error::other("a word too long"))?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&bytes)?;
    }
}

fn receive<H: DeserializeOwned>(stream: &mut TcpStream) -> Result<Option<H>, String> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            format!("nothing was heard of it for {} s", SILENCE.as_secs())
        }
        std::io::ErrorKind::UnexpectedEof => "it closed the connection".to_string(),
        _ => e.to_string(),
    };
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(failed)?;
    let length = u32::from_le_bytes(length);
    if length == 0 {
        return Ok(None);
    }
    if length > MOST {
        return Err(format!("a word of {length} bytes"));
    }
    let mut bytes = Vec::new();
    let mut within = stream.take(u64::from(length));
    within.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() < length as usize {
        return Err("it closed the connection".to_string());
    }
    bincode::deserialize(&bytes).map(Some).map_err(|e| format!("a word that is none: {e}"))
}
