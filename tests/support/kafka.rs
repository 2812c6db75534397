//! A real Apache Kafka for tests: one node, broker and controller in one process, on loopback.
//!
//! The jars come from Maven Central once and are kept outside the clone, in
//! `$TIDEMILL_CACHE/kafka-4.3.0`, or `$HOME/.cache/tidemill/kafka-4.3.0`. Java 17 and `mvn` are needed.
//!
//! Used by several test crates as `#[path = "..."] mod kafka;`, each of which uses a part of it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const VERSION: &str = "4.3.0";
const POM: &str = include_str!("kafka/pom.xml");
const READY: Duration = Duration::from_secs(60);

/// A broker; it dies with this value, and also when the test process dies without dropping it.
pub struct Broker {
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

/// The broker that the tests of this process share. It stops when the last of them lets go of it;
/// a static would never be dropped.
pub fn shared() -> Arc<Broker> {
    static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let broker = Arc::new(Broker::start());
        *shared = Arc::downgrade(&broker);
        broker
    })
}

/// A name that no other test of this process uses.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Broker {
    /// Starts a broker of one's own, for tests that kill it.
    pub fn start() -> Broker {
        for _ in 0..3 {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let [port, controller] = free_ports();
            configure(folder.path(), port, controller);
            format_storage(folder.path());
            let mut broker = Broker { folder, port, process: None };
            // Somebody else may take a port between our asking for it and Kafka's.
            if broker.restart() {
                return broker;
            }
        }
        panic!("Kafka did not start three times; see its output above");
    }

    /// `host:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends texts to partitions of a topic, each once and in this order.
    pub fn send(&self, topic: &str, events: impl Iterator<Item = (i32, String)>) {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.address()).set("enable.idempotence", "true");
        let producer: BaseProducer = client.create().expect("a producer");
        for (partition, event) in events {
            let mut record =
                BaseRecord::<[u8], str>::to(topic).partition(partition).payload(&event);
            while let Err((_, again)) = producer.send(record) {
                producer.poll(Duration::from_millis(5));
                record = again;
            }
        }
        producer.flush(Duration::from_secs(60)).expect("sent");
    }

    /// Kills it at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // The shell kills Kafka when its standard input ends, then ends too.
            drop(process.stdin.take());
            process.wait().expect("the shell around Kafka to end");
        }
    }

    /// Has it stand still, as a machine that swaps: connections stay, answers do not come.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Has it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let shell = self.process.as_ref().expect("it runs").id();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        let children = children.expect("the shell's children");
        let java = children.split_whitespace().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "java")
        });
        let java = java.expect("Kafka among them");
        let done = Command::new("kill").args(["-s", name, java]).status().expect("kill");
        assert!(done.success());
    }

    /// Starts it again on the same port and data. Returns whether it came up.
    pub fn restart(&mut self) -> bool {
        self.kill();
        self.process = Some(spawn(self.folder.path()));
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            if self.process.as_mut().is_none_or(|p| !matches!(p.try_wait(), Ok(None))) {
                break;
            }
            if TcpStream::connect(self.address()).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let mut said = String::new();
        let log = File::open(self.folder.path().join("output"));
        let _ = log.and_then(|mut log| log.read_to_string(&mut said));
        eprintln!("Kafka is not ready after {READY:?}:\n{said}");
        self.kill();
        false
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|l| l.local_addr().expect("its address").port())
}

fn configure(folder: &Path, port: u16, controller: u16) {
    let data = folder.join("data");
    let text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         auto.create.topics.enable=false\n",
        data.display()
    );
    fs::write(folder.join("server.properties"), text).expect("the broker's configuration");
}

fn format_storage(folder: &Path) {
    let done = Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
        .arg(class_path())
        .args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"])
        .arg(folder.join("server.properties"))
        .output()
        .expect("java, a package such as openjdk-17-jre-headless");
    assert!(done.status.success(), "Kafka's storage: {}", String::from_utf8_lossy(&done.stderr));
}

/// Starts Kafka below a shell that kills it when our end of a pipe closes: in `kill`, or because
/// this process is no more.
fn spawn(folder: &Path) -> Child {
    const SCRIPT: &str = "exec 3<&0; java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        -cp \"$1\" kafka.Kafka \"$2\" </dev/null 3<&- & broker=$!; \
        (cat <&3 >/dev/null; kill -9 $broker 2>/dev/null) & exec 3<&- </dev/null; wait $broker";
    let output = File::create(folder.join("output")).expect("a file for the broker's output");
    Command::new("sh")
        .args(["-c", SCRIPT, "kafka"])
        .arg(class_path())
        .arg(folder.join("server.properties"))
        .stdin(Stdio::piped())
        .stdout(output.try_clone().expect("the same file"))
        .stderr(output)
        .spawn()
        .expect("a shell")
}

/// The jars, fetched if this machine has not got them yet.
fn class_path() -> String {
    let cache = match (std::env::var_os("TIDEMILL_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache/tidemill"),
        (None, None) => std::env::temp_dir().join("tidemill-cache"),
    };
    let jars = cache.join(format!("kafka-{VERSION}"));
    if !jars.is_dir() {
        fs::create_dir_all(&cache).expect("a folder for the jars");
        let lock = File::create(cache.join(format!("kafka-{VERSION}.lock"))).expect("a lock file");
        lock.lock().expect("the lock on the jars");
        if !jars.is_dir() {
            fetch(&cache, &jars);
        }
    }
    format!("{}/*", jars.display())
}

/// Fetches into a folder of its own and renames it, so that `jars` is whole or not there.
fn fetch(cache: &Path, jars: &Path) {
    let folder = tempfile::tempdir_in(cache).expect("a folder beside the jars");
    fs::write(folder.path().join("pom.xml"), POM).expect("a copy of pom.xml");
    let done = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"])
        .current_dir(folder.path())
        .output()
        .expect("mvn, of the package maven");
    assert!(
        done.status.success(),
        "Kafka's jars could not be fetched from Maven Central:\n{}",
        String::from_utf8_lossy(&done.stdout)
    );
    fs::rename(folder.path().join("jars"), jars).expect("the jars under their name");
}
