//! The dashboard in headless Chromium, and `tidemill top`, against a pipeline that runs.

#[path = "support/checkout.rs"]
mod checkout;
#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/python.rs"]
mod python;

use std::path::Path;
use std::process::Command;

use checkout::Checkout;

/// Debian's browser, which `tests/run` installs.
fn browser() -> String {
    let known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let given = std::env::var("CHROMIUM").ok();
    let found =
        given.or_else(|| known.iter().find(|p| Path::new(p).exists()).map(ToString::to_string));
    found.expect("no Chromium here: `apt-get install chromium`, or name it in CHROMIUM")
}

/// A token and its entry; with a folder its owner may give orders to the run there.
fn token(name: &str, role: &str, run: Option<&str>) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["--output", "json", "token", name, "--role", role]);
    command.args(run.into_iter().flat_map(|run| ["--run", run]));
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |key: &str| told[key].as_str().expect("a text").to_string();
    (text("token"), text("entry"))
}

fn drive(script: &str, arguments: &[&str]) {
    let mut command = python::command("browser", include_str!("dashboard/requirements.txt"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dashboard").join(script);
    command.arg(path).arg(browser()).args(arguments);
    let done = command.output().expect("python3");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.ends_with("all is well\n"), "{said}");
}

/// Pictures that the document shows.
fn pictures() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/dashboard.md")).expect("the document");
    let named = text.split("](dashboard/").skip(1);
    named.filter_map(|rest| rest.split(')').next().map(str::to_string)).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// With `TIDEMILL_SCREENSHOTS=docs/dashboard` the pictures of the document are made anew.
#[test]
fn every_page_shows_what_is_there_in_light_and_dark_and_on_a_telephone() {
    let checkout = Checkout::start(&[]);
    checkout.ripen("");
    let made = checkout.folder.path().join("pictures");
    let folder = made.display().to_string();
    drive("pages.py", &[&checkout.address, &folder, &checkout.pid().to_string()]);
    keep(&made);
    let names = pictures();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        assert!(root().join("docs/dashboard").join(&name).exists(), "{name} is not there");
    }
}

/// Copies pictures to where they were asked for: those of the document, and all.
fn keep(made: &Path) {
    let named = pictures();
    for (variable, only) in [("TIDEMILL_SCREENSHOTS", true), ("TIDEMILL_ALL_SCREENSHOTS", false)] {
        let Some(to) = std::env::var_os(variable).map(|to| root().join(to)) else { continue };
        std::fs::create_dir_all(&to).expect("a folder");
        for picture in std::fs::read_dir(made).expect("pictures").flatten() {
            let name = picture.file_name();
            if !only || named.iter().any(|named| **named == *name) {
                std::fs::copy(picture.path(), to.join(name)).expect("a picture");
            }
        }
    }
}

