//! TOML with the place of every key and value, in the order of the file.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::plan::At;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Bytes of the file; empty where it was given on the command line.
    pub span: Range<usize>,
    /// The value.
    pub value: Item,
}

/// A TOML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A string.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A date or time: no key takes one.
    Datetime(String),
    /// An array.
    Array(Vec<Node>),
    /// A table, in the order of the file.
    Table(Vec<(At<String>, Node)>),
}

impl Item {
    /// The whole number, where it is one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Item::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// The floating-point number, where it is one.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Item::Float(f) => Some(*f),
            _ => None,
        }
    }
}

impl Node {
    /// What kind of value this is, for errors.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Item::Text(_) => "a string",
            Item::Int(_) => "a whole number",
            Item::Float(_) => "a floating-point number",
            Item::Bool(_) => "a truth value",
            Item::Datetime(_) => "a date or time",
            Item::Array(_) => "an array",
            Item::Table(_) => "a table",
        }
    }
}

/// Reads TOML.
pub fn parse(text: &str) -> Result<Node, Vec<Diagnostic>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors
            .iter()
            .map(|e| {
                let span = e.span().unwrap_or(0..0);
                let end = text.len().max(1) - 1;
                let span = span.start.min(end)..span.end.max(span.start + 1).min(text.len());
                Diagnostic::new(
                    &span,
                    format!("this is not TOML: {}", e.message().replace('\n', ", ")),
                    "the file cannot be read past this place",
                    "strings need quotes, a table begins with [name], a key stands once: see toml.io",
                )
            })
            .collect());
    }
    let span = table.span();
    let mut errors = Vec::new();
    let value = convert_table(table.get_ref(), &mut errors);
    if errors.is_empty() { Ok(Node { span, value }) } else { Err(errors) }
}

fn convert_table(table: &DeTable<'_>, errors: &mut Vec<Diagnostic>) -> Item {
    let mut entries: Vec<(At<String>, Node)> = table
        .iter()
        .map(|(key, value)| {
            let key = At { value: key.get_ref().to_string(), span: key.span() };
            (key, convert(value, errors))
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.span.start);
    Item::Table(entries)
}

fn convert(value: &Spanned<DeValue<'_>>, errors: &mut Vec<Diagnostic>) -> Node {
    let span = value.span();
    let value = match value.get_ref() {
        DeValue::String(text) => Item::Text(text.to_string()),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(i) => Item::Int(i),
            Err(_) => {
                errors.push(Diagnostic::new(
                    &span,
                    format!("{} does not fit in 64 bits", i.as_str()),
                    "whole numbers lie between -9223372036854775808 and 9223372036854775807",
                    "write a smaller number",
                ));
                Item::Int(0)
            }
        },
        DeValue::Float(f) => Item::Float(f.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(b) => Item::Bool(*b),
        DeValue::Datetime(d) => Item::Datetime(d.to_string()),
        DeValue::Array(nodes) => Item::Array(nodes.iter().map(|n| convert(n, errors)).collect()),
        DeValue::Table(table) => convert_table(table, errors),
    };
    Node { span, value }
}

/// Puts an override `a.b.c = value` into a tree, making the tables on the way. The value is TOML
/// where it can be read as such, else a string; an empty one takes the key away.
pub fn set(root: &mut Node, path: &str, value: &str) -> Result<(), Diagnostic> {
    let refuse = |reason: &str| {
        Diagnostic::new(
            &(0..0),
            format!("`--set {path}={value}` cannot be applied"),
            reason,
            "write it as table.name.key=value, for example --set source.orders.path=orders.csv",
        )
    };
    let parts: Vec<&str> = path.split('.').collect();
    if parts.len() < 2 || parts.iter().any(|p| p.is_empty()) {
        return Err(refuse("the path has fewer than two parts, or an empty one"));
    }
    let parsed = DeValue::parse(value).ok().map(|v| convert(&v, &mut Vec::new()).value);
    let item = match parsed {
        Some(item) => item,
        None => Item::Text(value.to_string()),
    };
    let mut at = root;
    for part in &parts[..parts.len() - 1] {
        let Item::Table(entries) = &mut at.value else {
            return Err(refuse(&format!("there is no table above `{part}`")));
        };
        let index = entries.iter().position(|(k, _)| k.value == *part).unwrap_or_else(|| {
            let node = Node { span: 0..0, value: Item::Table(Vec::new()) };
            entries.push((At::nowhere(part.to_string()), node));
            entries.len() - 1
        });
        at = &mut entries[index].1;
    }
    let Item::Table(entries) = &mut at.value else {
        return Err(refuse("the last part but one is no table"));
    };
    let key = parts[parts.len() - 1];
    if value.is_empty() {
        entries.retain(|(k, _)| k.value != key);
        return Ok(());
    }
    let node = nowhere(item);
    match entries.iter_mut().find(|(k, _)| k.value == key) {
        Some((k, old)) => {
            k.span = 0..0;
            *old = node;
        }
        None => entries.push((At::nowhere(key.to_string()), node)),
    }
    Ok(())
}

/// Forgets where a value was written: it was given on the command line.
fn nowhere(value: Item) -> Node {
    let value = match value {
        Item::Array(nodes) => Item::Array(nodes.into_iter().map(|n| nowhere(n.value)).collect()),
        Item::Table(entries) => Item::Table(
            entries.into_iter().map(|(k, n)| (At::nowhere(k.value), nowhere(n.value))).collect(),
        ),
        other => other,
    };
    Node { span: 0..0, value }
}

/// Replaces `${NAME}`, `${NAME:-default}` and `$$` in every string of a tree.
pub fn substitute(
    node: &mut Node,
    env: &dyn Fn(&str) -> Option<String>,
    errors: &mut Vec<Diagnostic>,
) {
    match &mut node.value {
        Item::Text(text) if text.contains('$') => match expand(text, env) {
            Ok(expanded) => *text = expanded,
            Err((reason, cure)) => errors.push(Diagnostic::new(
                &node.span,
                "a variable of the environment cannot be put in",
                reason,
                cure,
            )),
        },
        Item::Array(nodes) => nodes.iter_mut().for_each(|n| substitute(n, env, errors)),
        Item::Table(entries) => entries.iter_mut().for_each(|(_, n)| substitute(n, env, errors)),
        _ => {}
    }
}

fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, (String, String)> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = after.find('}').ok_or_else(|| {
                ("`${` is not closed".to_string(), "write ${NAME}, or $$ for a dollar".to_string())
            })?;
            let (name, default) = match after[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&after[..end], None),
            };
            let found = env(name).or_else(|| default.map(str::to_string)).ok_or_else(|| {
                let cure = format!("export {name}=..., or give a default: ${{{name}:-...}}");
                (format!("`{name}` is not set"), cure)
            })?;
            out.push_str(&found);
            rest = &after[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}
