//! `[traces]`: where spans go.

use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::plan::{At, TracesPlan, TracesProtocol};
use crate::section::Params;
use crate::table::Node;

/// Names and cases.
const PROTOCOLS: [(&str, TracesProtocol); 3] = [
    ("http/protobuf", TracesProtocol::HttpProtobuf),
    ("grpc", TracesProtocol::Grpc),
    ("http/json", TracesProtocol::HttpJson),
];

impl Reader {
    /// Reads `[traces]`.
    pub(crate) fn traces(&mut self, key: &At<String>, node: &Node) -> Option<TracesPlan> {
        let folder = self.folder.clone();
        let mut p = Params::new("[traces]", &key.span, self.table_of(key, node)?, &folder);
        let endpoint = p.text("endpoint");
        let named = p.choice("protocol", PROTOCOLS[0].0, &PROTOCOLS.map(|(name, _)| name));
        let protocol = PROTOCOLS.iter().find(|(name, _)| *name == named);
        let protocol = protocol.map_or(PROTOCOLS[0].1, |(_, protocol)| *protocol);
        let secure = endpoint.value.starts_with("https://");
        if let Some((why, cure)) = wrong(&endpoint.value, protocol)
            && !endpoint.value.is_empty()
        {
            let what = format!("`endpoint` of [traces] cannot be `{}`", endpoint.value);
            p.error(Diagnostic::new(&endpoint.span, what, why, cure));
        }
        let headers = headers(&mut p);
        let ca = p.node("ca").is_some().then(|| p.path("ca"));
        if let Some(ca) = ca.as_ref().filter(|_| !secure) {
            p.error(Diagnostic::new(
                &ca.span,
                "`ca` of [traces] without TLS",
                "`endpoint` begins with http://, so nobody shows a certificate",
                "write https:// in `endpoint`, or leave `ca` out",
            ));
        }
        self.finish(p);
        let ca = ca.map(|ca| ca.value);
        Some(TracesPlan { endpoint: endpoint.value, protocol, headers, ca })
    }
}

/// Why this is no endpoint, and what to write.
fn wrong(endpoint: &str, protocol: TracesProtocol) -> Option<(&'static str, &'static str)> {
    let cure = match protocol {
        TracesProtocol::Grpc => "write endpoint = \"http://127.0.0.1:4317\", or https:// for TLS",
        _ => "write endpoint = \"http://127.0.0.1:4318\", or https:// for TLS",
    };
    let Some(place) = ["http://", "https://"].iter().find_map(|s| endpoint.strip_prefix(s)) else {
        return Some(("it begins with neither http:// nor https://", cure));
    };
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let port = host.rsplit_once(':').map_or("", |(_, port)| port).trim_end_matches(']');
    if host.is_empty() || host.starts_with(':') {
        Some(("it names no host", cure))
    } else if host.contains('@') {
        let cure = "write headers = { authorization = \"Bearer ${TOKEN}\" }";
        Some(("a name and a password in it would be seen in logs", cure))
    } else if host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some(("a host has no spaces", cure))
    } else if host.rsplit_once(':').is_some_and(|_| !host.ends_with(']'))
        && port.parse::<u16>().is_err()
    {
        Some(("the port is no number", cure))
    } else if path.trim_end_matches('/').ends_with("v1/traces") {
        Some(("/v1/traces is added by this program", cure))
    } else if protocol == TracesProtocol::Grpc && !path.is_empty() {
        Some(("gRPC has no path", cure))
    } else {
        None
    }
}

/// Names in small letters, as HTTP/2 wants them.
fn headers(p: &mut Params<'_>) -> Vec<(String, String)> {
    const OURS: [&str; 4] = ["content-type", "content-length", "host", "te"];
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in p.named_texts("headers") {
        let small = name.value.to_ascii_lowercase();
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let wrong = if small.is_empty() || !small.chars().all(token) {
            Some((
                &name.span,
                "it has letters, digits and - _ . alone",
                "name it as the collector's manual does",
            ))
        } else if OURS.contains(&small.as_str()) || small.starts_with("grpc-") {
            Some((&name.span, "the protocol sets it", "leave it out"))
        } else if headers.iter().any(|(other, _)| *other == small) {
            Some((&name.span, "it is there twice; capitals do not matter", "leave one of them out"))
        } else if small.ends_with("-bin") {
            Some((
                &name.span,
                "gRPC takes bytes under such a name",
                "name it as the collector's manual does",
            ))
        } else if value.value.is_empty() || !value.value.chars().all(|c| (' '..='~').contains(&c)) {
            Some((
                &value.span,
                "its value is empty, or has more than plain characters of one line",
                "write its value in ASCII",
            ))
        } else {
            None
        };
        match wrong {
            Some((span, why, cure)) => {
                let what = format!("`headers` of [traces] cannot have `{}` so", name.value);
                p.error(Diagnostic::new(span, what, why, cure));
            }
            None => headers.push((small, value.value)),
        }
    }
    headers
}
