//! Callers: who has which token or certificate, which role, and whose rate counts.
//!
//! Only SHA-256 hashes are kept, in the file as in memory. A token made by `tidemill token` has 256 bits
//! of chance, so that a fast hash is as good as a slow one; and since hashes are compared, the time that
//! a comparison takes says nothing of the token.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use tidemill_types::{Error, schema::hex};

use super::Role;

/// The variable that holds what a tokens file holds.
pub const VARIABLE: &str = "TIDEMILL_TOKENS";

/// One who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name in the tokens file; `anonymous` without a token.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// Whose rate their requests count to.
    pub tenant: Arc<str>,
}

/// All who may call.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    by_token: HashMap<String, Caller>,
    by_certificate: HashMap<String, Caller>,
    anonymous: Option<Role>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    caller: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    role: String,
    sha256: Option<String>,
    certificate_sha256: Option<String>,
    tenant: Option<String>,
}

impl Callers {
    /// Nobody has a token; whoever calls has this role, or none.
    pub fn anonymous(role: Option<Role>) -> Callers {
        Callers { anonymous: role, ..Callers::default() }
    }

    /// Reads a tokens file.
    ///
    /// # Errors
    /// A file that cannot be read, or says what it should not. No message holds a part of a hash.
    pub fn read(path: &Path) -> Result<Callers, Error> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::user(format!("cannot read the tokens file {}: {e}", path.display()))
                .help("make an entry with `tidemill token NAME --role viewer`")
        })?;
        Callers::parse(&text, &path.display().to_string())
    }

    /// Reads the text of a tokens file, which is called `origin` in errors.
    ///
    /// # Errors
    /// As [`Callers::read`].
    pub fn parse(text: &str, origin: &str) -> Result<Callers, Error> {
        let wrong = |why: String| {
            Error::user(format!("the tokens in {origin} are wrong: {why}")).help(
                "an entry is [[caller]], name, role, and sha256 or certificate_sha256; \
                 `tidemill token NAME --role viewer` makes one",
            )
        };
        // The parser's own message would show the line, and with it a hash.
        let file: FileText = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            wrong(format!("line {line}: {}", e.message().lines().next().unwrap_or_default()))
        })?;
        let mut callers = Callers::default();
        for entry in file.caller {
            let name = &entry.name;
            let role = Role::parse(&entry.role).ok_or_else(|| {
                let names = Role::ALL.map(Role::name).join(", ");
                wrong(format!("`{name}` has the role `{}`; the roles are {names}", entry.role))
            })?;
            let tenant = entry.tenant.as_deref().unwrap_or(name);
            let caller = Caller { name: Arc::from(name.as_str()), role, tenant: Arc::from(tenant) };
            let hashes = [
                (&entry.sha256, &mut callers.by_token),
                (&entry.certificate_sha256, &mut callers.by_certificate),
            ];
            let mut given = 0;
            for (hash, known) in hashes {
                let Some(hash) = hash else { continue };
                let hash = hash.replace(':', "").to_ascii_lowercase();
                if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(wrong(format!("a hash of `{name}` is not 64 hexadecimal digits")));
                }
                if known.insert(hash, caller.clone()).is_some() {
                    return Err(wrong(format!("`{name}` has the hash of another entry")));
                }
                given += 1;
            }
            if given == 0 {
                return Err(wrong(format!("`{name}` has neither sha256 nor certificate_sha256")));
            }
        }
        Ok(callers)
    }

    /// The same callers, and a role for whoever has neither token nor certificate.
    pub fn or_anonymous(mut self, role: Option<Role>) -> Callers {
        self.anonymous = role;
        self
    }

    /// Who has this `Authorization` header, or this certificate (SHA-256 of its DER). A header that is
    /// there and names nobody is nobody, whatever else is given.
    pub fn caller(
        &self,
        authorization: Option<&[u8]>,
        certificate: Option<&str>,
    ) -> Option<Caller> {
        if let Some(header) = authorization {
            let (scheme, token) = header.split_at_checked(7)?;
            let bearer = scheme.eq_ignore_ascii_case(b"bearer ");
            return bearer.then(|| self.by_token.get(&hash(token.trim_ascii())))?.cloned();
        }
        let known = certificate.and_then(|hash| self.by_certificate.get(hash)).cloned();
        known.or_else(|| {
            let name: Arc<str> = Arc::from("anonymous");
            Some(Caller { tenant: Arc::clone(&name), name, role: self.anonymous? })
        })
    }
}

/// SHA-256, hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, role: &str, token: &str) -> String {
        let hash = hash(token.as_bytes());
        format!("[[caller]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{hash}\"\n")
    }

    #[test]
    fn a_token_names_its_caller_and_nobody_else() {
        let text = entry("ann", "viewer", "secret") + &entry("bob", "admin", "other");
        let callers = Callers::parse(&text, "a file").expect("sound");
        let name = |header: &str| callers.caller(Some(header.as_bytes()), None).map(|c| c.name);
        assert_eq!(name("Bearer secret").as_deref(), Some("ann"));
        assert_eq!(name("bearer other").as_deref(), Some("bob"));
        for wrong in ["Bearer secre", "Bearer ", "Basic secret", "", "Bearer", "secret"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
        assert_eq!(callers.caller(None, None), None);
        let open = callers.or_anonymous(Some(Role::Viewer));
        assert_eq!(open.caller(None, None).map(|c| c.role), Some(Role::Viewer));
        assert_eq!(open.caller(Some(b"Bearer wrong"), None), None, "a wrong token is not none");
    }

    #[test]
    fn a_wrong_file_is_told_without_its_hashes() {
        let hash = hash(b"secret");
        for (text, why) in [
            (entry("ann", "king", "x"), "the roles are viewer"),
            ("[[caller]]\nname = \"ann\"\nrole = \"viewer\"\n".into(), "neither sha256"),
            (entry("a", "viewer", "x") + &entry("b", "viewer", "x"), "hash of another"),
            (format!("[[caller]]\nname = \"a\"\nrole = \"admin\"\nsha256 = \"{hash}0\""), "64 hex"),
            (format!("[[caller]]\nnmae = \"a\"\nsha256 = \"{hash}\""), "line "),
            (format!("sha256 = {hash}"), "line "),
        ] {
            let error = Callers::parse(&text, "tokens.toml").expect_err("wrong").to_string();
            assert!(error.contains(why) && error.contains("tokens.toml"), "{error}");
            assert!(!error.contains(&hash[..16]), "{error}");
        }
    }
}
