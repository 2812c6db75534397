//! The client of Ray's Jobs REST API, which our bridge to Dask speaks too.
//!
//! The id is ours and is written down before the call: a lost answer is settled by asking for the id, and
//! a second submission of it is refused by the other side, which is as good as a yes.
//! <https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html>

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::At;
use tidemill_config::section::{Params, Section};
use tidemill_types::Error;
use tidemill_types::task::{Failure, FailureClass};
use ureq::Agent;

use super::queue::Queue;
use super::supervisor::{self, Job, Peer, Seen, Supervisor, Terms};
use super::{Executor, Keys, Setup};
use crate::keys;

/// Keys of a peer with an address, and those of every executor whose tasks run apart.
pub(super) const KEYS: Keys = &{
    let mut all = [OWN[0]; OWN.len() + supervisor::KEYS.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < OWN.len() { OWN[at] } else { supervisor::KEYS[at - OWN.len()] };
        at += 1;
    }
    all
};

const OWN: Keys = &[
    ("address", "text", "where its REST API is: http://HOST:PORT"),
    ("token_file", "text, none", "a file with the bearer token"),
    ("folder_there", "text, none", "where the cluster sees the run's folder, if at another place"),
];

/// What those keys say.
pub(super) struct Address {
    url: String,
    token_file: Option<PathBuf>,
    pub folder_there: Option<PathBuf>,
}

/// Opens an executor before a peer of this name.
pub(super) fn open(
    name: &'static str,
    section: &Section,
    setup: &Setup,
) -> Result<Box<dyn Executor>, Error> {
    let (address, terms) = read(section).map_err(keys::error)?;
    let there = address.folder_there.clone();
    let peer = Jobs::new(name, address);
    Ok(Box::new(Queue::start(Supervisor::new(peer, terms, setup, there))?))
}

/// Reads the keys of such a peer.
pub(super) fn read(section: &Section) -> Result<(Address, Terms), Vec<Diagnostic>> {
    let mut params = section.params();
    let url = address(&mut params);
    let token_file = params.optional_text("token_file").map(|text| match text.span.is_empty() {
        true => PathBuf::from(text.value),
        false => section.folder.join(text.value),
    });
    let folder_there = params.optional_text("folder_there").map(|text| PathBuf::from(text.value));
    let mut terms = Terms::read(&mut params);
    params.finish()?;
    if !section.keys.iter().any(|(key, _)| key.value == "command") {
        // This program's path means nothing on another machine.
        terms.command = vec!["tidemill".to_string(), "train".to_string()];
    }
    Ok((Address { url, token_file, folder_there }, terms))
}

fn address(params: &mut Params) -> String {
    let At { value, span } = params.text("address");
    if !value.is_empty() && !value.starts_with("http://") {
        params.refuse(Diagnostic::new(
            &span,
            format!("`{value}` is no address of a REST API"),
            "it begins with http://; TLS is left to a proxy",
            "write for example \"http://127.0.0.1:8265\"",
        ));
    }
    value.trim_end_matches('/').to_string()
}

/// A Ray head, or our bridge to Dask.
pub(super) struct Jobs {
    name: &'static str,
    url: String,
    token_file: Option<PathBuf>,
    agent: Agent,
}

type Answer = Result<(u16, String), Failure>;

impl Jobs {
    pub fn new(name: &'static str, address: Address) -> Jobs {
        let config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(2)))
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            // A connection that was kept may be dead by the next look, and that would say nothing.
            .max_idle_connections(0)
            .build();
        let Address { url, token_file, .. } = address;
        Jobs { name, url, token_file, agent: config.into() }
    }

    /// Read each time, so that a token may be exchanged while the pipeline runs.
    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|e| {
            let message = format!("cannot read the token in {}: {e}", path.display());
            Failure::new(FailureClass::Code, "NO_TOKEN", message)
        })?;
        Ok(Some(format!("Bearer {}", text.trim())))
    }

    fn call(&self, method: &str, path: &str, body: Option<&Json>) -> Answer {
        let url = format!("{}{path}", self.url);
        let mut request = ureq::http::Request::builder().method(method).uri(&url);
        if let Some(token) = self.token()? {
            request = request.header("Authorization", token);
        }
        let body = match body {
            Some(json) => {
                request = request.header("Content-Type", "application/json");
                json.to_string()
            }
            None => String::new(),
        };
        let lost = |e: &dyn std::fmt::Display| {
            let message = format!("{} does not answer at {}: {e}", self.name, self.url);
            Failure::new(FailureClass::Infra, "UNREACHABLE", message)
        };
        let request = request.body(body).map_err(|e| lost(&e))?;
        let mut response = self.agent.run(request).map_err(|e| lost(&e))?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|e| lost(&e))?;
        if matches!(status, 401 | 403) {
            let message = format!(
                "{} at {} refuses the token ({status}): put a valid one into the file that `token_file` names",
                self.name, self.url
            );
            return Err(Failure::new(FailureClass::Code, "UNAUTHORIZED", message));
        }
        Ok((status, text))
    }

    fn said(&self, what: &str, status: u16, text: &str) -> Failure {
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
        let message = format!("{} {what}: {status} {}", self.name, line.trim());
        let class = match status {
            400 | 404 | 405 | 422 => FailureClass::Code,
            _ => FailureClass::Infra,
        };
        Failure::new(class, "REFUSED", message)
    }
}

