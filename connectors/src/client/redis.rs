//! Redis, as much of it as a sink needs: connections, requests in pipelines, who has which keys, and what went wrong.
//!
//! The crate `redis` reads addresses and answers (RESP 2 and 3) and knows the slots of a cluster. The socket is ours, as
//! the crate's own connections take an answer of any size, and its pipelines go on to wait for each answer after one did not
//! come; those to a cluster send again by themselves. What is sent again, and when, is the sink's to decide.

mod connection;
mod server;
mod slots;

use tidemill_types::Error;

pub use ::redis::Value;
pub use ::redis::cluster_routing::Slot;
pub use connection::{Connection, request};
pub use server::{Files, Place, Server};
pub use slots::{Slots, redirected};

/// Why something did not go.
#[derive(Debug)]
pub enum Trouble {
    /// The server is away, or cannot take anything just now: the same again may help.
    Away(String),
    /// It will not: only a person can mend it.
    Refused(Error),
}

/// Errors that pass by themselves: it loads its data, it follows another server that is away or that it is to take
/// over from, a script holds it, it has lost our script, it has too many clients, its cluster has no master for a slot.
const PASSING: [&str; 10] = [
    "LOADING",
    "MASTERDOWN",
    "READONLY",
    "BUSY",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "NOSCRIPT",
    "UNBLOCKED",
    "ERR max number of clients reached",
];

/// What an error of the server means, and what to do next.
pub fn trouble(server: &Server, said: &str) -> Trouble {
    if PASSING.iter().any(|passing| said.starts_with(passing)) {
        return Trouble::Away(said.to_string());
    }
    // Scripts say where they failed, which helps nobody.
    let plain = said.split(" script: ").next().unwrap_or(said);
    let error = Error::external(format!("Redis at {server} refuses: {plain}"));
    let help = match said.split(' ').next().unwrap_or_default() {
        "NOAUTH" => "it wants a password: url = \"redis://:${REDIS_PASSWORD}@HOST:PORT\"",
        "WRONGPASS" => "the user or the password in `url` is another one",
        "ERR" if said.contains("without any password configured") => {
            "the server has no password: leave it out of `url`"
        }
        "ERR" if said.contains("cluster support disabled") => {
            "it stands alone: leave `cluster = true` out"
        }
        "NOPERM" => {
            "the user needs the commands evalsha, script|load, hget, hset, pexpire, info, ping and dbsize, in a cluster also cluster|slots and asking, and the keys of the project"
        }
        "WRONGTYPE" => {
            "a key of an entity holds something that is no hash: name another `project`, another database, or remove that key"
        }
        "OOM" => {
            "its memory is full and maxmemory-policy removes nothing: raise maxmemory, or give the rows a `ttl`; then start again"
        }
        "MISCONF" => "it cannot write to its disk: make room there, and start again",
        "MOVED" | "ASK" | "CROSSSLOT" => "it is one of a cluster: add `cluster = true`",
        _ => "see the server's log, and start again",
    };
    Trouble::Refused(error.help(help))
}
