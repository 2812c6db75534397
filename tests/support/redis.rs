//! A real Redis for tests: a process on loopback, in a folder of its own. Debian's package redis-server has it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tidemill_connectors::client::redis::{Connection, Files, Server, Value};

/// A server; it dies with this value, and also when the test process dies without dropping it.
pub struct Redis {
    folder: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    /// Whose certificates it uses, if it speaks TLS alone.
    authority: Option<Authority>,
    process: Option<Child>,
}

/// Somebody who signs certificates: of servers on this machine, and of programs that speak to them.
#[derive(Clone)]
pub struct Authority(std::sync::Arc<tempfile::TempDir>);

impl Authority {
    /// With files `ca.pem`, and `server.pem` and `client.pem` beside their keys.
    pub fn new() -> Authority {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
        ca.distinguished_name.push(DnType::CommonName, "authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = ca.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(ca, key);
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("ca.pem", certificate.pem());
        for name in ["server", "client"] {
            let names = vec!["127.0.0.1".to_string()];
            let mut params = CertificateParams::new(names).expect("parameters");
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().expect("a key");
            let signed = params.signed_by(&key, &issuer).expect("a certificate");
            write(&format!("{name}.pem"), signed.pem());
            write(&format!("{name}-key.pem"), key.serialize_pem());
        }
        Authority(std::sync::Arc::new(folder))
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// The keys of the sink with which it trusts these servers, and they trust it.
    pub fn keys(&self) -> String {
        let file = |key: &str, name: &str| format!("{key} = \"{}\"\n", self.file(name));
        file("ca", "ca.pem")
            + &file("certificate", "client.pem")
            + &file("private_key", "client-key.pem")
    }
}

/// A port that nobody listens on just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Fields and values by key.
pub type Contents = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

impl Redis {
    /// Starts one with these arguments, `--appendonly yes` for example.
    pub fn start(arguments: &[&str]) -> Redis {
        Redis::begin(arguments, None)
    }

    /// Starts one that speaks TLS, and only with programs that have a certificate.
    pub fn secured(arguments: &[&str], authority: &Authority) -> Redis {
        Redis::begin(arguments, Some(authority))
    }

    fn begin(arguments: &[&str], authority: Option<&Authority>) -> Redis {
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        if let Some(authority) = authority {
            for (key, name) in [
                ("--tls-ca-cert-file", "ca.pem"),
                ("--tls-cert-file", "server.pem"),
                ("--tls-key-file", "server-key.pem"),
            ] {
                arguments.extend([key.to_string(), authority.file(name)]);
            }
        }
        for _ in 0..5 {
            let folder = tempfile::tempdir().expect("a temporary folder");
            // Somebody else may take the port between our asking for it and the server's.
            let (port, authority) = (free_port(), authority.cloned());
            let arguments = arguments.clone();
            let mut redis = Redis { folder, port, arguments, authority, process: None };
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
        let port = self.port.to_string();
        let ports = match self.authority {
            Some(_) => vec!["--port", "0", "--tls-port", &port],
            None => vec!["--port", &port],
        };
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "redis", "--bind", "127.0.0.1", "--save", ""])
            .args(ports)
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
        let scheme = if self.authority.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.address())
    }

    /// Connects to it.
    pub fn connect(&self) -> Connection {
        let mut files = Files::default();
        if let Some(authority) = &self.authority {
            files.ca = Some(authority.file("ca.pem").into());
            let identity = ("client.pem", "client-key.pem");
            files.identity =
                Some((authority.file(identity.0).into(), authority.file(identity.1).into()));
        }
        let server = Server::parse(&self.url()).unwrap_or_else(|(why, _)| panic!("{why}"));
        let server = server.trusting(&files).expect("certificates");
        Connection::open(&server).expect("it listens")
    }

    /// Asks it something.
    pub fn ask(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&[u8]> = arguments.iter().map(|a| a.as_bytes()).collect();
        self.connect().ask(&arguments).expect("an answer")
    }

