//! A real server of S3's interface (moto) with one bucket, `tidemill`, below a Python that dies with this value.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value as Json, json};

use crate::python;

/// The server.
pub struct Bucket {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// `http://127.0.0.1:PORT`
    pub address: String,
}

/// What the server is told as who asks; it must not be seen anywhere.
pub const SECRET: &str = "not-for-anybodys-eyes";

impl Bucket {
    /// Starts it on a free port.
    pub fn start() -> Bucket {
        let mut python = python::command("bucket", include_str!("../bucket/requirements.txt"));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bucket/serve.py");
        python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = python.spawn().expect("python");
        let commands = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().expect("its output"));
        let address = answer(&mut answers).as_str().expect("an address").to_string();
        Bucket { process, commands, answers, address }
    }

    /// Has it do something.
    pub fn ask(&mut self, command: Json) -> Json {
        let mut to = self.commands.as_ref().expect("its input");
        writeln!(to, "{command}").expect("it listens");
        answer(&mut self.answers)
    }

    /// All keys that begin so.
    pub fn keys(&mut self, prefix: &str) -> Vec<String> {
        serde_json::from_value(self.ask(json!(["keys", prefix]))).expect("keys")
    }

    /// Has a run keep its checkpoints here, below a prefix.
    pub fn keeps(&self, run: &mut Command, prefix: &str) {
        let store = format!("checkpoint.store=s3://tidemill/{prefix}");
        run.args(["--set", &store, "--set", "checkpoint.region=eu-central-1", "--set"]);
        run.arg(format!("checkpoint.endpoint={}", self.address));
        run.env("AWS_ACCESS_KEY_ID", "tidemill").env("AWS_SECRET_ACCESS_KEY", SECRET);
    }
}

fn answer(answers: &mut BufReader<ChildStdout>) -> Json {
    let mut line = String::new();
    answers.read_line(&mut line).expect("an answer");
    serde_json::from_str(&line).expect("JSON")
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.commands.take());
        let _ = self.process.wait();
    }
}
