//! Rows on their way: to one server or to the masters of a cluster, each once at least, and in their order.
//!
//! * **A pipeline** is split by who has the slots of its rows, and all have their part before the first is waited for. What
//!   another one has by now (`MOVED`) is sent there after the slots were asked for anew; of a slot that is on its way
//!   (`ASK`) a row goes to where it leads.
//! * **What may be lost is sent again**: rows of the last [`KEPT`] (in a cluster [`KEPT_IN_CLUSTER`]) to a server that was started anew, and
//!   rows of slots that have changed hands, as a replica that takes over may not have had them yet.
//! * **Away** closes all connections; the next attempt asks another server for the slots.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use tidemill_types::Error;

use super::{SCRIPT, given_up};
use crate::client::redis::{
    Connection, Place, Server, Slot, Slots, Trouble, Value, redirected, request, trouble,
};
use crate::steps;

/// How long what was sent is kept: with `appendfsync everysec` Redis may lose what it acknowledged in the last second, or
/// two where its disk is slow.
const KEPT: Duration = Duration::from_secs(5);

/// The same in a cluster: a master that is cut off takes rows for its `cluster-node-timeout`, 15 seconds by default, and
/// they are lost when another has taken over.
const KEPT_IN_CLUSTER: Duration = Duration::from_secs(20);

/// Bytes of that.
const MOST_KEPT: usize = 64 << 20;

/// A server of a cluster that gave no answer for so long is asked whether its cluster is up.
const HEARD: Duration = Duration::from_secs(1);

/// How often rows may be sent elsewhere before that counts as trouble.
const TURNS: usize = 16;

/// Between two attempts: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// Between two warnings about the same trouble.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// A row under way.
struct Row {
    /// Where its request ends in the bytes of all.
    end: usize,
    slot: Slot,
    answered: bool,
    /// Whether it was counted: the first answer does that.
    counted: bool,
}

/// A pipeline.
struct Sent {
    at: Instant,
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

impl Sent {
    fn request(&self, row: usize) -> &[u8] {
        let begin = row.checked_sub(1).map_or(0, |before| self.rows[before].end);
        &self.bytes[begin..self.rows[row].end]
    }
}

/// A server that has some of the keys.
struct Node {
    connection: Option<Connection>,
    /// See [`Connection::life`].
    life: Option<String>,
    /// When it gave its last answer.
    heard: Instant,
    /// Rows that it has answered for.
    rows: u64,
}

/// The servers of a sink, and what is on its way to them.
pub(super) struct Nodes {
    /// Where a cluster is first asked for its slots; without one the only server.
    servers: Vec<Server>,
    cluster: bool,
    /// Whether rows go away by themselves, so that a server may be empty.
    mortal: bool,
    slots: Slots,
    /// Whether they have to be asked for.
    stale: bool,
    /// How often they were: each time of another server.
    asked: usize,
    nodes: BTreeMap<Place, Node>,
    script: Vec<u8>,
    sent: VecDeque<Sent>,
    /// Rows that Redis has answered for, those of former lives before the line too.
    pub(super) rows: u64,
    /// Rows that found a newer one there.
    pub(super) older: u64,
    /// Whether it was connected before.
    opened: bool,
}

/// The servers that the pipeline names.
impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", names(&self.servers))
    }
}

