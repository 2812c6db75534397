//! What is under `deploy/`, each checked as far as it can be without what runs it.

#[path = "support/python.rs"]
mod python;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tidemill::observe::Metrics;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Names of metrics in a query, without the endings of a histogram's series.
fn named(query: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = query.split(|c| !word(c)).filter(|w| w.starts_with("tidemill_"));
    let whole = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        base.unwrap_or(name).to_string()
    };
    words.map(whole).collect()
}

fn exported() -> BTreeSet<String> {
    let metrics = Metrics::new("test").expect("metrics");
    metrics.names().iter().cloned().collect()
}

fn promtool(arguments: &[&str]) -> String {
    let done = Command::new("promtool").args(arguments).output();
    let done = done.expect("promtool, of Debian's package prometheus");
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "promtool {arguments:?}:\n{said}");
    said.into_owned()
}

fn rules() -> String {
    read("deploy/prometheus/tidemill.rules.yml")
}

#[test]
fn rules_are_sound_and_fire_when_they_should() {
    let path = |name: &str| root().join("deploy/prometheus").join(name).display().to_string();
    let said = promtool(&["check", "rules", &path("tidemill.rules.yml")]);
    let alerts = rules().matches("- alert: ").count();
    assert!(said.contains(&format!("{alerts} rules found")), "{said}");
    promtool(&["check", "config", &path("prometheus.yml")]);
    promtool(&["test", "rules", &path("rules_test.yml")]);
}

/// A rule over a metric that nobody exports never fires, and says nothing of it.
#[test]
fn every_metric_of_rules_tests_and_panels_exists() {
    let exported = exported();
    let panels = read("deploy/grafana/tidemill.json");
    for (file, text, least) in [
        ("the rules", rules(), 15),
        ("their tests", read("deploy/prometheus/rules_test.yml"), 8),
        ("the panels", panels, 20),
    ] {
        let text: Vec<&str> =
            text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let found = named(&text.join("\n"));
        let found: BTreeSet<String> =
            found.into_iter().filter(|name| name.len() > "tidemill_".len()).collect();
        assert!(found.len() >= least, "{file}: only {found:?}");
        let unknown: Vec<&String> = found.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} name {unknown:?}; there are {exported:?}");
    }
    // And what is looked for would be found.
    let wrong =
        named("rate(tidemill_epochs_total[5m]) / tidemill_http_request_duration_seconds_sum");
    let unknown: Vec<&String> = wrong.difference(&exported).collect();
    assert_eq!(unknown, ["tidemill_epochs_total"]);
}

#[test]
fn every_alert_has_its_page_and_every_page_its_alert() {
    let (rules, runbook) = (rules(), read("docs/runbook.md"));
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let pages: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert!(alerts.len() >= 15);
    assert_eq!(alerts, pages, "alerts and pages, in the same order");
    for alert in &alerts {
        let link = format!("runbook_url: docs/runbook.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} does not name its page");
        let page = runbook.split(&format!("## {alert}\n")).nth(1).expect("a page");
        let page = page.split("\n## ").next().expect("a page");
        for part in ["**What happened.**", "**What you see.**", "**What to do.**", "\n1. "] {
            assert!(page.contains(part), "the page of {alert} has no {part}");
        }
    }
    // What a page tells people to type must be there.
    let help = |command: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_tidemill")).args(command).arg("--help").output();
        output.is_ok_and(|output| output.status.success())
    };
    for part in runbook.split("`tidemill ").skip(1) {
        let words: Vec<&str> = part.split('`').next().unwrap_or_default().split(' ').collect();
        let plain = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        let command: Vec<&str> = words.iter().take_while(plain).take(2).copied().collect();
        assert!(help(&command), "there is no `tidemill {}`", command.join(" "));
    }
}

