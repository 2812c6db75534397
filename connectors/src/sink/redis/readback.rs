//! What the crash kit asks of Redis: a project of a life's own, what stands in it, and that it goes.

use tidemill_config::plan::SinkPlan;
use tidemill_types::Error;

use super::{given_up, read};
use crate::client::redis::{Connection, Reply, Trouble};
use crate::keys;

/// A project of its own.
pub(super) fn elsewhere(plan: &SinkPlan, suffix: &str) -> Vec<(&'static str, String)> {
    read(plan)
        .map_or_else(|_| Vec::new(), |keys| vec![("project", format!("{}-{suffix}", keys.project))])
}

/// The keys of a project, in order.
fn keys_of(connection: &mut Connection, project: &str) -> Result<Vec<Vec<u8>>, Trouble> {
    let (mut found, mut cursor) = (Vec::new(), b"0".to_vec());
    loop {
        let page = connection.ask(&[b"SCAN", &cursor, b"COUNT", b"1000"])?;
        if let Reply::All(mut page) = page
            && let (Some(Reply::All(keys)), Some(Reply::Bytes(Some(next)))) =
                (page.pop(), page.pop())
        {
            found.extend(keys.into_iter().filter_map(|key| match key {
                Reply::Bytes(Some(key)) if key.ends_with(project.as_bytes()) => Some(key),
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

/// What [`Readback`] asks: every field of every entity of the project, sorted.
pub(super) fn read_back(plan: &SinkPlan) -> Result<Vec<u8>, Error> {
    let keys = read(plan).map_err(keys::error)?;
    let read = || {
        let mut connection = Connection::open(&keys.server)?;
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for key in keys_of(&mut connection, &keys.project)? {
            let mut fields = Vec::new();
            if let Reply::All(all) = connection.ask(&[b"HGETALL", &key])? {
                for pair in all.chunks(2) {
                    fields.push(format!("{pair:?}").into_bytes());
                }
            }
            fields.sort_unstable();
            // The project is this life's own.
            let mut line = format!("{:?} ", &key[..key.len() - keys.project.len()]).into_bytes();
            line.extend(fields.join(&b' '));
            lines.push(line);
        }
        Ok(lines.join(&b'\n'))
    };
    read().map_err(|trouble| given_up(&keys.server, trouble, "cannot be read"))
}

/// Removes the project.
pub(super) fn remove(plan: &SinkPlan) -> Result<(), Error> {
    let keys = read(plan).map_err(keys::error)?;
    let remove = || {
        let mut connection = Connection::open(&keys.server)?;
        for key in keys_of(&mut connection, &keys.project)? {
            connection.ask(&[b"UNLINK", &key])?;
        }
        Ok(())
    };
    remove().map_err(|trouble| given_up(&keys.server, trouble, "cannot be cleared"))
}
