//! The walls of the house, each with its reason and the way out.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every Rust file under a folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Floors: a package depends only on lower ones. Cargo refuses circles, but not a sideways edge.
#[test]
fn every_package_stands_on_its_floor() {
    let floors = [("types", 0), ("config", 1), ("operators", 2), ("connectors", 2)];
    for (package, floor) in floors {
        let manifest = read(format!("{package}/Cargo.toml"));
        for (other, height) in floors {
            let named = manifest.lines().any(|l| l.starts_with(&format!("tidemill-{other}")));
            assert!(
                !named || height < floor,
                "{package} (floor {floor}) depends on {other} (floor {height}): siblings do not see \
                 each other; put the shared word into types, or the meeting into src"
            );
        }
    }
}

/// A big dependency enters at one known place, so that it can be replaced there.
#[test]
fn big_dependencies_stay_in_their_rooms() {
    let rooms: [(&str, &[&str]); 5] = [
        ("timely", &["operators/src/dataflow/", "src/engine/"]),
        ("datafusion", &["operators/src/expression/"]),
        ("rdkafka", &["connectors/src/client/", "connectors/src/source/", "connectors/src/sink/"]),
        ("tokio", &["src/serve/", "src/checkpoint/store.rs", "connectors/src/"]),
        ("object_store", &["src/checkpoint/store.rs", "src/checkpoint/bucket.rs"]),
    ];
    for folder in ["types/src", "config/src", "operators/src", "connectors/src", "src"] {
        for file in sources(folder) {
            let name = file.strip_prefix(root()).expect("inside").display().to_string();
            let text = read(&file);
            for (word, allowed) in rooms {
                let used = text.lines().map(str::trim_start).any(|line| {
                    line.starts_with(&format!("use {word}"))
                        || (!line.starts_with("//") && line.contains(&format!("{word}::")))
                });
                assert!(
                    !used || allowed.iter().any(|room| name.starts_with(room)),
                    "{name} names {word}: only {allowed:?} may"
                );
            }
        }
    }
}

/// Every file in a kind's folder is on the kind's list; names are unique, snake case.
#[test]
fn every_component_is_on_its_list() {
    use tidemill_operators::{aggregate, drift, predictor, trainer};
    let lists: [(&str, Vec<&str>); 4] = [
        ("aggregate", aggregate::AGGREGATES.iter().map(|e| e.name).collect()),
        ("drift", drift::DETECTORS.iter().map(|e| e.name).collect()),
        ("trainer", trainer::TRAINERS.iter().map(|e| e.name).collect()),
        ("predictor", predictor::PREDICTORS.iter().map(|e| e.name).collect()),
    ];
    for (kind, names) in lists {
        assert!(!names.is_empty(), "{kind}: the list is empty");
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name), "{kind}: `{name}` is there twice");
            let snake =
                name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
            assert!(snake, "{kind}: `{name}` is not snake case");
        }
        let list = read(format!("operators/src/{kind}/mod.rs"));
        for file in sources(&format!("operators/src/{kind}")) {
            let text = read(&file);
            let stem = match file.file_stem().and_then(|s| s.to_str()) {
                Some("mod") => file.parent().and_then(|p| p.file_stem()).and_then(|s| s.to_str()),
                stem => stem,
            };
            let stem = stem.expect("a name");
            if stem != kind && text.lines().any(|l| l.starts_with("pub const ENTRY: Entry")) {
                let listed = list.contains(&format!("{stem}::ENTRY"));
                assert!(
                    listed,
                    "{} has an ENTRY that is not on the list of its kind",
                    file.display()
                );
            }
        }
    }
}

/// A map with dead ends is worse than none.
#[test]
fn paths_in_the_documents_exist() {
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        for part in read(document).split('`').skip(1).step_by(2) {
            let path = part.trim_end_matches('/');
            let looks_like_a_path = path.contains('/')
                && !path.contains([' ', '*', '<', '$', ':', '{'])
                && !path.starts_with(['/', '~', '.']);
            let made_by_runs = path.starts_with("out/") || path.starts_with("target/");
            if looks_like_a_path && !made_by_runs {
                assert!(
                    root().join(path).exists(),
                    "{document} names `{path}`, which is not there"
                );
            }
        }
    }
}

/// Every sample pipeline loads.
#[test]
fn every_sample_pipeline_is_sound() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("config/pipelines")).expect("samples").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "toml") {
            if let Err(report) = tidemill_config::document::load(&path, &[]) {
                panic!("{report}");
            }
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// A demand is met by what a test shows; a test that was renamed must not leave a promise behind.
#[test]
fn every_test_that_a_document_names_is_there() {
    let page = read("docs/requirements.md");
    let named = page.split('`').filter(|word| word.contains("tests") && word.contains(".rs"));
    let mut count = 0;
    for word in named {
        let (file, test) = word.split_once("::").unwrap_or((word, ""));
        let text = read(file);
        count += 1;
        assert!(
            test.is_empty() || text.contains(&format!("fn {test}()")),
            "docs/requirements.md names {word}, and {file} has no such test"
        );
    }
    assert!(count > 30, "{count} tests are named");
}
