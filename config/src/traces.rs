//! `[traces]`: where spans go.

use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::plan::{At, TracesPlan};
use crate::section::Params;
use crate::table::Node;

impl Reader {
    /// Reads `[traces]`.
    pub(crate) fn traces(&mut self, key: &At<String>, node: &Node) -> Option<TracesPlan> {
        let mut p = Params::new("[traces]", &key.span, self.table_of(key, node)?, Path::new(""));
        let endpoint = p.text("endpoint");
        p.choice("protocol", "http/json", &["http/json"]);
        let place = endpoint.value.strip_prefix("http://");
        let named = place.is_some_and(|place| !place.is_empty() && !place.starts_with('/'));
        if !named && !endpoint.value.is_empty() {
            p.error(Diagnostic::new(
                &endpoint.span,
                format!("`endpoint` of [traces] cannot be `{}`", endpoint.value),
                "spans go to a collector over HTTP; TLS is left to it",
                "write endpoint = \"http://127.0.0.1:4318\"",
            ));
        }
        self.finish(p);
        named.then_some(TracesPlan { endpoint: endpoint.value })
    }
}