impl Peer for Jobs {
    fn start(&mut self, job: &Job) -> Result<(), Failure> {
        let limits = &job.limits;
        let mut body = json!({
            "submission_id": job.id,
            "entrypoint": job.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
            "entrypoint_num_cpus": limits.cpus,
            "entrypoint_memory": limits.memory_mb << 20,
            "metadata": { "tidemill": job.id },
        });
        if limits.gpus > 0 {
            body["entrypoint_num_gpus"] = json!(limits.gpus);
        }
        match self.call("POST", "/api/jobs/", Some(&body)) {
            Ok((200, _)) => Ok(()),
            // Ours from an answer that was lost: the id is nobody else's.
            Ok((409, _)) => Ok(()),
            Ok((500, text)) if text.contains("already exists") => Ok(()),
            Ok((status, text)) => Err(self.said("did not take the job", status, &text)),
            Err(failure) if failure.class == FailureClass::Infra => match self.look(&job.id) {
                Ok(Seen::Unknown) | Err(_) => Err(failure),
                Ok(_) => Ok(()),
            },
            Err(failure) => Err(failure),
        }
    }

    fn look(&mut self, id: &str) -> Result<Seen, Failure> {
        let (status, text) = self.call("GET", &format!("/api/jobs/{id}"), None)?;
        if status == 404 {
            return Ok(Seen::Unknown);
        }
        let json: Json = serde_json::from_str(&text).unwrap_or(Json::Null);
        let code = json["driver_exit_code"].as_i64().and_then(|code| i32::try_from(code).ok());
        let message = json["message"].as_str().unwrap_or_default().to_string();
        match json["status"].as_str() {
            Some("PENDING") => Ok(Seen::Pending),
            Some("RUNNING") => Ok(Seen::Running),
            // Without an exit code the process was never seen to end: its host or its supervisor died.
            Some("SUCCEEDED") => Ok(Seen::Ended(Some(code.unwrap_or(0)), message)),
            Some("FAILED" | "STOPPED") => Ok(Seen::Ended(code, message)),
            _ => Err(self.said("says nothing of the job", status, &text)),
        }
    }

    fn stop(&mut self, id: &str) {
        if let Err(failure) = self.call("POST", &format!("/api/jobs/{id}/stop"), None) {
            tracing::warn!(id, "{failure}");
        }
    }

    fn forget(&mut self, id: &str, log: Option<&Path>) {
        if let Some(log) = log {
            let said = self.call("GET", &format!("/api/jobs/{id}/logs"), None);
            let said = said.ok().and_then(|(_, text)| serde_json::from_str::<Json>(&text).ok());
            if let Some(text) = said.as_ref().and_then(|json| json["logs"].as_str()) {
                let _ = std::fs::write(log, text);
            }
        }
        // A head keeps every job that nobody removes; one that has not quite ended stays.
        let _ = self.call("DELETE", &format!("/api/jobs/{id}"), None);
    }

    fn probe(&mut self) -> Result<(), Failure> {
        match self.call("GET", "/api/version", None)? {
            (200, _) => Ok(()),
            (status, text) => Err(self.said("is not well", status, &text)),
        }
    }
}

/// A word of a shell's command line.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_reach_the_other_side_whole() {
        for word in ["", "plain", "two words", "it's", "$HOME `x` \"y\" \\", "a\nb", "*"] {
            let line = format!("printf %s {}", quoted(word));
            let out = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), word);
        }
    }
}