fn top(arguments: &[&str], token: Option<&str>) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(arguments).env_remove("TIDEMILL_TOKEN").env_remove("COLUMNS");
    if let Some(token) = token {
        command.env("TIDEMILL_TOKEN", token);
    }
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_api_and_top_say_what_the_run_knows() {
    let (ann, entry) = token("ann", "viewer", None);
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens.toml");
    std::fs::write(&tokens, entry).expect("tokens");
    let checkout = Checkout::start(&["--tokens", &tokens.display().to_string()]);
    let bearer = format!("Authorization: Bearer {ann}\r\n");
    checkout.ripen(&bearer);
    let get = |path: &str| checkout.get(path, &bearer);

    // The page needs nobody, and nothing of it may be made to run what it should not.
    let (status, head, page) = checkout.send("GET", "/", "", "");
    assert_eq!(status, 200);
    let head = head.to_lowercase();
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "nosniff"] {
        assert!(head.contains(part), "no {part} in\n{head}");
    }
    assert!(!page.contains("checkout"), "the page knows nothing of the pipeline");
    assert_eq!(checkout.send("GET", "/assets/app.js", "", "").0, 200);
    assert_eq!(checkout.send("GET", "/assets/..%2fmod.rs", "", "").0, 404);
    assert_eq!(checkout.send("GET", "/api/v1/status", "", "").0, 401);
    assert_eq!(checkout.send("GET", "/api/v1/secrets", &bearer, "").0, 404);
    assert_eq!(checkout.send("GET", "/api/v1/journal?before=x", &bearer, "").0, 400);
    assert_eq!(checkout.send("GET", "/api/v1/drift?drift=none", &bearer, "").0, 404);
    assert_eq!(
        get("/api/v1/pipeline")["caller"],
        serde_json::json!({"name": "ann", "role": "viewer"})
    );

    // Counts are those of the rows: what the API says lies between two looks at the metrics.
    let metric = |name: &str| -> f64 {
        let (status, _, text) = checkout.send("GET", "/metrics", &bearer, "");
        assert_eq!(status, 200);
        let lines = text.lines().filter(|line| line.starts_with(name));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    };
    for (key, name) in [
        ("rows", "tidemill_source_rows_total"),
        ("scores", "tidemill_scores_total"),
        ("dead", "tidemill_dead_letters_total"),
        ("late", "tidemill_late_rows_total"),
        ("alerts", "tidemill_alerts_total"),
    ] {
        let before = metric(name);
        let said = get("/api/v1/status")[key].as_f64().expect("a number");
        std::thread::sleep(std::time::Duration::from_millis(400));
        let after = metric(name);
        assert!(before <= said && said <= after && after > 0.0, "{key}: {before} {said} {after}");
    }
    // Of every metric that is exported there is a value in a run to which everything happens.
    let (_, _, text) = checkout.send("GET", "/metrics", &bearer, "");
    let metrics = tidemill::observe::Metrics::new("checkout").expect("metrics");
    for name in metrics.names() {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is exported and never told");
    }

    // The journal is that on the disk.
    let whole = top(
        &["--output", "json", "journal", "show", &checkout.out("journal").display().to_string()],
        None,
    );
    let whole: serde_json::Value = serde_json::from_str(&whole.1).expect("JSON");
    let newest = get("/api/v1/journal?limit=200&before=20");
    let records = newest["records"].as_array().expect("records");
    assert_eq!(records.len(), 20);
    for record in records {
        let n = usize::try_from(record["n"].as_u64().expect("a number")).expect("small");
        assert_eq!(record, &whole["records"][n]);
    }

    // The same in a terminal, or rather in a pipe.
    let (code, said, error) = top(&["top", &checkout.address, "--once"], Some(&ann));
    assert_eq!(code, Some(0), "{error}");
    for part in [
        "checkout running",
        "payments",
        "verdicts",
        "trees",
        "online *",
        "DRIFT",
        "ALERTS",
        "behind",
    ] {
        assert!(said.contains(part), "no `{part}`:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "{said:?}");
    let (_, json, _) = top(&["--output", "json", "top", &checkout.address, "--once"], Some(&ann));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(json["status"]["rows"].as_u64() > Some(7_000), "{json}");
    let (code, _, error) = top(&["top", &checkout.address, "--once"], None);
    assert!(code == Some(78) && error.contains("TIDEMILL_TOKEN"), "{code:?} {error}");
    let (code, _, error) = top(&["top", "127.0.0.1:1", "--once"], None);
    assert!(code == Some(69) && error.contains("--serve"), "{code:?} {error}");
}

#[test]
fn people_do_what_their_role_allows() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens.toml");
    let out = folder.path().join("known");
    std::fs::create_dir_all(&out).expect("a folder");
    let known = out.display().to_string();
    let (viewer, one) = token("vera", "viewer", None);
    let (operator, two) = token("olaf", "operator", Some(&known));
    let (approver, three) = token("anna", "approver", Some(&known));
    std::fs::write(&tokens, one + &two + &three).expect("tokens");
    let checkout = Checkout::start(&["--tokens", &tokens.display().to_string()]);
    // The run knows its people from its folder, which it reads at each order.
    std::fs::copy(out.join("people.json"), checkout.out("people.json")).expect("people");
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    checkout.ripen(&bearer(&viewer));
    let made = folder.path().join("pictures");
    std::fs::create_dir_all(&made).expect("a folder");
    let pictures = made.display().to_string();
    drive("roles.py", &[&checkout.address, &pictures, &viewer, &operator, &approver]);
    keep(&made);

    // Without the page: each route asks for its role, and what was refused stands in the access journal.
    let post = |path: &str, token: &str| {
        let headers = format!("{}Content-Type: application/json\r\n", bearer(token));
        checkout.send("POST", path, &headers, r#"{"version": 1, "why": "w"}"#).0
    };
    for (what, token, status) in [
        ("promote", &viewer, 403),
        ("rollback", &viewer, 403),
        ("approve", &viewer, 403),
        ("approve", &operator, 403),
        ("retrain", &viewer, 403),
    ] {
        assert_eq!(post(&format!("/api/v1/models/trees/{what}"), token), status, "{what}");
    }
    assert_eq!(post("/api/v1/models/trees/approve", &approver), 200);
    let (_, access, _) =
        top(&["journal", "show", &checkout.out("access").display().to_string()], None);
    for part in ["rollback trees: it refuses everybody", "the role of `olaf` is operator", "vera"] {
        assert!(access.contains(part), "no `{part}`:\n{access}");
    }
    let (_, journal, _) =
        top(&["journal", "show", &checkout.out("journal").display().to_string()], None);
    assert!(journal.contains("\"who\":\"olaf\",\"proven\":true"), "{journal}");
    assert!(!journal.contains(&operator) && !access.contains(&operator));
}
