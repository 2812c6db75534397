//! How the processes of a run find each other: every one listens at its own address and calls those before it.
//!
//! Both sides show that they know the run's token without sending it (HMAC-SHA-256 over a number that the other
//! chose), and that they run the same pipeline with the same build. What travels afterwards is not encrypted.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use tidemill_types::Error;

/// What all processes of a run have to agree on.
#[derive(Clone)]
pub struct Members {
    /// Which one this is; 0 is the head, which has the sinks and the models.
    pub process: usize,
    /// An address for each, `HOST:PORT`.
    pub hosts: Vec<String>,
    /// Whoever knows it belongs to the run.
    pub token: String,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Rows, between any two.
    Data,
    /// Words, between the head and each other.
    Words,
}

/// Connections of a process.
pub(super) struct Sockets {
    /// To each process; none to itself.
    pub(super) data: Vec<Option<TcpStream>>,
    /// The head: to each other; another: to the head alone.
    pub(super) words: Vec<(usize, TcpStream)>,
}

/// How long the others may take to come.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a waiting process says so.
const SAID: Duration = Duration::from_secs(10);
/// How long an answer of a connection may take while both get to know each other.
const ANSWER: Duration = Duration::from_secs(5);
const MAGIC: &[u8; 8] = b"tidemill";

/// Who calls, and what for.
struct Call {
    process: usize,
    what: Use,
}

