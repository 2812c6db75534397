//! A real Redis for tests: a process on loopback, in a folder of its own. Debian's package redis-server has it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tidemill_connectors::client::redis::{Connection, Reply, Server};

/// A server; it dies with this value, and also when the test process dies without dropping it.
pub struct Redis {
    folder: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    process: Option<Child>,
}

/// Fields and values by key.
pub type Contents = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

impl Redis {
    /// Starts one with these arguments, `--appendonly yes` for example.
    pub fn start(arguments: &[&str]) -> Redis {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        for _ in 0..5 {
            let folder = tempfile::tempdir().expect("a temporary folder");
            // Somebody else may take the port between our asking for it and the server's.
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("an address").port();
            drop(listener);
            let mut redis = Redis { folder, port, arguments: arguments.clone(), process: None };
            if redis.try_start() {
                return redis;
            }
        }
        panic!("redis-server, of the package redis-server, did not start five times");
    }

    fn try_start(&mut self) -> bool {
        // Below a shell that kills it when our end of a pipe closes.
        const SCRIPT: &str = "exec 3<&0; redis-server \"$@\" </dev/null 3<&- & server=$!; \
            (cat <&3 >/dev/null; kill -9 $server 2>/dev/null) & exec 3<&- </dev/null; wait $server";
        let output = File::create(self.folder.path().join("output")).expect("a file");
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "redis", "--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(self.port.to_string())
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("the same file"))
            .stderr(output)
            .spawn()
            .expect("a shell");
        self.process = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let gone = self.process.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(Some(_))));
            if gone {
                return false;
            }
            // With a password it answers too: that it wants one.
            match std::net::TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(_) => return true,
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
        false
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            let _ = process.wait();
        }
    }

    /// Takes the last bytes of its log away, as a machine does that loses its power before they were on the
    /// disk; only while it is killed.
    pub fn lose(&self, bytes: u64) {
        let folder = std::fs::read_dir(self.folder.path().join("appendonlydir")).expect("a log");
        let newest = folder.flatten().map(|entry| entry.path());
        let newest = newest.filter(|path| path.to_string_lossy().contains(".incr.")).max();
        let log = File::options().write(true).open(newest.expect("a log")).expect("a log");
        let there = log.metadata().expect("its size").len();
        log.set_len(there.saturating_sub(bytes)).expect("a shorter log");
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self) {
        let begun = (0..5).any(|_| self.try_start());
        assert!(begun, "redis-server did not start again");
    }

    /// The address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address as the sink's `url`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Asks it something.
    pub fn ask(&self, arguments: &[&str]) -> Reply {
        let arguments: Vec<&[u8]> = arguments.iter().map(|a| a.as_bytes()).collect();
        let server = Server::parse(&self.url()).unwrap_or_else(|(why, _)| panic!("{why}"));
        let mut connection = Connection::open(&server).expect("it listens");
        connection.ask(&arguments).expect("an answer")
    }

    /// Everything that it holds of a project; the project is cut off the keys.
    pub fn contents(&self, project: &str) -> Contents {
        let server = Server::parse(&self.url()).unwrap_or_else(|(why, _)| panic!("{why}"));
        let mut connection = Connection::open(&server).expect("it listens");
        let mut found = Contents::new();
        let Ok(Reply::All(keys)) = connection.ask(&[b"KEYS", b"*"]) else { panic!("no keys") };
        for key in keys.into_iter().map(bytes) {
            let Some(entity) = key.strip_suffix(project.as_bytes()) else { continue };
            let Ok(Reply::All(all)) = connection.ask(&[b"HGETALL", &key]) else {
                panic!("{key:?} is no hash")
            };
            let mut all = all.into_iter().map(bytes);
            let mut fields = BTreeMap::new();
            while let (Some(field), Some(value)) = (all.next(), all.next()) {
                fields.insert(field, value);
            }
            found.insert(entity.to_vec(), fields);
        }
        found
    }
}

fn bytes(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Bytes(Some(bytes)) => bytes,
        other => panic!("no bytes: {other:?}"),
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
