//! Who may do what: tokens and certificates, roles, rates, and the record of what was done.

pub mod audit;
pub mod callers;
pub mod rate;
pub mod tls;

use std::fmt;

pub use audit::Audit;
pub use callers::{Caller, Callers};
pub use rate::Rates;

/// What a caller may do. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads: metrics, features, scores, explanations.
    Viewer,
    /// Also loads and unloads models, promotes, rolls back and retrains.
    Operator,
    /// Also agrees to what others propose.
    Approver,
    /// Everything.
    Admin,
}

impl Role {
    /// All, the least first.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Operator, Role::Approver, Role::Admin];

    /// The name that files use.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Approver => "approver",
            Role::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