/// `HOST:PORT, HOST:PORT`.
pub(super) fn names(servers: &[Server]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Nodes {
    /// To these servers, one unless they are of a cluster; `rows` were answered for before.
    pub(super) fn new(servers: Vec<Server>, cluster: bool, mortal: bool, rows: u64) -> Nodes {
        Nodes {
            servers,
            cluster,
            mortal,
            slots: Slots::default(),
            stale: cluster,
            asked: 0,
            nodes: BTreeMap::new(),
            script: Vec::new(),
            sent: VecDeque::new(),
            rows,
            older: 0,
            opened: false,
        }
    }

    /// The hash of [`SCRIPT`], once it was connected.
    pub(super) fn script(&self) -> &[u8] {
        &self.script
    }

    /// The slot of a key; without a cluster all are one.
    pub(super) fn slot(&self, key: &[u8]) -> Slot {
        if self.cluster { Slot::for_key(key) } else { Slot::for_key([]) }
    }

    /// Sends requests, and waits for all answers.
    pub(super) fn send(
        &mut self,
        rows: impl Iterator<Item = (Slot, Vec<u8>)>,
        patience: Duration,
    ) -> Result<(), Error> {
        let mut sent = Sent { at: Instant::now(), bytes: Vec::new(), rows: Vec::new() };
        for (slot, request) in rows {
            sent.bytes.extend_from_slice(&request);
            let end = sent.bytes.len();
            sent.rows.push(Row { end, slot, answered: false, counted: false });
        }
        self.sent.push_back(sent);
        self.settle(patience)
    }

    /// Exchanges until all is answered.
    pub(super) fn settle(&mut self, patience: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let (mut pause, mut warned) = (PAUSES.0, None::<Instant>);
        loop {
            let why = match self.exchange() {
                Ok(()) => {
                    if warned.is_some() {
                        let seconds = began.elapsed().as_secs();
                        tracing::info!(redis = %self, seconds, "Redis is back");
                    }
                    return Ok(());
                }
                Err(Trouble::Refused(error)) => return Err(error),
                Err(Trouble::Away(why)) => why,
            };
            // Answers that are still to come belong to nobody now.
            self.nodes.values_mut().for_each(|node| node.connection = None);
            self.stale = self.cluster;
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                let what = format!("was away for {} s", patience.as_secs());
                return Err(given_up(&names(&self.servers), Trouble::Away(why), &what));
            }
            if warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                warned = Some(Instant::now());
                tracing::warn!(redis = %self, why, "Redis does not take rows: they wait");
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Sends what has no answer, and takes the answers.
    fn exchange(&mut self) -> Result<(), Trouble> {
        let mut turns = 0;
        loop {
            self.connect()?;
            let waits = |sent: &Sent| sent.rows.iter().any(|row| !row.answered);
            let Some(at) = self.sent.iter().position(waits) else { break };
            if self.deliver(at)? {
                continue;
            }
            self.stale = true;
            turns += 1;
            if turns > TURNS {
                return Err(Trouble::Away("its slots are moving".to_string()));
            }
        }
        self.let_go()
    }

    /// Connects to all who have keys. What a server has lost that was started anew, or that has taken over, is to be sent again.
    fn connect(&mut self) -> Result<(), Trouble> {
        if self.stale {
            self.learn_slots()?;
        }
        let places = match self.cluster {
            true => self.slots.masters().to_vec(),
            false => vec![self.servers[0].place().clone()],
        };
        let mut opened = Vec::new();
        for place in &places {
            if self.nodes.get(place).is_none_or(|node| node.connection.is_none()) {
                self.open(place)?;
                opened.push(place);
            }
        }
        if !opened.is_empty() && !self.opened && self.rows > 0 && !self.mortal {
            // Before the first row of this life: somewhere there have to be those of the lives before.
            let mut full = false;
            for place in &places {
                full |= !self.is_empty(place)?;
            }
            if !full {
                return Err(Trouble::Refused(self.emptied(&names(&self.servers), self.rows)));
            }
        }
        self.opened = true;
        Ok(())
    }

    /// Connects to one.
    fn open(&mut self, place: &Place) -> Result<(), Trouble> {
        let server = self.servers[0].beside(place);
        let mut connection = Connection::open(&server)?;
        let hash = connection.ask(&[b"SCRIPT", b"LOAD", SCRIPT.as_bytes()])?;
        let Value::BulkString(hash) = hash else { return Err(connection.foreign()) };
        self.script = hash;
        let life = connection.life()?;
        let heard = Instant::now();
        let Some(known) = self.nodes.get_mut(place) else {
            // Of a single server the rows before the line are its own.
            let rows = if self.cluster { 0 } else { self.rows };
            let node = Node { connection: Some(connection), life, heard, rows };
            self.nodes.insert(place.clone(), node);
            return Ok(());
        };
        let anew = life.is_none() || life != known.life;
        (known.connection, known.heard) = (Some(connection), heard);
        let written = known.rows;
        if anew && written > 0 {
            let its = |slot| !self.cluster || self.slots.owner(slot) == Some(place);
            let again = again(&mut self.sent, its);
            if !self.mortal && self.is_empty(place)? {
                // It may be no master any more, and not know it yet.
                self.see_that_it_is_up(place)?;
                return Err(Trouble::Refused(self.emptied(&server.to_string(), written)));
            }
            if again > 0 {
                tracing::warn!(redis = %server, rows = again, "Redis was started anew: the newest rows are sent again");
            }
        }
        // Last: until then the next attempt has all of this to do again.
        if let Some(node) = self.nodes.get_mut(place) {
            node.life = life;
        }
        Ok(())
    }

    /// Whether it is one of a cluster that works, as far as it can see.
    fn see_that_it_is_up(&mut self, place: &Place) -> Result<(), Trouble> {
        let connection = connection(&mut self.nodes, place).filter(|_| self.cluster);
        let Some(connection) = connection else { return Ok(()) };
        match connection.ask(&[b"CLUSTER", b"INFO"])? {
            Value::BulkString(text) if text.starts_with(b"cluster_state:ok") => Ok(()),
            _ => Err(Trouble::Away(format!("{place} says that its cluster is down"))),
        }
    }

    fn is_empty(&mut self, place: &Place) -> Result<bool, Trouble> {
        let Some(connection) = connection(&mut self.nodes, place) else { return Ok(true) };
        Ok(connection.ask(&[b"DBSIZE"])? == Value::Int(0))
    }

    fn emptied(&self, server: &str, rows: u64) -> Error {
        Error::external(format!("Redis at {server} is empty, and {rows} rows of this pipeline were written to it"))
            .help("it keeps nothing on its disk, or was emptied: restore it, or remove the run's checkpoints to write all rows again; appendonly yes lets it keep them")
    }

    /// Asks one server after another who has which slots.
    fn learn_slots(&mut self) -> Result<(), Trouble> {
        let mut places: Vec<Place> = self.servers.iter().map(|s| s.place().clone()).collect();
        places.extend(self.slots.masters().iter().cloned());
        places.dedup();
        self.asked += 1;
        let mut last = Trouble::Away("nobody of its cluster is there".to_string());
        for i in 0..places.len() {
            let place = &places[(self.asked + i) % places.len()];
            let server = self.servers[0].beside(place);
            let told = Connection::open(&server).and_then(|mut c| Slots::ask(&server, &mut c));
            match told {
                Ok(slots) if !slots.masters().is_empty() => {
                    self.hand_over(slots);
                    return Ok(());
                }
                Ok(_) => last = Trouble::Away(format!("{place} knows nobody with slots")),
                Err(Trouble::Away(why)) => last = Trouble::Away(format!("{place}: {why}")),
                Err(refused) => return Err(refused),
            }
        }
        Err(last)
    }

    /// Takes note of who has which slots now.
    fn hand_over(&mut self, slots: Slots) {
        let before = std::mem::replace(&mut self.slots, slots);
        self.stale = false;
        if before.masters().is_empty() {
            return;
        }
        let after = &self.slots;
        let again = again(&mut self.sent, |slot| before.owner(slot) != after.owner(slot));
        if again > 0 {
            tracing::warn!(redis = %self, rows = again, "slots have changed hands: the newest rows are sent again");
        }
        self.nodes.retain(|place, _| after.masters().contains(place));
    }

    /// Sends what has no answer of a pipeline, each row to who has it; whether all have one now.
    fn deliver(&mut self, at: usize) -> Result<bool, Trouble> {
        let mut parts: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
        for (i, row) in self.sent[at].rows.iter().enumerate().filter(|(_, row)| !row.answered) {
            let owner = match self.cluster {
                true => self.slots.owner(row.slot),
                false => Some(self.servers[0].place()),
            };
            let Some(owner) = owner else {
                return Err(Trouble::Away(
                    "nobody of its cluster has some of the slots".to_string(),
                ));
            };
            match parts.get_mut(owner) {
                Some(rows) => rows.push(i),
                None => drop(parts.insert(owner.clone(), vec![i])),
            }
        }
        let elsewhere = self.turn(at, &parts, false)?;
        // Slots that are on their way: what those who get them have not, they ask for themselves.
        for place in elsewhere.keys() {
            if self.nodes.get(place).is_none_or(|node| node.connection.is_none()) {
                self.open(place)?;
            }
        }
        self.turn(at, &elsewhere, true)?;
        steps::pass("redis.answered");
        Ok(self.sent[at].rows.iter().all(|row| row.answered))
    }

    /// Sends rows and takes their answers; which rows are to go where once.
    fn turn(
        &mut self,
        at: usize,
        parts: &BTreeMap<Place, Vec<usize>>,
        asking: bool,
    ) -> Result<BTreeMap<Place, Vec<usize>>, Trouble> {
        let mut elsewhere: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
        let sent = &mut self.sent[at];
        let leave = request(&[b"ASKING"]);
        for (place, rows) in parts {
            let Some(connection) = connection(&mut self.nodes, place) else { continue };
            if rows.len() == sent.rows.len() && !asking {
                connection.send(&sent.bytes)?;
                continue;
            }
            let mut some = Vec::new();
            for row in rows {
                if asking {
                    some.extend_from_slice(&leave);
                }
                some.extend_from_slice(sent.request(*row));
            }
            connection.send(&some)?;
        }
        for (place, rows) in parts {
            let server = self.servers[0].beside(place);
            let Some(node) = self.nodes.get_mut(place) else { continue };
            let Some(connection) = &mut node.connection else { continue };
            for row in rows {
                if asking {
                    connection.take()?;
                }
                let said = match connection.reply()? {
                    Value::Int(written) => {
                        let row = &mut sent.rows[*row];
                        row.answered = true;
                        if !std::mem::replace(&mut row.counted, true) {
                            self.rows += 1;
                            node.rows += 1;
                            self.older += u64::from(written == 0);
                        }
                        continue;
                    }
                    Value::ServerError(said) => said,
                    _ => return Err(connection.foreign()),
                };
                let details = said.details().unwrap_or_default();
                match (said.code(), redirected(details, place)) {
                    ("ASK", Some(to)) if self.cluster && !asking => {
                        elsewhere.entry(to).or_default().push(*row);
                    }
                    // The slots are asked for anew.
                    ("MOVED" | "ASK", _) if self.cluster => {}
                    (code, _) => return Err(trouble(&server, &format!("{code} {details}"))),
                }
            }
            node.heard = Instant::now();
        }
        Ok(elsewhere)
    }

    /// Lets go of what is old enough to be on the disks of all, if they keep anything there.
    fn let_go(&mut self) -> Result<(), Trouble> {
        let now = Instant::now();
        let quiet = |node: &Node| now.duration_since(node.heard) > HEARD;
        let quiet = self.nodes.iter().filter(|(_, node)| quiet(node));
        for place in quiet.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
            self.see_that_it_is_up(&place)?;
            if let Some(node) = self.nodes.get_mut(&place) {
                node.heard = Instant::now();
            }
        }
        let kept = if self.cluster { KEPT_IN_CLUSTER } else { KEPT };
        let mut held: usize = self.sent.iter().map(|sent| sent.bytes.len()).sum();
        while let Some(oldest) = self.sent.front()
            && (now.duration_since(oldest.at) > kept || held > MOST_KEPT)
        {
            held -= oldest.bytes.len();
            self.sent.pop_front();
        }
        Ok(())
    }
}

/// Rows of these slots have no answer any more; how many had one.
fn again(sent: &mut VecDeque<Sent>, of: impl Fn(Slot) -> bool) -> usize {
    let mut again = 0;
    for row in sent.iter_mut().flat_map(|sent| &mut sent.rows) {
        if row.answered && of(row.slot) {
            row.answered = false;
            again += 1;
        }
    }
    again
}

fn connection<'a>(
    nodes: &'a mut BTreeMap<Place, Node>,
    place: &Place,
) -> Option<&'a mut Connection> {
    nodes.get_mut(place)?.connection.as_mut()
}
