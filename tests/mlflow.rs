//! Versions go to a real MLflow server and come back.

#[path = "support/python.rs"]
mod python;
#[path = "support/turncoat.rs"]
mod turncoat;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use turncoat::Turncoat;

/// A server that ends with the test, with all its processes.
struct Server {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        use std::os::unix::process::CommandExt;
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = python::command("mlflow", include_str!("mlflow/requirements.txt"));
        command
            .args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"])
            .args(["--port", &port.to_string(), "--backend-store-uri", "sqlite:///mlflow.db"])
            .args(["--artifacts-destination", "./artifacts"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .process_group(0);
        let mut child = command.spawn().expect("the server starts");
        let address = format!("127.0.0.1:{port}");
        let began = Instant::now();
        loop {
            if TcpStream::connect(&address).is_ok()
                && ask(&address, "GET", "/health", None).0 == 200
            {
                break;
            }
            let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(child.try_wait().expect("a state").is_none(), "{}", log());
            assert!(began.elapsed() < Duration::from_secs(180), "{}", log());
            std::thread::sleep(Duration::from_millis(200));
        }
        Server { child, address, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// A request over a connection of its own: status and JSON.
fn ask(address: &str, method: &str, path: &str, body: Option<&Json>) -> (u16, Json) {
    let Ok(mut stream) = TcpStream::connect(address) else { return (0, Json::Null) };
    let body = body.map(ToString::to_string).unwrap_or_default();
    let _ = write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or(Json::Null))
}

#[test]
fn versions_go_to_mlflow_and_come_back() {
    let data = Turncoat::new(74, &[], "promote = { when = \"always\" }");
    data.run("out", &[]);
    let server = Server::start();
    let url = format!("http://{}", server.address);
    let at = ["--server", url.as_str()];
    let push = || data.models(&[&["push", "out", "trees"][..], &at].concat());
    let pushed = push();
    assert_eq!((&pushed["versions"], &pushed["new"]), (&json!(3), &json!(3)), "{pushed}");
    assert_eq!(push()["new"], 0, "pushing again registers nothing twice");
    let alias = |alias: &str| {
        let path = format!("/api/2.0/mlflow/registered-models/alias?name=trees&alias={alias}");
        ask(&server.address, "GET", &path, None).1["model_version"]["version"].clone()
    };
    assert_eq!((alias("champion"), alias("previous")), (json!("3"), json!("2")));

    // Somebody moves the alias on the server; another registry takes the version from there.
    let moved = json!({ "name": "trees", "alias": "champion", "version": "1" });
    let path = "/api/2.0/mlflow/registered-models/alias";
    assert_eq!(ask(&server.address, "POST", path, Some(&moved)).0, 200);
    let pulled = data.models(&[&["pull", "elsewhere", "trees"][..], &at].concat());
    assert_eq!(pulled["version"], 1, "{pulled}");
    let ours = data.models(&["show", "out", "trees", "1"]);
    let theirs = data.models(&["show", "elsewhere", "trees", "1"]);
    assert_eq!(ours["version"], theirs["version"]);
    // And the run that made it is told to serve it.
    let pulled = data.models(&[&["pull", "out", "trees", "--promote"][..], &at].concat());
    assert_eq!(pulled["order"]["order"], "promote trees 1", "{pulled}");

    for wrong in [
        &["pull", "out", "trees", "--alias", "nobody"][..],
        &["pull", "out", "nobody"],
        &["push", "out", "nobody"],
    ] {
        let words = [&["models"], wrong, &at[..]].concat();
        let output = data.tidemill(&words).output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("cure:"), "{wrong:?}: {said}");
    }
}
