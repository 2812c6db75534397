//! Errors between two messages: which of them end a source, and how often the others are told of.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidemill_types::Error;

use crate::client::kafka::explain;

/// A topic that a broker denies knowing may be one that the broker has not heard of yet.
const DENIED: Duration = Duration::from_secs(30);

/// Between two warnings about the same trouble.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What stands between two messages.
#[derive(Default)]
pub(super) struct Trouble {
    warned: Option<Instant>,
    denied: Option<Instant>,
}

impl Trouble {
    /// Decides whether an error ends the source.
    pub(super) fn met(
        &mut self,
        topic: &str,
        error: &KafkaError,
        last: Option<&str>,
    ) -> Result<(), Error> {
        use RDKafkaErrorCode as Code;
        let what = format!("cannot read the topic {topic}");
        let code = error.rdkafka_error_code();
        let now = Instant::now();
        let fatal = match code {
            Some(
                Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::AutoOffsetReset
                | Code::OffsetOutOfRange,
            ) => true,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                now.duration_since(*self.denied.get_or_insert(now)) >= DENIED
            }
            _ => matches!(error, KafkaError::MessageConsumptionFatal(_)),
        };
        if fatal {
            return Err(explain(&what, error, last));
        }
        if self.warned.is_none_or(|warned| now.duration_since(warned) >= WARN_EVERY) {
            self.warned = Some(now);
            tracing::warn!(topic, "{}; trying on", explain(&what, error, last).message);
        }
        Ok(())
    }
}
