//! A connection, plain or by TLS: requests go out as they are given, answers come back one by one.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use redis::{Cmd, ErrorKind, Parser, RedisError, Value};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConnection, StreamOwned};
use tidemill_types::Error;

use super::{Server, Trouble, trouble};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);

/// Bytes of an answer, at most; lists in it may be a hundred deep, which the crate holds to.
const LONGEST: usize = 64 << 20;

/// A request, as it travels.
pub fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut command = Cmd::new();
    for argument in arguments {
        command.arg(*argument);
    }
    command.get_packed_command()
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// What is read for one answer.
struct Bounded {
    stream: Stream,
    /// Bytes that may still come.
    left: usize,
    /// When it has taken too long.
    until: Instant,
    /// What ended it; parsers tell only of which kind it was.
    ended: Option<io::Error>,
}

impl Bounded {
    fn some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if Instant::now() > self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let most = into.len().min(self.left);
        let into = &mut into[..most];
        let read = loop {
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read(into),
                Stream::Secure(stream) => stream.read(into),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.left -= read;
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
    }
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.some(into).map_err(|error| {
            let kind = error.kind();
            self.ended = Some(error);
            kind.into()
        })
    }
}

/// A connection that is let in.
pub struct Connection {
    server: Server,
    stream: Bounded,
    parser: Parser,
}

impl Connection {
    /// Connects, and says who we are.
    ///
    /// # Errors
    /// Nobody listens, it is not who it should be, or we are not let in.
    pub fn open(server: &Server) -> Result<Connection, Trouble> {
        let place = server.place();
        let named = (place.host.as_str(), place.port).to_socket_addrs();
        let named = named.map_err(|e| Trouble::Away(format!("its name is not known: {e}")))?;
        let mut last = io::Error::other("its name has no address");
        for address in named {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => return Connection::greet(server, stream),
                Err(error) => last = error,
            }
        }
        Err(Trouble::Away(last.to_string()))
    }

    fn greet(server: &Server, stream: TcpStream) -> Result<Connection, Trouble> {
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(ANSWER)))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER)));
        prepared.map_err(|e| failed(server, &e))?;
        let stream = secured(server, stream)?;
        let stream = Bounded { stream, left: 0, until: Instant::now(), ended: None };
        let mut connection = Connection { server: server.clone(), stream, parser: Parser::new() };
        match (&server.user, &server.password) {
            (Some(user), Some(password)) => {
                connection.ask(&[b"AUTH", user.as_bytes(), password.as_bytes()])?;
            }
            (None, Some(password)) => drop(connection.ask(&[b"AUTH", password.as_bytes()])?),
            _ => {}
        }
        if server.database > 0 {
            connection.ask(&[b"SELECT", server.database.to_string().as_bytes()])?;
        }
        connection.ask(&[b"PING"])?;
        Ok(connection)
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// The connection, or an answer that is an error.
    pub fn ask(&mut self, arguments: &[&[u8]]) -> Result<Value, Trouble> {
        self.send(&request(arguments))?;
        self.take()
    }

    /// Sends requests.
    ///
    /// # Errors
    /// The connection.
    pub fn send(&mut self, requests: &[u8]) -> Result<(), Trouble> {
        let sent = match &mut self.stream.stream {
            Stream::Plain(stream) => stream.write_all(requests),
            Stream::Secure(stream) => stream.write_all(requests).and_then(|()| stream.flush()),
        };
        sent.map_err(|error| failed(&self.server, &error))
    }

    /// The answer to the oldest request that has none yet.
    ///
    /// # Errors
    /// The connection, or an answer that is an error.
    pub fn take(&mut self) -> Result<Value, Trouble> {
        match self.reply()? {
            Value::ServerError(error) => {
                let said = format!("{} {}", error.code(), error.details().unwrap_or_default());
                Err(trouble(&self.server, &said))
            }
            reply => Ok(reply),
        }
    }

    /// As [`Connection::take`], with an error as an answer.
    ///
    /// # Errors
    /// The connection.
    pub fn reply(&mut self) -> Result<Value, Trouble> {
        (self.stream.left, self.stream.until) = (LONGEST, Instant::now() + ANSWER);
        let reply = self.parser.parse_value(&mut self.stream);
        reply.map_err(|error| self.unread(&error))
    }

    fn unread(&mut self, error: &RedisError) -> Trouble {
        match self.stream.ended.take() {
            Some(ended) => failed(&self.server, &ended),
            None if error.kind() == ErrorKind::Io => Trouble::Away(error.to_string()),
            None => self.foreign(),
        }
    }

    /// What answers is no Redis.
    pub fn foreign(&self) -> Trouble {
        let error = Error::external(format!("what answers at {} is no Redis", self.server));
        Trouble::Refused(error.help("see that `url` names the right host and port"))
    }

    /// The name of the server's process, another one after each of its starts; nothing where it may not be asked.
    ///
    /// # Errors
    /// The connection.
    pub fn life(&mut self) -> Result<Option<String>, Trouble> {
        match self.ask(&[b"INFO", b"server"]) {
            Ok(Value::BulkString(text)) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                let life = text.lines().find_map(|line| line.strip_prefix("run_id:"));
                Ok(life.map(|life| life.trim().to_string()))
            }
            Ok(_) | Err(Trouble::Refused(_)) => Ok(None),
            Err(away) => Err(away),
        }
    }
}