#[test]
fn panels_are_whole_and_their_queries_are_read() {
    let board: Value = serde_json::from_str(&read("deploy/grafana/tidemill.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut queries = Vec::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        let place = &panel["gridPos"];
        let edge = place["x"].as_u64().zip(place["w"].as_u64()).map(|(x, w)| x + w);
        assert!(edge.is_some_and(|edge| edge <= 24), "{panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(target["expr"].as_str().expect("a query").to_string());
        }
    }
    assert!(queries.len() >= 25, "{}", queries.len());
    // As rules that record, Prometheus' own parser reads them.
    let recorded: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(n, query)| {
            let query = query.replace("$__rate_interval", "5m").replace("$instance", ".*");
            json!({"record": format!("panel:{n}"), "expr": query.replace("$job", "tidemill")})
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("panels.yml");
    // JSON is YAML.
    let text = json!({"groups": [{"name": "panels", "rules": recorded}]}).to_string();
    std::fs::write(&file, text).expect("a file");
    promtool(&["check", "rules", &file.display().to_string()]);
}

/// Options of `tidemill run` in a text.
fn has_options(text: &str, whose: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill")).args(["run", "--help"]).output();
    let help = String::from_utf8_lossy(&output.expect("the program starts").stdout).into_owned();
    let mut found = 0;
    for option in text.split_whitespace().filter(|word| word.starts_with("--")) {
        let name = option.split('=').next().unwrap_or_default();
        assert!(
            help.contains(&format!("{name} ")) || help.contains(&format!("{name}\n")),
            "{whose}: `run` has no {name}"
        );
        found += 1;
    }
    assert!(found >= 3, "{whose} has only {found} options");
}

/// What a manifest says of its probes, and its arguments.
fn manifest(name: &str, ports: &[&str]) -> String {
    let requirements = include_str!("deploy/requirements.txt");
    let mut command = python::command("kubernetes", requirements);
    command.arg(root().join("tests/deploy/kubernetes.py"));
    command.arg(root().join("deploy/kubernetes").join(name)).args(ports);
    let done = command.output().expect("python3");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    said
}

#[test]
fn manifests_are_what_kubernetes_reads() {
    let said = manifest("tidemill.yaml", &["8080"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..4], ["/healthz", "/healthz", "/readyz", "run"], "{said}");
    has_options(&said, "the StatefulSet");
    has_options(&manifest("processes.yaml", &["8080", "2101"]), "the StatefulSet of several");
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let unit = read("deploy/systemd/tidemill@.service");
    let run = unit.lines().find(|line| line.starts_with("ExecStart=")).expect("a command");
    has_options(run, "the unit");
    let variables = read("deploy/systemd/example.env");
    for name in ["SERVE", "WORKERS"] {
        assert!(run.contains(&format!("${{{name}}}")) && variables.contains(&format!("{name}=")));
    }
    // Errors of the pipeline file and of options must not be tried for ever.
    assert!(unit.contains("RestartPreventExitStatus=2 64 78"));
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("no systemd-analyze on this machine: the unit's options alone were checked");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("tidemill@.service");
    let here = unit.replace("/usr/local/bin/tidemill", env!("CARGO_BIN_EXE_tidemill"));
    std::fs::write(
        &path,
        here.replace("User=tidemill", "User=root").replace("Group=tidemill", "Group=root"),
    )
    .expect("a file");
    let done = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
    let said = String::from_utf8_lossy(&done.expect("systemd-analyze").stderr).into_owned();
    let own: Vec<&str> = said.lines().filter(|line| line.contains("tidemill")).collect();
    assert!(own.is_empty(), "{own:?}");
}

#[test]
fn the_image_is_made_of_what_is_there() {
    let text = read("deploy/Dockerfile");
    let minimum = read("Cargo.toml");
    let minimum = minimum.split("rust-version = \"").nth(1).and_then(|rest| rest.split('"').next());
    let minimum = minimum.expect("a version");
    assert!(
        text.contains(&format!("FROM rust:{minimum}-")),
        "the compiler is older than {minimum}"
    );
    assert!(text.contains("USER 10001") && text.contains("ENTRYPOINT [\"tidemill\"]"));
    let example: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    let run = example.join(" ");
    has_options(run.split(" run /pipeline").nth(1).expect("an example"), "the Dockerfile");
    for name in read(".dockerignore").lines() {
        assert!(!["Cargo.toml", "src", "trainer", "config"].contains(&name), "{name} is needed");
    }
}
