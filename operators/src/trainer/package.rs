//! What the trainers of the Python package share: their keys are handed to a library as they are.

use serde_json::{Map, Value as Json, json};
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::section::{Item, Node, Params, Section};

/// A table of the library's own parameters.
pub(super) const PARAMS: (&str, &str, &str) =
    ("params", "any, none", "the library's own parameters: { max_depth = 6 }");

/// What those that boost trees read.
pub(super) const BOOSTING: &[(&str, &str, &str)] =
    &[("rounds", "1 to 100000, 150", "trees"), PARAMS];

/// Reads [`BOOSTING`].
pub(super) fn boosting(section: &Section) -> Result<Json, Vec<Diagnostic>> {
    read(section, |p, out| {
        let rounds = p.integer("rounds", 150, 1..=100_000);
        out.insert("rounds".to_string(), json!(rounds));
    })
}

/// Reads `params` and what `more` reads.
pub(super) fn read(
    section: &Section,
    more: impl FnOnce(&mut Params, &mut Map<String, Json>),
) -> Result<Json, Vec<Diagnostic>> {
    let mut p = section.params();
    let mut out = Map::new();
    more(&mut p, &mut out);
    let params = match p.node("params") {
        None => json!({}),
        Some(Node { value: value @ Item::Table(_), .. }) => plain(value),
        Some(node) => {
            let message = format!("`params` of {} cannot be {}", section.path, node.kind());
            let cure = "write for example { max_depth = 6 }";
            p.refuse(Diagnostic::new(&node.span, message, "it is a table", cure));
            json!({})
        }
    };
    p.finish()?;
    out.insert("params".to_string(), params);
    Ok(Json::Object(out))
}

fn plain(value: &Item) -> Json {
    match value {
        Item::Text(text) | Item::Datetime(text) => json!(text),
        Item::Int(i) => json!(i),
        Item::Float(f) => json!(f),
        Item::Bool(b) => json!(b),
        Item::Array(nodes) => nodes.iter().map(|node| plain(&node.value)).collect(),
        Item::Table(entries) => {
            let pairs = entries.iter().map(|(k, node)| (k.value.clone(), plain(&node.value)));
            Json::Object(pairs.collect())
        }
    }
}
