//! Redis, as much of it as a sink needs: one connection, requests in pipelines, and what went wrong.
//!
//! The protocol is RESP 2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>), which every
//! server since 1.2 speaks. It is a dozen lines on a socket, where a client library brings its own runtime, pool and
//! retries, which would have to be held back: what is sent again, and when, is the sink's to decide.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use tidemill_types::Error;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);

/// Bytes of one text in an answer, at most: what Redis itself allows.
const LONGEST: usize = 512 << 20;

/// Where a server is, and as whom to speak to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<String>,
    database: u32,
}

/// Without the password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }?;
        if self.database > 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl Server {
    /// Reads `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`; user and password with `%XX` for what an
    /// address cannot hold.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub fn parse(url: &str) -> Result<Server, (String, &'static str)> {
        let form = "write redis://HOST:PORT, or redis://:${REDIS_PASSWORD}@HOST:PORT/0";
        let wrong = |what: &str| (what.to_string(), form);
        if url.starts_with("rediss://") {
            let cure = "write redis://, and let a proxy on this machine (stunnel, for example) speak TLS to the server";
            return Err(("TLS to Redis is left to a proxy".to_string(), cure));
        }
        let Some(rest) = url.strip_prefix("redis://") else {
            return Err(wrong("it does not begin with redis://"));
        };
        let (who, rest) = match rest.rsplit_once('@') {
            Some((who, rest)) => (Some(who), rest),
            None => (None, rest),
        };
        let (user, password) = match who.map(|who| who.split_once(':').unwrap_or(("", who))) {
            Some((user, password)) => {
                let decoded = |text| {
                    unescaped(text).ok_or_else(|| wrong("a % is not followed by two digits"))
                };
                (Some(decoded(user)?).filter(|user| !user.is_empty()), Some(decoded(password)?))
            }
            None => (None, None),
        };
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => 0,
            text => text.parse().map_err(|_| wrong("the database behind the / is no number"))?,
        };
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let port = port.map_or(Ok(6379), str::parse).map_err(|_| wrong("the port is no number"))?;
        Ok(Server { host: host.to_string(), port, user, password, database })
    }
}

