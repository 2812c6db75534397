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
    let found = given.or_else(|| known.iter().find(|p| Path::new(p).exists()).map(ToString::to_string));
    found.expect("no Chromium here: `apt-get install chromium`, or name it in CHROMIUM")
}

fn token(name: &str, role: &str) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["--output", "json", "token", name, "--role", role])
        .output()
        .expect("the program starts");
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

/// With `TIDEMILL_SCREENSHOTS=docs/dashboard` the pictures of the documents are made anew.
#[test]
fn every_page_shows_what_is_there_in_light_and_dark_and_on_a_telephone() {
    let checkout = Checkout::start(&[]);
    checkout.ripen("");
    let pictures = std::env::var("TIDEMILL_SCREENSHOTS").unwrap_or_else(|_| {
        checkout.folder.path().join("pictures").display().to_string()
    });
    drive("pages.py", &[&checkout.address, &pictures, &checkout.pid().to_string()]);
}
