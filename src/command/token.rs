//! `tidemill token`: a token for a caller, and the entry for the tokens file.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use serde_json::json;
use tidemill_types::{Error, schema::hex};

use super::{Failure, Said};
use crate::models::people::{self, People};
use crate::serve::access::Role;
use crate::serve::access::callers::hash;

/// Whose token.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// The caller's name: letters, digits, `_`, `-`, `.` and `@`.
    name: String,
    /// viewer reads; operator also loads and unloads models, promotes, rolls back and retrains; approver also approves;
    /// admin does all.
    #[arg(long, default_value = "viewer")]
    role: String,
    /// Whose rate its requests count to; its own if not given.
    #[arg(long)]
    tenant: Option<String>,
    /// Also lets them give orders to the run that writes to this folder: promote, roll back and retrain as operator,
    /// approve as approver, both as admin.
    #[arg(long, value_name = "FOLDER")]
    run: Option<PathBuf>,
}

/// Makes a token.
pub(super) fn run(options: &Options) -> Result<Said, Failure> {
    let plain = |text: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "_-.@".contains(c);
        !text.is_empty() && text.len() <= 63 && text.chars().all(good)
    };
    let names = [Some(&options.name), options.tenant.as_ref()];
    if let Some(wrong) = names.into_iter().flatten().find(|name| !plain(name)) {
        return Err(Error::user(format!("`{wrong}` cannot be a name"))
            .help("choose 1 to 63 letters, digits, `_`, `-`, `.` or `@`")
            .into());
    }
    let role = Role::parse(&options.role).ok_or_else(|| {
        Error::user(format!("there is no role `{}`", options.role))
            .help(format!("there are: {}", Role::ALL.map(Role::name).join(", ")))
    })?;
    let orders = match role {
        Role::Viewer => None,
        Role::Operator => Some(people::Role::Operator),
        Role::Approver => Some(people::Role::Approver),
        Role::Admin => Some(people::Role::Admin),
    };
    if options.run.is_some() && orders.is_none() {
        return Err(Error::user("a viewer gives no orders")
            .help("leave --run away, or choose --role operator, approver or admin")
            .into());
    }
    let mut chance = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut chance))
        .map_err(|e| Error::external(format!("the system gives no random bytes: {e}")))?;
    let token = format!("tm_{}", hex(&chance));
    if let Some((run, role)) = options.run.as_ref().zip(orders) {
        People::add(run, &options.name, role, &token)?;
    }
    let tenant = match &options.tenant {
        Some(tenant) => format!("tenant = \"{tenant}\"\n"),
        None => String::new(),
    };
    let entry = format!(
        "[[caller]]\nname = \"{}\"\nrole = \"{role}\"\n{tenant}sha256 = \"{}\"\n",
        options.name,
        hash(token.as_bytes())
    );
    let text = format!(
        "The token, shown this once; the caller sends it as `Authorization: Bearer TOKEN`:\n\n\
         {token}\n\nThe entry for the tokens file, which holds its hash only:\n\n{entry}"
    );
    Ok(Said { text, json: json!({ "token": token, "entry": entry }) })
}
