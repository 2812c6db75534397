//! The attributes of a node, each of which must be known: one that is passed over would change scores.

use super::messages::{Attribute, Node};

/// Attributes of a node by name.
pub struct Attributes<'a> {
    node: &'a Node,
}

/// How a node is called in an error.
pub fn called(node: &Node) -> String {
    format!("node `{}` ({})", node.name, node.operator)
}

impl<'a> Attributes<'a> {
    /// Refuses a node that has others than these.
    pub fn of(node: &'a Node, known: &[&str]) -> Result<Attributes<'a>, String> {
        let unknown = node.attributes.iter().find(|a| !known.contains(&a.name.as_str()));
        match unknown {
            None => Ok(Attributes { node }),
            Some(Attribute { name, .. }) => {
                Err(format!("{} has the attribute `{name}`, which is not read", called(node)))
            }
        }
    }

    fn get(&self, name: &str) -> Option<&'a Attribute> {
        self.node.attributes.iter().find(|a| a.name == name)
    }

    /// A list of floats; empty if it is not given.
    pub fn floats(&self, name: &str) -> &'a [f32] {
        self.get(name).map_or(&[], |a| &a.floats)
    }

    /// A list of whole numbers; empty if it is not given.
    pub fn ints(&self, name: &str) -> &'a [i64] {
        self.get(name).map_or(&[], |a| &a.ints)
    }

    /// A list of texts; empty if it is not given.
    pub fn texts(&self, name: &str) -> &'a [Vec<u8>] {
        self.get(name).map_or(&[], |a| &a.texts)
    }

    /// A whole number.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |a| a.int)
    }

    /// A float.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.get(name).map_or(default, |a| a.float)
    }

    /// A word.
    pub fn word(&self, name: &str, default: &'static str) -> Result<&'a str, String> {
        match self.get(name) {
            None => Ok(default),
            Some(a) => std::str::from_utf8(&a.text)
                .map_err(|_| format!("`{name}` of {} is no text", called(self.node))),
        }
    }

    /// One of these words.
    pub fn only(&self, name: &str, words: &[&'static str]) -> Result<&'static str, String> {
        let word = self.word(name, words[0])?;
        words.iter().find(|known| **known == word).copied().ok_or_else(|| {
            format!(
                "{} has {name} {word}: only {} can be read",
                called(self.node),
                words.join(", ")
            )
        })
    }
}
