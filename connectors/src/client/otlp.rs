//! A collector of traces, over OTLP/HTTP with JSON (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::time::Duration;

use ureq::Agent;

/// How long a collector may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Where traces go.
pub struct Collector {
    url: String,
    agent: Agent,
}

impl Collector {
    /// At this endpoint, `http://127.0.0.1:4318` for example; nothing of one that is no `http://` address.
    pub fn new(endpoint: &str) -> Option<Collector> {
        let place = endpoint.strip_prefix("http://")?;
        if place.is_empty() || place.starts_with('/') {
            return None;
        }
        let config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(2)))
            .timeout_global(Some(ANSWER))
            .build();
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        Some(Collector { url, agent: config.into() })
    }

    /// Sends an `ExportTraceServiceRequest`.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn send(&self, body: &[u8]) -> Result<(), String> {
        let request = self.agent.post(&self.url).header("Content-Type", "application/json");
        request.send(body).map(drop).map_err(|e| format!("{}: {e}", self.url))
    }
}
