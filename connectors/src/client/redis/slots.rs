//! Which server of a cluster has which keys (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).

use std::collections::HashMap;

use redis::Value;
use redis::cluster_routing::Slot;

use super::{Connection, Place, Server, Trouble};

/// Keys fall into so many slots.
const SLOTS: i64 = 16_384;

/// The masters of a cluster, by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    masters: Vec<Place>,
    owners: HashMap<Slot, usize>,
}

impl Slots {
    /// Asks a server of the cluster.
    ///
    /// # Errors
    /// The connection, or a server that stands alone.
    pub fn ask(server: &Server, connection: &mut Connection) -> Result<Slots, Trouble> {
        let answer = connection.ask(&[b"CLUSTER", b"SLOTS"])?;
        Slots::read(&answer, server.place()).ok_or_else(|| connection.foreign())
    }

    /// Reads the answer of `CLUSTER SLOTS`: `[first, last, [host, port, ...], replicas ...]` each.
    fn read(answer: &Value, answering: &Place) -> Option<Slots> {
        let Value::Array(ranges) = answer else { return None };
        let mut slots = Slots::default();
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &range[..] else {
                return None;
            };
            let [host, Value::Int(port), ..] = &master[..] else { return None };
            let host = match host {
                // It does not know by what name we reached it: by that one.
                Value::Nil => answering.host.clone(),
                Value::BulkString(host) if host.is_empty() => answering.host.clone(),
                // It does not know the other's name yet: no place to send to.
                Value::BulkString(host) if host == b"?" => continue,
                Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
                _ => return None,
            };
            let place = Place { host, port: u16::try_from(*port).ok()? };
            let known = slots.masters.iter().position(|master| *master == place);
            let owner = known.unwrap_or_else(|| {
                slots.masters.push(place);
                slots.masters.len() - 1
            });
            if *first < 0 || *last >= SLOTS {
                return None;
            }
            for slot in *first..=*last {
                let slot = Slot::new(u16::try_from(slot).ok()?)?;
                // Nobody shares a slot; so a list has an end, too.
                if slots.owners.insert(slot, owner).is_some() {
                    return None;
                }
            }
        }
        Some(slots)
    }

    /// Who writes keys of this slot; nothing while nobody does.
    pub fn owner(&self, slot: Slot) -> Option<&Place> {
        self.owners.get(&slot).map(|owner| &self.masters[*owner])
    }

    /// All who write something.
    pub fn masters(&self) -> &[Place] {
        &self.masters
    }
}

/// The place that `MOVED` or `ASK` names: `3999 HOST:PORT`, the host may be missing.
pub fn redirected(details: &str, answering: &Place) -> Option<Place> {
    let (host, port) = details.split(' ').nth(1)?.rsplit_once(':')?;
    let host = if host.is_empty() { &answering.host } else { host };
    Some(Place { host: host.to_string(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![Value::BulkString(host.into()), Value::Int(port)])
    }

    fn range(first: i64, last: i64, node: Value) -> Value {
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    #[test]
    fn owners_are_read_and_what_is_no_answer_is_not() {
        let here = Place { host: "here".to_string(), port: 7000 };
        let read = |ranges: Vec<Value>| Slots::read(&Value::Array(ranges), &here);
        let slots = read(vec![range(0, 9, node("", 7000)), range(10, 16_383, node("there", 7001))]);
        let slots = slots.expect("an answer");
        let owner = |slot| slots.owner(Slot::new(slot).expect("a slot")).map(Place::to_string);
        assert_eq!(owner(9), Some("here:7000".to_string()));
        assert_eq!(owner(10), Some("there:7001".to_string()));
        assert_eq!(slots.masters().len(), 2);
        let hole = read(vec![range(0, 9, node("?", 7000))]).expect("an answer");
        assert_eq!(hole.owner(Slot::new(3).expect("a slot")), None);
        for wrong in [
            vec![range(0, 16_384, node("here", 7000))],
            vec![range(-1, 5, node("here", 7000))],
            vec![range(0, 5, node("here", 70_000))],
            vec![range(0, 5, node("here", 1)), range(5, 9, node("there", 1))],
            vec![Value::Int(1)],
        ] {
            assert_eq!(read(wrong.clone()), None, "{wrong:?}");
        }
    }

    #[test]
    fn redirections_name_a_place() {
        let here = Place { host: "here".to_string(), port: 7000 };
        let to = |details| redirected(details, &here).map(|place| place.to_string());
        assert_eq!(to("3999 127.0.0.1:7001"), Some("127.0.0.1:7001".to_string()));
        assert_eq!(to("3999 :7001"), Some("here:7001".to_string()));
        assert_eq!(to("3999 ::1:7001"), Some("[::1]:7001".to_string()));
        assert_eq!(to("3999"), None);
    }
}
