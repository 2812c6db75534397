//! Errors that cross a package border: whose fault, may it be tried again, what to do.

use std::{fmt, io};

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The configuration or the command line: exit code 78.
    User,
    /// A peer, a disk, a network: exit code 69; trying again may help.
    External,
    /// A defect of Tidemill: exit code 70.
    Internal,
}

/// What was attempted, why it failed, and what to do next.
#[derive(Clone, Debug)]
pub struct Error {
    /// Whose fault it is.
    pub fault: Fault,
    /// What was attempted and what happened; lower case, no full stop.
    pub message: String,
    /// What to do next, if anything.
    pub help: Option<String>,
}

impl Error {
    /// The user's: the file or the command line.
    pub fn user(message: impl Into<String>) -> Error {
        Error { fault: Fault::User, message: message.into(), help: None }
    }

    /// The world's: a peer, a disk, a network.
    pub fn external(message: impl Into<String>) -> Error {
        Error { fault: Fault::External, message: message.into(), help: None }
    }

    /// Ours.
    pub fn internal(message: impl Into<String>) -> Error {
        Error { fault: Fault::Internal, message: message.into(), help: None }
    }

    /// Adds what to do next.
    pub fn help(mut self, help: impl Into<String>) -> Error {
        self.help = Some(help.into());
        self
    }

    /// The exit code, after BSD's sysexits.
    pub fn exit_code(&self) -> u8 {
        match self.fault {
            Fault::User => 78,
            Fault::External => 69,
            Fault::Internal => 70,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// What to do where there is no room. It is true of every command: what was written whole is there, and the rest is
/// made again.
pub const ROOM: &str = "make room on the disk, then give the same command again: nothing is lost";

/// Whether there is no room: on the disk, in somebody's quota, in the largest file that is allowed.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        let said = Error::external(error.to_string());
        if is_full(&error) { said.help(ROOM) } else { said }
    }
}
