//! Who may give orders to a run: `<run>/people.json`, a name, a role and the hash of a token each.
//!
//! An order carries a proof: HMAC-SHA256 over the order, keyed by the hash of the token. So neither the
//! order nor the file holds a token; who can read the file could forge proofs, so it is readable by its
//! owner alone. A run without such a file takes orders from whoever may write to its folder, and keeps
//! the name they give, unproven; approvals are taken from known people only.

use std::fs;
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tidemill_types::Error;
use tidemill_types::schema::hex;

use super::orders::{Letter, Order};
use super::registry::{sha256, write_private_file};

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Approve versions.
    Approver,
    /// Promote, roll back and retrain.
    Operator,
    /// Both.
    Admin,
}

impl Role {
    fn may(self, order: &Order) -> bool {
        match self {
            Role::Admin => true,
            Role::Approver => matches!(order, Order::Approve(..)),
            Role::Operator => {
                matches!(order, Order::Promote(..) | Order::RollBack(..) | Order::Retrain(_))
            }
        }
    }
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Who.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// What their token becomes as a key, hex.
    pub token: String,
}

/// The people whom a run knows; none where there is no file.
#[derive(Clone, Debug, Default)]
pub struct People {
    known: Option<Vec<Person>>,
}

fn path(run: &Path) -> PathBuf {
    run.join("people.json")
}

impl People {
    /// Of a run that writes to this folder.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of_run(run: &Path) -> Result<People, Error> {
        let path = path(run);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(People::default()),
            Err(e) => return Err(Error::external(format!("cannot read {}: {e}", path.display()))),
        };
        let known = serde_json::from_slice(&bytes).map_err(|e| {
            Error::user(format!("{} is broken: {e}", path.display()))
                .help("remove the file, and add everybody anew with `tidemill models people`")
        })?;
        Ok(People { known: Some(known) })
    }

    /// Adds a person, or gives one another role and token.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn add(run: &Path, name: &str, role: Role, token: &str) -> Result<(), Error> {
        let mut known = People::of_run(run)?.known.unwrap_or_default();
        known.retain(|person| person.name != name);
        known.push(Person { name: name.into(), role, token: key_of(token) });
        let bytes =
            serde_json::to_vec_pretty(&known).map_err(|e| Error::internal(e.to_string()))?;
        write_private_file(&path(run), &bytes)
    }

    /// Whether the run knows people at all.
    pub fn are_known(&self) -> bool {
        self.known.is_some()
    }

    /// Whether the sender is who they say and may order this: whether it is proven, or why not.
    pub fn judge(&self, letter: &Letter, order: &Order) -> Result<bool, String> {
        let Some(known) = &self.known else {
            return match order {
                Order::Approve(..) => {
                    Err("an approval needs a person whom the run knows: add some \
                                           with `tidemill models people`"
                        .to_string())
                }
                _ => Ok(false),
            };
        };
        let who = &letter.who;
        let person = known.iter().find(|person| person.name == *who);
        let person = person.ok_or(format!("the run knows nobody called {who}"))?;
        let mut mac = mac(person.token.as_bytes());
        mac.update(&letter.signed());
        let given = (0..letter.proof.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(letter.proof.get(i..i + 2).unwrap_or("-"), 16))
            .collect::<Result<Vec<u8>, _>>()
            .unwrap_or_default();
        if mac.verify_slice(&given).is_err() {
            return Err(format!("the token is not that of {who}: set TIDEMILL_TOKEN"));
        }
        match person.role.may(order) {
            true => Ok(true),
            false => {
                let role = format!("{:?}", person.role).to_lowercase();
                Err(format!("{who} may not do this: the role is {role}"))
            }
        }
    }
}

/// A key of this token. It is not the hash that the server's file of tokens has: who reads that one cannot prove
/// anything by it.
fn key_of(token: &str) -> String {
    sha256(format!("tidemill people\0{token}").as_bytes())
}

/// The proof that the holder of this token wrote the letter.
pub fn prove(letter: &Letter, token: &str) -> String {
    let mut mac = mac(key_of(token).as_bytes());
    mac.update(&letter.signed());
    hex(&mac.finalize().into_bytes())
}

/// HMAC-SHA256 with this key, of any length.
pub(super) fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_proves_it_may_order_what_their_role_allows() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = folder.path();
        let approve = Order::Approve("trees".into(), 2);
        let back = Order::RollBack("trees".into(), None);
        let nobody = People::of_run(run).expect("read");
        assert_eq!(nobody.judge(&Letter::new("eve", &back, ""), &back), Ok(false));
        assert!(nobody.judge(&Letter::new("eve", &approve, ""), &approve).is_err());
        People::add(run, "ann", Role::Approver, "a secret").expect("added");
        People::add(run, "bob", Role::Operator, "another").expect("added");
        let text = fs::read_to_string(path(run)).expect("the file");
        assert!(!text.contains("secret"), "{text}");
        let people = People::of_run(run).expect("read");
        let mut letter = Letter::new("ann", &approve, "fine");
        assert!(people.judge(&letter, &approve).is_err(), "no proof");
        letter.proof = prove(&letter, "another");
        assert!(people.judge(&letter, &approve).is_err(), "another's token");
        letter.proof = prove(&letter, "a secret");
        assert_eq!(people.judge(&letter, &approve), Ok(true));
        letter.what = "approve trees 3".to_string();
        assert!(people.judge(&letter, &approve).is_err(), "changed after it was signed");
        let mut letter = Letter::new("ann", &back, "");
        letter.proof = prove(&letter, "a secret");
        assert!(people.judge(&letter, &back).expect_err("her role").contains("approver"));
        assert!(people.judge(&Letter::new("eve", &back, ""), &back).is_err());
    }
}
