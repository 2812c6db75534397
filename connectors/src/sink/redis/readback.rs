//! What the crash kit asks of Redis: a project of a life's own, what stands in it, and that it goes.

use tidemill_config::plan::SinkPlan;
use tidemill_types::Error;

use super::{Keys, given_up, names, read};
use crate::client::redis::{Connection, Slots, Trouble, Value};
use crate::keys;

/// A project of its own.
pub(super) fn elsewhere(plan: &SinkPlan, suffix: &str) -> Vec<(&'static str, String)> {
    read(plan)
        .map_or_else(|_| Vec::new(), |keys| vec![("project", format!("{}-{suffix}", keys.project))])
}

/// The server, or all masters of the cluster.
fn connections(keys: &Keys) -> Result<Vec<Connection>, Trouble> {
    let first = &keys.servers[0];
    let mut connection = Connection::open(first)?;
    if !keys.cluster {
        return Ok(vec![connection]);
    }
    let slots = Slots::ask(first, &mut connection)?;
    slots.masters().iter().map(|place| Connection::open(&first.beside(place))).collect()
}

/// The keys of a project, in order.
fn keys_of(connection: &mut Connection, project: &str) -> Result<Vec<Vec<u8>>, Trouble> {
    let (mut found, mut cursor) = (Vec::new(), b"0".to_vec());
    loop {
        let page = connection.ask(&[b"SCAN", &cursor, b"COUNT", b"1000"])?;
        if let Value::Array(mut page) = page
            && let (Some(Value::Array(keys)), Some(Value::BulkString(next))) =
                (page.pop(), page.pop())
        {
            found.extend(keys.into_iter().filter_map(|key| match key {
                Value::BulkString(key) if key.ends_with(project.as_bytes()) => Some(key),
                _ => None,
            }));
            cursor = next;
        }
        if cursor == b"0" {
            // A scan may tell a key twice.
            found.sort_unstable();
            found.dedup();
            return Ok(found);
        }
    }
}

/// What [`Readback`](super::Readback) asks: every field of every entity of the project, sorted.
pub(super) fn read_back(plan: &SinkPlan) -> Result<Vec<u8>, Error> {
    let keys = read(plan).map_err(keys::error)?;
    let read = || {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for mut connection in connections(&keys)? {
            for key in keys_of(&mut connection, &keys.project)? {
                let mut fields = Vec::new();
                if let Value::Array(all) = connection.ask(&[b"HGETALL", &key])? {
                    for pair in all.chunks(2) {
                        fields.push(format!("{pair:?}").into_bytes());
                    }
                }
                fields.sort_unstable();
                // The project is this life's own.
                let mut line =
                    format!("{:?} ", &key[..key.len() - keys.project.len()]).into_bytes();
                line.extend(fields.join(&b' '));
                lines.push(line);
            }
        }
        // Which of a cluster has a key depends on the project in it.
        lines.sort_unstable();
        Ok(lines.join(&b'\n'))
    };
    read().map_err(|trouble| given_up(&names(&keys.servers), trouble, "cannot be read"))
}

/// Removes the project.
pub(super) fn remove(plan: &SinkPlan) -> Result<(), Error> {
    let keys = read(plan).map_err(keys::error)?;
    let remove = || {
        for mut connection in connections(&keys)? {
            for key in keys_of(&mut connection, &keys.project)? {
                connection.ask(&[b"UNLINK", &key])?;
            }
        }
        Ok(())
    };
    remove().map_err(|trouble| given_up(&names(&keys.servers), trouble, "cannot be cleared"))
}
