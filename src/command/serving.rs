//! The flags of `run` that say where, to whom and within which bounds HTTP is served.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidemill_types::Error;

use crate::serve::access::callers::VARIABLE;
use crate::serve::access::tls::Files;
use crate::serve::access::{Audit, Callers, Role};
use crate::serve::{self};

/// What a person may choose of the server.
#[derive(clap::Args, Debug)]
pub(super) struct Flags {
    /// Serves scores and features (Open Inference Protocol over REST and gRPC, Feast's HTTP API, MCP),
    /// /metrics, /healthz and /readyz, for example on 127.0.0.1:8080.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) serve: Option<SocketAddr>,
    /// Who may call: a file of entries as `tidemill token` makes them. Without it the text is taken from
    /// the environment variable TIDEMILL_TOKENS.
    #[arg(long, value_name = "FILE", requires = "serve")]
    tokens: Option<PathBuf>,
    /// What whoever has no token may do. Without tokens it is admin on a loopback address, and nothing on
    /// others.
    #[arg(long, value_name = "ROLE", requires = "serve", value_parser = role)]
    anonymous: Option<Role>,
    /// The server's certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Who signs callers' certificates, PEM: mTLS.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Requests a second to each tenant; more are refused with 429.
    #[arg(long, value_name = "N", requires = "serve", value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit: Option<u32>,
    /// A longer request body is refused with 413.
    #[arg(long, value_name = "BYTES", requires = "serve", default_value_t = 8 << 20)]
    max_body: usize,
    /// A request that takes longer is answered with 504.
    #[arg(long, value_name = "SECONDS", requires = "serve", default_value_t = 10)]
    request_timeout: u64,
    /// A connection on which nothing moves for so long is closed.
    #[arg(long, value_name = "SECONDS", requires = "serve", default_value_t = 75)]
    idle_timeout: u64,
}

fn role(text: &str) -> Result<Role, String> {
    let names = || Role::ALL.map(Role::name).join(", ");
    Role::parse(text).ok_or_else(|| format!("there is no role `{text}`; there are: {}", names()))
}

impl Flags {
    /// How to serve, if at all; what callers do is recorded in `folder/access`.
    ///
    /// # Errors
    /// Tokens that are wrong, an address that is open to others with nobody known, a journal in use.
    pub(super) fn options(
        &self,
        folder: &Path,
        pipeline: &str,
    ) -> Result<Option<serve::Options>, Error> {
        let Some(address) = self.serve else { return Ok(None) };
        let given = std::env::var(VARIABLE).ok();
        let callers = match (&self.tokens, given) {
            (Some(path), _) => Some(Callers::read(path)?),
            (None, Some(text)) => Some(Callers::parse(&text, VARIABLE)?),
            (None, None) => None,
        };
        let anonymous = match (&callers, self.anonymous) {
            (None, None) if address.ip().is_loopback() => Some(Role::Admin),
            (None, None) => {
                return Err(Error::user(format!(
                    "{address} can be reached by others, and nobody is known who may call"
                ))
                .help(
                    "make tokens with `tidemill token NAME --role viewer` and give --tokens FILE, \
                     serve on 127.0.0.1, or allow everybody to read with --anonymous viewer",
                ));
            }
            (_, anonymous) => anonymous,
        };
        let tls = self.tls_cert.clone().zip(self.tls_key.clone()).map(|(certificate, key)| Files {
            certificate,
            key,
            client_ca: self.tls_client_ca.clone(),
        });
        Ok(Some(serve::Options {
            address,
            body_bytes: self.max_body,
            timeout: Duration::from_secs(self.request_timeout.max(1)),
            // A connection whose request is being answered is not idle.
            idle_timeout: Duration::from_secs(self.idle_timeout.max(self.request_timeout + 1)),
            callers: Arc::new(callers.unwrap_or_default().or_anonymous(anonymous)),
            rate: self.rate_limit,
            audit: Arc::new(Audit::open(&folder.join("access"), pipeline)?),
            tls,
            ..serve::Options::default()
        }))
    }
}
