//! Where a server of Redis is, as whom to speak to it, and whom to trust.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use redis::{ConnectionAddr, IntoConnectionInfo};
use rustls::ClientConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::client::tls::{certificates, roots};

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// A name, or an address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Files of PEM for TLS.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Who signs certificates of servers; without it, those whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// Our own certificate, with those above it, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A server and how to get in.
#[derive(Clone)]
pub struct Server {
    pub(super) place: Place,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
    secure: bool,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// Without the password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if self.database > 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl Server {
    /// Reads `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://` for TLS, which needs [`Server::trusting`] before
    /// anything is opened; user and password with `%XX` for what an address cannot hold.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub fn parse(url: &str) -> Result<Server, (String, &'static str)> {
        let form =
            "write redis://HOST:PORT, redis://:${REDIS_PASSWORD}@HOST:PORT/0, or rediss:// for TLS";
        let wrong = |what: &str| (what.to_string(), form);
        if !url.starts_with("redis://") && !url.starts_with("rediss://") {
            return Err(wrong("it does not begin with redis:// or rediss://"));
        }
        let info = url.into_connection_info().map_err(|error| {
            // The crate puts the kind of the error behind it.
            wrong(error.to_string().split("- ").next().unwrap_or_default().trim())
        })?;
        let (place, secure) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (Place { host: host.clone(), port: *port }, false),
            ConnectionAddr::TcpTls { host, port, insecure: false, .. } => {
                (Place { host: host.clone(), port: *port }, true)
            }
            ConnectionAddr::TcpTls { .. } => {
                let cure = "leave #insecure out, and name the file of who signed the certificate: ca = \"ca.pem\"";
                return Err((
                    "a server is spoken to only if its certificate is right".into(),
                    cure,
                ));
            }
            _ => return Err(wrong("it names no host")),
        };
        let settings = info.redis_settings();
        if settings.db() < 0 {
            return Err(wrong("the database behind the / is no number"));
        }
        Ok(Server {
            place,
            user: settings.username().map(str::to_string),
            password: settings.password().map(str::to_string),
            database: settings.db(),
            secure,
            tls: None,
        })
    }

    /// Whether the address asks for TLS.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// Whether user, password and TLS are the same.
    pub fn alike(&self, other: &Server) -> bool {
        (&self.user, &self.password, self.secure) == (&other.user, &other.password, other.secure)
    }

    /// The number of the database.
    pub fn database(&self) -> i64 {
        self.database
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Another server of its cluster: the same user, password, and trust.
    pub fn beside(&self, place: &Place) -> Server {
        Server { place: place.clone(), ..self.clone() }
    }

    /// The same, spoken to by TLS with these files, where its address asks for it.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn trusting(self, files: &Files) -> Result<Server, String> {
        match self.secure {
            true => Ok(Server { tls: Some(Arc::new(config(files)?)), ..self }),
            false => Ok(self),
        }
    }
}

fn config(files: &Files) -> Result<ClientConfig, String> {
    let roots = roots(files.ca.as_deref())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    match &files.identity {
        None => Ok(config.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let read = PrivateKeyDer::from_pem_file(key);
            let read = read.map_err(|e| format!("{}: {e}", key.display()))?;
            let config = config.with_client_auth_cert(chain, read);
            config.map_err(|e| format!("{} and {}: {e}", certificate.display(), key.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_passwords_never_shown() {
        let read = |url| Server::parse(url).unwrap_or_else(|(why, _)| panic!("{url}: {why}"));
        let plain = read("redis://here");
        assert_eq!((plain.to_string(), plain.password), ("here:6379".to_string(), None));
        let all = read("redis://ann:p%40ss%3A@here:7000/2");
        assert_eq!(all.to_string(), "here:7000/2");
        assert_eq!(all.user.as_deref(), Some("ann"));
        assert_eq!(all.password.as_deref(), Some("p@ss:"));
        let six = read("rediss://:word@[::1]:7000");
        assert_eq!((six.to_string(), six.user), ("[::1]:7000".to_string(), None));
        assert!(six.secure && !plain.secure);
        for wrong in [
            "http://here",
            "unix:///tmp/redis.sock",
            "redis://",
            "redis://here:port",
            "redis://here/x",
            "redis://here/-1",
            "rediss://here#insecure",
        ] {
            let (why, cure) = Server::parse(wrong).err().unwrap_or_else(|| panic!("{wrong}"));
            assert!(!why.is_empty() && !cure.is_empty(), "{wrong}: {why}, {cure}");
        }
    }
}
