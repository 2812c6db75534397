//! Asks the API of a running pipeline, over a connection for each question: there are a few a second.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value as Json;
use tidemill_types::Error;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A longer answer is none of ours.
const MOST: u64 = 64 << 20;

/// A server that is asked.
pub(super) struct Server {
    host: String,
    address: SocketAddr,
    token: Option<String>,
}

impl Server {
    /// At `http://HOST:PORT` or `HOST:PORT`.
    ///
    /// # Errors
    /// What is no such address, a name that is not known, a token with characters that no header may have.
    pub(super) fn new(url: &str, token: Option<String>) -> Result<Server, Error> {
        if url.starts_with("https://") {
            return Err(Error::user("`tidemill top` speaks plain HTTP").help(
                "look at the dashboard in a browser, or ask through a local proxy that ends TLS",
            ));
        }
        let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let wrong = || {
            Error::user(format!("`{url}` is no address"))
                .help("write http://HOST:PORT, as the pipeline was given with --serve")
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if !host.chars().all(plain) {
            return Err(wrong());
        }
        let address = host.to_socket_addrs().ok().and_then(|mut all| all.next());
        if token.iter().flat_map(|token| token.bytes()).any(|b| !(0x21..=0x7e).contains(&b)) {
            return Err(Error::user("TIDEMILL_TOKEN holds what no token is made of")
                .help("`tidemill token NAME --role viewer` makes one"));
        }
        Ok(Server { host: host.to_string(), address: address.ok_or_else(wrong)?, token })
    }

    /// A view of the API.
    ///
    /// # Errors
    /// A server that is not there, does not answer in time, or refuses.
    pub(super) fn get(&self, view: &str) -> Result<Json, Error> {
        let unreached = |why: std::io::Error| {
            Error::external(format!("{} does not answer: {why}", self.host))
                .help("start the pipeline with `tidemill run FILE --serve HOST:PORT`")
        };
        let answer = self.exchange(view).map_err(unreached)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let said: Json = serde_json::from_str(body).unwrap_or(Json::Null);
        match status {
            200 if !said.is_null() => Ok(said),
            401 => Err(Error::user(format!("{} wants to know who asks", self.host))
                .help("put a token into the environment variable TIDEMILL_TOKEN")),
            _ => {
                let why = said["error"].as_str().unwrap_or("this is no answer of Tidemill");
                Err(Error::external(format!("{} answered {status}: {why}", self.host)))
            }
        }
    }

    fn exchange(&self, view: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let token = self.token.as_ref();
        let token = token.map_or(String::new(), |t| format!("authorization: Bearer {t}\r\n"));
        // HTTP/1.0: the answer is as long as the connection, and comes in one piece.
        let host = &self.host;
        write!(stream, "GET /api/v1/{view} HTTP/1.0\r\nhost: {host}\r\n{token}\r\n")?;
        let mut answer = Vec::new();
        stream.take(MOST).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_others() {
        for good in ["http://127.0.0.1:8080", "127.0.0.1:80/", "http://[::1]:9"] {
            assert!(Server::new(good, None).is_ok(), "{good}");
        }
        for bad in ["https://127.0.0.1:8080", "127.0.0.1", "http://x y:80", "a\r\nb:80"] {
            assert!(Server::new(bad, None).is_err(), "{bad:?}");
        }
        assert!(Server::new("127.0.0.1:80", Some("a\r\nb".into())).is_err());
    }
}