/// Connects this process with all others; `about` is what has to be the same in all of them.
///
/// # Errors
/// An address that cannot be listened at, processes that do not come in time, one of another run, a run that is
/// to stop.
pub(super) fn connect(members: &Members, about: &str, stop: &AtomicBool) -> Result<Sockets, Error> {
    let Members { process: own, hosts, .. } = members;
    let key = key(members, about);
    let listener = listen(&hosts[*own])?;
    let until = Instant::now() + PATIENCE;
    let mut data: Vec<Option<TcpStream>> = hosts.iter().map(|_| None).collect();
    let mut words = Vec::new();
    for (process, host) in hosts.iter().enumerate().take(*own) {
        let wanted: &[Use] = if process == 0 { &[Use::Data, Use::Words] } else { &[Use::Data] };
        for what in wanted {
            let call = Call { process: *own, what: *what };
            let stream = call_until(host, process, &call, &key, until, stop)?;
            match what {
                Use::Data => data[process] = Some(stream),
                Use::Words => words.push((process, stream)),
            }
        }
    }
    let mut missing: Vec<(usize, Use)> = Vec::new();
    for process in *own + 1..hosts.len() {
        missing.push((process, Use::Data));
        missing.extend((*own == 0).then_some((process, Use::Words)));
    }
    let mut say = Instant::now() + SAID;
    while let Some((process, _)) = missing.first() {
        let host = &hosts[*process];
        look(until, &mut say, stop, &|| format!("process {process} ({host}) has not come"))?;
        let Ok((stream, from)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        match answer(stream, &key) {
            Ok((call, stream)) => {
                let Some(at) = missing.iter().position(|m| *m == (call.process, call.what)) else {
                    tracing::warn!(%from, process = call.process, "a process that is there already, or not of this run");
                    continue;
                };
                missing.remove(at);
                match call.what {
                    Use::Data => data[call.process] = Some(stream),
                    Use::Words => words.push((call.process, stream)),
                }
            }
            Err(why) => tracing::warn!(%from, "a connection that is not of this run: {why}"),
        }
    }
    words.sort_by_key(|(process, _)| *process);
    Ok(Sockets { data, words })
}

fn key(members: &Members, about: &str) -> [u8; 32] {
    let mut all = Sha256::new();
    for part in [members.token.as_str(), about, &members.hosts.len().to_string()] {
        all.update((part.len() as u64).to_le_bytes());
        all.update(part);
    }
    all.finalize().into()
}

fn listen(host: &str) -> Result<TcpListener, Error> {
    let failed = |e: std::io::Error| {
        Error::external(format!("cannot listen at {host}, this process's address: {e}"))
            .help("name an address of this machine, with a port that is free, in --hosts")
    };
    // In a pod the name may stand for the address a little later than the pod does.
    let addresses: Vec<_> = host.to_socket_addrs().map_err(failed)?.collect();
    let listener = TcpListener::bind(addresses.as_slice()).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Gives up in the end, and says now and then what is waited for.
fn look(
    until: Instant,
    say: &mut Instant,
    stop: &AtomicBool,
    what: &dyn Fn() -> String,
) -> Result<(), Error> {
    let now = Instant::now();
    if stop.load(Ordering::Relaxed) {
        return Err(Error::external(format!(
            "stopped before all processes were there: {}",
            what()
        )));
    }
    if now >= until {
        let why = format!("{} in {} s", what(), PATIENCE.as_secs());
        return Err(Error::external(why)
            .help("start all processes of --hosts, each with its own --process"));
    }
    if now >= *say {
        tracing::info!("waiting: {}", what());
        *say = now + SAID;
    }
    Ok(())
}

fn call_until(
    host: &str,
    process: usize,
    call: &Call,
    key: &[u8; 32],
    until: Instant,
    stop: &AtomicBool,
) -> Result<TcpStream, Error> {
    let mut say = Instant::now() + SAID;
    let mut why = "nobody has answered".to_string();
    loop {
        look(until, &mut say, stop, &|| format!("process {process} ({host}) is not there: {why}"))?;
        let tried = TcpStream::connect(host).map_err(|e| e.to_string());
        match tried.and_then(|stream| introduce(stream, call, key)) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = error,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn seal(key: &[u8; 32], role: &[u8], parts: [&[u8]; 3]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length fits");
    mac.update(role);
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// A number that nobody can know before.
fn nonce() -> std::io::Result<[u8; 32]> {
    let mut chance = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut chance)?;
    Ok(chance)
}

/// A token that nobody can guess.
///
/// # Errors
/// A system without chance.
pub fn token() -> std::io::Result<String> {
    nonce().map(|chance| tidemill_types::schema::hex(&chance))
}

fn settled(stream: &TcpStream, wait: Option<Duration>) -> Result<(), String> {
    stream.set_nonblocking(false).map_err(|e| e.to_string())?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    stream.set_read_timeout(wait).map_err(|e| e.to_string())?;
    stream.set_write_timeout(wait).map_err(|e| e.to_string())
}

/// The side that calls.
fn introduce(mut stream: TcpStream, call: &Call, key: &[u8; 32]) -> Result<TcpStream, String> {
    settled(&stream, Some(ANSWER))?;
    let text = |e: std::io::Error| e.to_string();
    let (own, who) = (nonce().map_err(text)?, who(call));
    stream.write_all(&[MAGIC.as_slice(), &who, &own].concat()).map_err(text)?;
    let mut answer = [0; 64];
    stream.read_exact(&mut answer).map_err(text)?;
    let (theirs, proof) = answer.split_at(32);
    let other = |_| "it has another token, pipeline or build, or other hosts".to_string();
    seal(key, b"listens", [&who, &own, theirs]).verify_slice(proof).map_err(other)?;
    let proof = seal(key, b"calls", [&who, &own, theirs]).finalize().into_bytes();
    stream.write_all(&proof).map_err(text)?;
    let mut taken = [0];
    stream.read_exact(&mut taken).map_err(text)?;
    settled(&stream, None)?;
    Ok(stream)
}

fn who(call: &Call) -> [u8; 5] {
    let mut who = [0; 5];
    who[..4].copy_from_slice(&(call.process as u32).to_le_bytes());
    who[4] = u8::from(call.what == Use::Words);
    who
}

/// The side that listens.
fn answer(mut stream: TcpStream, key: &[u8; 32]) -> Result<(Call, TcpStream), String> {
    settled(&stream, Some(ANSWER))?;
    let text = |e: std::io::Error| e.to_string();
    let mut asked = [0; 8 + 5 + 32];
    stream.read_exact(&mut asked).map_err(text)?;
    let (magic, rest) = asked.split_at(8);
    let (who, theirs) = rest.split_at(5);
    if magic != MAGIC {
        return Err("it does not speak as a process of a run".to_string());
    }
    let own = nonce().map_err(text)?;
    let proof = seal(key, b"listens", [who, theirs, &own]).finalize().into_bytes();
    stream.write_all(&[own.as_slice(), &proof].concat()).map_err(text)?;
    let mut proof = [0; 32];
    let other = "it has another token, pipeline or build, or other hosts".to_string();
    stream.read_exact(&mut proof).map_err(|_| other.clone())?;
    seal(key, b"calls", [who, theirs, &own]).verify_slice(&proof).map_err(|_| other)?;
    stream.write_all(&[1]).map_err(text)?;
    settled(&stream, None)?;
    let process = u32::from_le_bytes([who[0], who[1], who[2], who[3]]) as usize;
    let what = if who[4] == 0 { Use::Data } else { Use::Words };
    Ok((Call { process, what }, stream))
}

/// A connection of timely's. One that breaks before the run is over ends the run, and not only a thread.
pub(super) struct DataSocket {
    stream: TcpStream,
    peer: usize,
    fate: Arc<Fate>,
    /// What was read last: timely says goodbye by a header of zeros.
    last: [u8; GOODBYE],
}

/// Bytes of a header.
const GOODBYE: usize = 48;

/// What broken connections mean.
pub struct Fate {
    /// Set when the dataflow is complete: whoever is done may go.
    pub over: AtomicBool,
    /// Told of a process that is gone before.
    pub lost: Box<dyn Fn(usize, String) + Send + Sync>,
}

/// How long after the end of a connection the dataflow may still be on its way to its own.
const LINGER: Duration = Duration::from_secs(10);

impl DataSocket {
    pub(super) fn new(stream: TcpStream, peer: usize, fate: Arc<Fate>) -> DataSocket {
        DataSocket { stream, peer, fate, last: [1; GOODBYE] }
    }

    fn keep(&mut self, read: &[u8]) {
        let new = read.len().min(GOODBYE);
        self.last.copy_within(new.., 0);
        self.last[GOODBYE - new..].copy_from_slice(&read[read.len() - new..]);
    }

    /// Returns if the run is over; otherwise nobody is to hear of this connection again.
    fn broken(&self, why: String) {
        let until = Instant::now() + LINGER;
        while !self.fate.over.load(Ordering::SeqCst) {
            if Instant::now() > until {
                (self.fate.lost)(self.peer, why);
                loop {
                    std::thread::park();
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Read for DataSocket {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.stream.read(to) {
                // What came with the goodbye is passed on only when the end has been read.
                Ok(0) if self.last == [0; GOODBYE] => {}
                Ok(0) => self.broken("it closed a connection".to_string()),
                Ok(n) => {
                    self.keep(&to[..n]);
                    return Ok(n);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => self.broken(error.to_string()),
            }
            return Ok(0);
        }
    }
}

impl Write for DataSocket {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.stream.write(bytes) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                self.broken(error.to_string());
                // Nobody reads any more, and nobody needs to.
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl timely::communication::allocator::zero_copy::stream::Stream for DataSocket {
    fn try_clone(&self) -> std::io::Result<DataSocket> {
        let stream = self.stream.try_clone()?;
        Ok(DataSocket::new(stream, self.peer, Arc::clone(&self.fate)))
    }

    fn set_nonblocking(&self, nonblocking: bool) -> std::io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: std::net::Shutdown) -> std::io::Result<()> {
        // Whoever is gone already has shut it down.
        let _ = self.stream.shutdown(how);
        Ok(())
    }
}