/// Shakes hands, where the address asks for TLS.
fn secured(server: &Server, mut stream: TcpStream) -> Result<Stream, Trouble> {
    if !server.secure() {
        return Ok(Stream::Plain(stream));
    }
    let Some(tls) = &server.tls else {
        let error = format!("nobody is trusted to be Redis at {server}");
        return Err(Trouble::Refused(Error::internal(error)));
    };
    let name = ServerName::try_from(server.place().host.clone()).map_err(|e| {
        let error = Error::user(format!("{} is no name for TLS: {e}", server.place().host));
        Trouble::Refused(error.help("write the name in `url` that the certificate is for"))
    })?;
    let mut connection = ClientConnection::new(tls.clone(), name)
        .map_err(|error| failed(server, &io::Error::other(error)))?;
    let limit = |stream: &TcpStream, most| {
        stream.set_read_timeout(Some(most)).map_err(|error| failed(server, &error))
    };
    limit(&stream, CONNECT)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| match error.kind() {
            // A server without TLS waits for the end of a line.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Trouble::Away("no TLS comes back (if it speaks none, write redis://)".to_string())
            }
            _ => failed(server, &error),
        })?;
    }
    limit(&stream, ANSWER)?;
    Ok(Stream::Secure(Box::new(StreamOwned::new(connection, stream))))
}

/// What has become of a connection.
fn failed(server: &Server, error: &io::Error) -> Trouble {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        let error = Error::external(format!("no TLS with Redis at {server}: {tls}"));
        return Trouble::Refused(error.help(cure(tls)));
    }
    Trouble::Away(match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => match server.secure() {
            true => "it closed the connection".to_string(),
            false => "it closed the connection (if it wants TLS, write rediss://)".to_string(),
        },
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("it gave no answer in {} s", ANSWER.as_secs())
        }
        io::ErrorKind::FileTooLarge => {
            let what = format!("Redis at {server} gives an answer of more than {LONGEST} bytes");
            let cure = "see what is under the keys of the project: no entity is as large";
            return Trouble::Refused(Error::external(what).help(cure));
        }
        _ => error.to_string(),
    })
}

fn cure(error: &rustls::Error) -> &'static str {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    match error {
        InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "nobody who is trusted signed its certificate: name the file of who did, ca = \"ca.pem\""
        }
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the certificate is for other names: write one of those in `url`; servers of a cluster announce theirs (cluster-announce-hostname, cluster-preferred-endpoint-type hostname)"
        }
        InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "renew the server's certificate, and see that the clocks of both machines are right",
        InvalidMessage(_) => {
            "what answers does not speak TLS: name the port that does, or write redis://"
        }
        AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError,
        ) => {
            "it wants a certificate of this program that it trusts: certificate = \"client.pem\" and private_key = \"client-key.pem\" (or tls-auth-clients no in the server)"
        }
        _ => "see the server's log, and its certificate",
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What a connection makes of a server that answers so, whatever it is asked.
    fn answered(answer: impl Fn(&mut TcpStream) + Send + 'static) -> Trouble {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("redis://{}", listener.local_addr().expect("an address"));
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let _ = client.read(&mut [0; 64]);
            answer(&mut client);
        });
        let opened = Connection::open(&Server::parse(&url).expect("an address"));
        server.join().expect("it ends");
        opened.err().expect("no Redis")
    }

    #[test]
    fn no_answer_nests_without_end_or_fills_the_memory() {
        let deep = answered(|client| {
            let _ = client.write_all(&b"*1\r\n".repeat(1 << 20));
        });
        assert!(
            matches!(&deep, Trouble::Refused(e) if e.to_string().contains("no Redis")),
            "{deep:?}"
        );
        // Lists and texts that say they are as long as can be said are not made room for.
        for claimed in [&b"*9223372036854775807\r\n"[..], b"$9223372036854775807\r\n"] {
            let short = answered(move |client| client.write_all(claimed).expect("taken"));
            assert!(matches!(&short, Trouble::Away(_)), "{short:?}");
        }
        let long = answered(|client| {
            let _ = client.write_all(b"$9223372036854775807\r\n");
            let block = vec![b'x'; 1 << 20];
            while client.write_all(&block).is_ok() {}
        });
        let said = format!("{long:?}");
        assert!(said.contains("more than 67108864 bytes"), "{said}");
    }
}
