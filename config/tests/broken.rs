//! Broken pipeline files: each error names file, line, reason and cure, as kept beside the file.
//! `TIDEMILL_BLESS=1` rewrites what is expected.

use std::path::{Path, PathBuf};

use tidemill_config::document::parse;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder of broken files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a text")
}

#[test]
fn each_error_names_file_line_reason_and_cure() {
    let mut kinds = 0;
    for file in files().iter().filter(|f| f.file_stem().is_some_and(|s| s != "sound")) {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let report = parse(&name, &read(file), Path::new(""), &[], &|_| None)
            .err()
            .unwrap_or_else(|| panic!("{name} was taken for sound"));
        let found = report.to_string();
        for part in [format!("{name}:"), "error: ".into(), "reason: ".into(), "cure: ".into()] {
            assert!(found.contains(&part), "{name}: no `{part}` in\n{found}");
        }
        // Only what is missing altogether has no line.
        let placed = report.diagnostics().iter().filter(|d| !d.span.is_empty()).count();
        assert!(placed > 0 || name.contains("no_pipeline"), "{name} shows no line:\n{found}");
        assert!(report.diagnostics().iter().all(|d| !d.reason.is_empty() && !d.help.is_empty()));
        let expected = file.with_extension("expected");
        if std::env::var_os("TIDEMILL_BLESS").is_some() {
            std::fs::write(&expected, &found).expect("a file to write");
        }
        let wanted = std::fs::read_to_string(&expected)
            .unwrap_or_else(|_| panic!("{name} has no expected error: run with TIDEMILL_BLESS=1"));
        assert_eq!(found, wanted, "{name}");
        kinds += 1;
    }
    assert!(kinds >= 50, "only {kinds} kinds of broken files");
}

#[test]
fn the_file_that_they_are_made_from_is_sound() {
    let text = read(&folder().join("sound.toml"));
    let loaded = parse("sound.toml", &text, Path::new(""), &[], &|_| None);
    let plan = loaded.unwrap_or_else(|report| panic!("{report}")).plan;
    assert_eq!(plan.pipeline.name.value, "shop");
    assert_eq!(plan.sources.len(), 2);
    assert_eq!(plan.windows[0].sources, [0]);
    assert_eq!(plan.labels[0].otherwise, Some(0.0));
    assert_eq!(plan.drifts[0].model, Some(0));
}

/// No text may make the reader panic: every file is cut and bent at seeded places.
#[test]
fn bent_files_are_refused_or_read_but_never_panic() {
    let mut state = 1u64;
    let mut next = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let sound = read(&folder().join("sound.toml"));
    for _ in 0..5_000 {
        let mut bytes = sound.clone().into_bytes();
        for _ in 0..1 + next(3) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] = b" \"[]{}=.,#\n0-$\\x"[next(16)],
                1 => bytes.truncate(at.max(1)),
                _ => {
                    let end = (at + next(12)).min(bytes.len());
                    bytes.drain(at..end);
                    bytes.push(b'\n');
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(report) = parse("bent.toml", &text, Path::new(""), &[], &|_| None) {
            assert!(!report.to_string().is_empty() && !report.pretty().is_empty());
        }
    }
}

#[test]
fn overrides_and_variables_reach_the_plan() {
    let text =
        read(&folder().join("sound.toml")).replace("\"orders.csv\"", "\"${WHERE:-a}/${FILE}\"");
    let env = |name: &str| (name == "FILE").then(|| "o.csv".to_string());
    let set = [("source.orders.lateness".to_string(), "5m".to_string())];
    let plan = parse("x.toml", &text, Path::new("/p"), &set, &env).expect("sound").plan;
    assert_eq!(plan.sources[0].lateness, 300_000_000);
    let mut params = plan.sources[0].section.params();
    assert_eq!(params.path("path").value, Path::new("/p/a/o.csv"));
    let set = [("source.orders.path".to_string(), "here.csv".to_string())];
    let plan = parse("x.toml", &text, Path::new("/p"), &set, &env).expect("sound").plan;
    // What the command line names is not looked for beside the pipeline file.
    assert_eq!(plan.sources[0].section.params().path("path").value, Path::new("here.csv"));
    let set = [("orders".to_string(), "1".to_string())];
    let report = parse("x.toml", &text, Path::new(""), &set, &env).expect_err("no such place");
    assert!(report.to_string().contains("--set orders=1"), "{report}");
}

/// A model stands after those whose margin it reads, and every index follows it there.
#[test]
fn models_stand_after_those_that_they_read() {
    let text = read(&folder().join("sound.toml"));
    let first = "[model.online]\ntype = \"x\"\nlabel = \"refunded\"\ninputs = [\"features.*\", \"trees.margin\"]\n\n[model.trees]";
    let text = text
        .replace("[model.trees]", first)
        .replace("champion = \"trees\"", "champion = \"online\"");
    let plan = parse("x.toml", &text, Path::new(""), &[], &|_| None).expect("sound").plan;
    let names: Vec<&str> = plan.models.iter().map(|m| m.name.value.as_str()).collect();
    assert_eq!(names, ["trees", "online"]);
    assert_eq!(plan.score.expect("a score").champion, 1);
    assert_eq!(plan.drifts[0].model, Some(0));
}
