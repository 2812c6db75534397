//! What `produce` says when it is done: what is in each topic, and how to read it.

use std::path::Path;

use serde_json::{Map, Value as Json, json};
use tidemill_config::plan::SourcePlan;
use toml::{Table, Value};

use super::super::{Said, word};
use super::{Options, Produced};
use crate::observe::thousands;

pub(super) fn said(
    file: &Path,
    overrides: &[(String, String)],
    options: &Options,
    all: &[Produced<'_>],
) -> Said {
    let mut text = String::new();
    for p in all {
        text += &counts(p);
    }
    text += &format!(
        "\nTo read the topics, put these keys into {} in place of those named behind them:\n",
        file.display()
    );
    let mut topics = Vec::new();
    for p in all {
        let name = &p.plan.name.value;
        let keys = keys(p, options);
        text += &format!("\n[source.{name}]         # without {}\n", replaced(p.plan).join(", "));
        for (key, value) in &keys {
            text += &format!("{key} = {value}\n");
        }
        topics.push(json!({
            "source": name,
            "topic": p.topic,
            "created": p.created,
            "rows": p.rows,
            "refused": p.refused,
            "not_finite": p.not_finite,
            "keys": keys.iter().map(|(k, v)| (k.clone(), json!(v))).collect::<Map<_, Json>>(),
        }));
    }
    // A property's name has dots of its own, which `--set` would take for tables.
    if options.properties.is_empty() {
        text += &format!("\nOr leave the file as it is:\n{}\n", run(file, overrides, options, all));
    }
    Said { text, json: json!({ "topics": topics }) }
}

/// One line a source.
fn counts(p: &Produced<'_>) -> String {
    let mut line = format!("{} -> {}: {} rows", p.plan.name.value, p.topic, thousands(p.rows));
    if p.refused > 0 {
        line += &format!(", {} records rejected", thousands(p.refused));
    }
    if p.not_finite > 0 {
        line += &format!(", {} numbers that are not finite are null", thousands(p.not_finite));
    }
    if !p.created {
        line += " (the topic was there already: they are added to what it holds)";
    }
    line + "\n"
}

/// The keys of a source that mean nothing once it reads Kafka.
fn replaced(plan: &SourcePlan) -> Vec<&str> {
    let own = plan.section.keys.iter().map(|(key, _)| key.value.as_str());
    own.filter(|key| *key != "max_record").collect()
}

/// The keys with which a source reads its topic.
fn keys(p: &Produced<'_>, options: &Options) -> Vec<(String, Value)> {
    let mut keys = Vec::new();
    let mut add = |key: &str, value: Value| keys.push((key.to_string(), value));
    add("type", "kafka".into());
    add("brokers", options.brokers.join(",").into());
    add("topic", p.topic.clone().into());
    if p.plan.format.is_some() {
        add("format", "json".into());
    }
    add("until", "end".into());
    if !options.properties.is_empty() {
        let properties = options.properties.iter();
        let table: Table =
            properties.map(|(name, value)| (name.clone(), shown(name, value).into())).collect();
        add("properties", Value::Table(table));
    }
    keys
}

/// A property as it may be shown: what is secret is named as a variable of the environment.
fn shown(name: &str, value: &str) -> String {
    let secret = ["password", "passphrase", "secret", "key.pem", "sasl.jaas", "oauthbearer.config"];
    if !secret.iter().any(|part| name.contains(part)) {
        return literal(value);
    }
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("${{{}}}", name.chars().map(letter).collect::<String>())
}

/// A text of a pipeline file that stands for itself: a dollar there begins a variable.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// The command that reads the topics without a change of the file.
fn run(
    file: &Path,
    overrides: &[(String, String)],
    options: &Options,
    all: &[Produced<'_>],
) -> String {
    let mut text = format!("  tidemill run {}", word(&file.display().to_string()));
    let mut set = |pair: String| text += &format!(" \\\n    --set {}", word(&pair));
    for (key, value) in overrides {
        set(format!("{key}={value}"));
    }
    for p in all {
        let source = &p.plan.name.value;
        for key in replaced(p.plan) {
            set(format!("source.{source}.{key}="));
        }
        for (key, value) in keys(p, options) {
            set(format!("source.{source}.{key}={}", value.as_str().unwrap_or_default()));
        }
    }
    text
}