/// `%XX` as the byte that it stands for.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
        bytes.push(match byte {
            b'%' => (digit(rest.next())? * 16 + digit(rest.next())?) as u8,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Why something did not go.
#[derive(Debug)]
pub enum Trouble {
    /// The server is away, or cannot take anything just now: the same again may help.
    Away(String),
    /// It will not: only a person can mend it.
    Refused(Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Away(match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed the connection".to_string(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("it gave no answer in {} s", ANSWER.as_secs())
            }
            _ => error.to_string(),
        })
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`, for example.
    Status(String),
    /// A number.
    Number(i64),
    /// Bytes, or nothing.
    Bytes(Option<Vec<u8>>),
    /// Several answers.
    All(Vec<Reply>),
    /// An error; its first word says which.
    Failed(String),
}

/// Errors that pass by themselves: it loads its data, it follows another server that is away or that it is to take
/// over from, a script holds it, it has lost our script, it has too many clients.
const PASSING: [&str; 10] = [
    "LOADING",
    "MASTERDOWN",
    "READONLY",
    "BUSY",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "NOSCRIPT",
    "UNBLOCKED",
    "ERR max number of clients reached",
];

/// What an error of the server means, and what to do next.
pub fn trouble(server: &Server, said: &str) -> Trouble {
    if PASSING.iter().any(|passing| said.starts_with(passing)) {
        return Trouble::Away(said.to_string());
    }
    // Scripts say where they failed, which helps nobody.
    let plain = said.split(" script: ").next().unwrap_or(said);
    let error = Error::external(format!("Redis at {server} refuses: {plain}"));
    let help = match said.split(' ').next().unwrap_or_default() {
        "NOAUTH" => "it wants a password: url = \"redis://:${REDIS_PASSWORD}@HOST:PORT\"",
        "WRONGPASS" => "the user or the password in `url` is another one",
        "ERR" if said.contains("without any password configured") => {
            "the server has no password: leave it out of `url`"
        }
        "NOPERM" => {
            "the user needs the commands evalsha, script|load, hget, hset, pexpire, info and dbsize, and the keys of the project"
        }
        "WRONGTYPE" => {
            "a key of an entity holds something that is no hash: name another `project`, another database, or remove that key"
        }
        "OOM" => {
            "its memory is full and maxmemory-policy removes nothing: raise maxmemory, or give the rows a `ttl`; then start again"
        }
        "MISCONF" => "it cannot write to its disk: make room there, and start again",
        "MOVED" | "ASK" | "CROSSSLOT" => {
            "this is a cluster, which the sink does not speak: name a server that stands alone"
        }
        _ => "see the server's log, and start again",
    };
    Trouble::Refused(error.help(help))
}

/// Appends a request.
pub fn request(arguments: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// A connection that is let in.
pub struct Connection {
    server: Server,
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects, and says who we are.
    ///
    /// # Errors
    /// Nobody listens, or we are not let in.
    pub fn open(server: &Server) -> Result<Connection, Trouble> {
        let named = (server.host.as_str(), server.port).to_socket_addrs();
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
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut connection = Connection { server: server.clone(), stream: BufReader::new(stream) };
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
    pub fn ask(&mut self, arguments: &[&[u8]]) -> Result<Reply, Trouble> {
        let mut bytes = Vec::new();
        request(arguments, &mut bytes);
        self.send(&bytes)?;
        self.take()
    }

    /// Sends requests.
    ///
    /// # Errors
    /// The connection.
    pub fn send(&mut self, requests: &[u8]) -> Result<(), Trouble> {
        Ok(self.stream.get_mut().write_all(requests)?)
    }

    /// The answer to the oldest request that has none yet.
    ///
    /// # Errors
    /// The connection, or an answer that is an error.
    pub fn take(&mut self) -> Result<Reply, Trouble> {
        match self.reply()? {
            Reply::Failed(said) => Err(trouble(&self.server, &said)),
            reply => Ok(reply),
        }
    }

    fn reply(&mut self) -> Result<Reply, Trouble> {
        let mut line = Vec::new();
        // Statuses and errors are short; a peer that is no Redis may send anything.
        self.stream.by_ref().take(64 << 10).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        let Some((kind, rest)) =
            text.strip_suffix("\r\n").and_then(|text| text.split_at_checked(1))
        else {
            return Err(self.foreign());
        };
        let number = |most: i64| rest.parse::<i64>().ok().filter(|n| (-1..=most).contains(n));
        Ok(match kind {
            "+" => Reply::Status(rest.to_string()),
            "-" => Reply::Failed(rest.to_string()),
            ":" => Reply::Number(rest.parse().map_err(|_| self.foreign())?),
            "$" => match number(LONGEST as i64).ok_or_else(|| self.foreign())? {
                -1 => Reply::Bytes(None),
                length => {
                    let mut bytes = vec![0; length as usize + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length as usize);
                    Reply::Bytes(Some(bytes))
                }
            },
            "*" => match number(1 << 24).ok_or_else(|| self.foreign())? {
                -1 => Reply::Bytes(None),
                count => Reply::All((0..count).map(|_| self.reply()).collect::<Result<_, _>>()?),
            },
            _ => return Err(self.foreign()),
        })
    }

    fn foreign(&self) -> Trouble {
        let error = Error::external(format!("what answers at {} is no Redis", self.server));
        Trouble::Refused(error.help("see that `url` names the right host and port"))
    }

    /// The name of the server's process, another one after each of its starts; nothing where it may not be asked.
    ///
    /// # Errors
    /// The connection.
    pub fn life(&mut self) -> Result<Option<String>, Trouble> {
        match self.ask(&[b"INFO", b"server"]) {
            Ok(Reply::Bytes(Some(text))) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                let life = text.lines().find_map(|line| line.strip_prefix("run_id:"));
                Ok(life.map(|life| life.trim().to_string()))
            }
            Ok(_) | Err(Trouble::Refused(_)) => Ok(None),
            Err(away) => Err(away),
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
        let six = read("redis://:word@[::1]:7000");
        assert_eq!((six.to_string(), six.user), ("[::1]:7000".to_string(), None));
        for wrong in
            ["http://here", "redis://", "redis://here:port", "redis://here/x", "redis://:%4@h"]
        {
            assert!(Server::parse(wrong).is_err(), "{wrong}");
        }
        let error = Server::parse("rediss://here").err();
        assert!(error.is_some_and(|(why, cure)| why.contains("TLS") && cure.contains("proxy")));
    }
}