    /// Everything that it holds of a project; the project is cut off the keys.
    pub fn contents(&self, project: &str) -> Contents {
        let mut connection = self.connect();
        let mut found = Contents::new();
        let Ok(Value::Array(keys)) = connection.ask(&[b"KEYS", b"*"]) else { panic!("no keys") };
        for key in keys.into_iter().map(bytes) {
            let Some(entity) = key.strip_suffix(project.as_bytes()) else { continue };
            let Ok(Value::Array(all)) = connection.ask(&[b"HGETALL", &key]) else {
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

/// A cluster: masters that share the slots, and replicas of the first of them.
pub struct Cluster {
    /// The masters, then the replicas.
    pub nodes: Vec<Redis>,
    masters: usize,
}

impl Cluster {
    /// Starts three masters and so many replicas; they are up and know each other.
    pub fn start(replicas: usize, authority: Option<&Authority>) -> Cluster {
        let masters = 3;
        let nodes: Vec<Redis> = (0..masters + replicas)
            .map(|_| {
                let bus = free_port().to_string();
                let mut arguments = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
                arguments.extend(["--cluster-node-timeout", "1500", "--appendonly", "yes"]);
                arguments.extend(["--repl-diskless-sync-delay", "0"]);
                if authority.is_some() {
                    arguments.extend(["--tls-cluster", "yes", "--tls-replication", "yes"]);
                }
                Redis::begin(&arguments, authority)
            })
            .collect();
        let cluster = Cluster { nodes, masters };
        for (i, node) in cluster.nodes.iter().enumerate() {
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]);
            if i < masters {
                let [from, to] = [i, i + 1].map(|part| part * 16_384 / masters);
                let (from, to) = (from.to_string(), (to - 1).to_string());
                node.ask(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]);
            }
        }
        for node in &cluster.nodes[1..] {
            let bus = node.arguments[3].clone();
            let port = node.port.to_string();
            cluster.nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let all = format!("cluster_known_nodes:{}", cluster.nodes.len());
        cluster.wait("know each other", |node| node.says(&["CLUSTER", "INFO"], &all));
        let first = cluster.nodes[0].id();
        for replica in &cluster.nodes[masters..] {
            replica.ask(&["CLUSTER", "REPLICATE", &first]);
        }
        cluster.wait("are up", |node| node.says(&["CLUSTER", "INFO"], "cluster_state:ok"));
        for replica in &cluster.nodes[masters..] {
            wait("has followed", || {
                replica.says(&["INFO", "replication"], "master_link_status:up")
            });
        }
        cluster
    }

    fn wait(&self, what: &str, ready: impl Fn(&Redis) -> bool) {
        wait(what, || self.nodes.iter().all(&ready));
    }

    /// All masters as the sink's `url`.
    pub fn url(&self) -> String {
        let urls = self.nodes[..self.masters].iter().map(|node| format!("{:?}", node.url()));
        format!("[{}]", urls.collect::<Vec<_>>().join(", "))
    }

    /// Everything that masters hold of a project, as [`Redis::contents`].
    pub fn contents(&self, project: &str) -> Contents {
        let is_master = |node: &&Redis| node.is_up() && node.says(&["ROLE"], "master");
        self.nodes.iter().filter(is_master).flat_map(|node| node.contents(project)).collect()
    }
}

fn wait(what: &str, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ready() {
        assert!(Instant::now() < deadline, "never: servers {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

impl Redis {
    /// Whether its answer begins so or has such a line.
    pub fn says(&self, arguments: &[&str], line: &str) -> bool {
        let answer = match self.ask(arguments) {
            Value::Array(mut all) if !all.is_empty() => all.remove(0),
            answer => answer,
        };
        String::from_utf8_lossy(&bytes(answer)).lines().any(|said| said.trim() == line)
    }

    /// Its name in the cluster.
    pub fn id(&self) -> String {
        String::from_utf8(bytes(self.ask(&["CLUSTER", "MYID"]))).expect("a text")
    }

    /// Its port, as a text.
    pub fn port(&self) -> String {
        self.port.to_string()
    }

    fn is_up(&self) -> bool {
        self.process.is_some()
    }
}

/// The bytes of an answer.
pub fn bytes(reply: Value) -> Vec<u8> {
    match reply {
        Value::BulkString(bytes) => bytes,
        other => panic!("no bytes: {other:?}"),
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
