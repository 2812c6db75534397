//! Orders to a run: promote, roll back, approve, retrain; and who may give them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tidemill_types::Error;
use tidemill_types::schema::hex;

use super::{Failure, Models, Said};
use crate::journal;
use crate::models::history::folders;
use crate::models::orders::{Control, Letter, Order};
use crate::models::people::{People, Role, prove};

/// To which run, by whom and why.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The run's folder.
    folder: PathBuf,
    /// The model.
    model: String,
    /// Why; kept in the journal.
    #[arg(long, default_value = "")]
    why: String,
    /// Who you are; the user of this shell if it is not given.
    #[arg(long = "as", value_name = "NAME")]
    who: Option<String>,
    /// How long to wait for a run that is up, in seconds.
    #[arg(long, default_value_t = 30)]
    wait: u64,
}

impl Options {
    /// The folder and the model.
    pub(super) fn of(&self) -> (&Path, &str) {
        (&self.folder, &self.model)
    }
}

/// The variable that holds a person's token.
const TOKEN: &str = "TIDEMILL_TOKEN";

pub(super) fn promote(options: &Options, version: &str) -> Result<Said, Failure> {
    let number = number(options, version)?;
    send(options, &Order::Promote(options.model.clone(), number))
}

pub(super) fn roll_back(options: &Options, version: Option<&str>) -> Result<Said, Failure> {
    let number = version.map(|version| number(options, version)).transpose()?;
    Models::open(&options.folder)?.known(&options.model)?;
    send(options, &Order::RollBack(options.model.clone(), number))
}

pub(super) fn approve(options: &Options, version: &str) -> Result<Said, Failure> {
    let number = number(options, version)?;
    send(options, &Order::Approve(options.model.clone(), number))
}

pub(super) fn retrain(options: &Options) -> Result<Said, Failure> {
    send(options, &Order::Retrain(options.model.clone()))
}

fn number(options: &Options, version: &str) -> Result<u64, Error> {
    Models::open(&options.folder)?.version(&options.model, version)
}

/// Lays an order down, and waits for the answer where a run is up.
fn send(options: &Options, order: &Order) -> Result<Said, Failure> {
    let (run, _) = folders(&options.folder)?;
    let user = || std::env::var("USER").unwrap_or_else(|_| "somebody".to_string());
    let who = options.who.clone().unwrap_or_else(user);
    let mut letter = Letter::new(&who, order, &options.why);
    let token = std::env::var(TOKEN).ok();
    if let Some(token) = &token {
        letter.proof = prove(&letter, token);
    }
    // What the run would refuse is refused here at once, and never laid down.
    People::of_run(&run)?.judge(&letter, order).map_err(Error::user)?;
    let control = Control::of_run(&run);
    control.leave(&letter)?;
    let mut json = json!({ "order": letter.what, "id": letter.id });
    if !journal::in_use(&run.join("journal")) {
        json["state"] = json!("waiting");
        let text = format!(
            "no run is up: `{order}` waits in {} and is carried out by the next run, once it has come \
             to the end of its journal\n",
            run.display()
        );
        return Ok(Said { text, json });
    }
    match control.wait(&letter.id, Duration::from_secs(options.wait)) {
        None => {
            json["state"] = json!("waiting");
            let text = format!(
                "`{order}` waits: the run has not come to the end of its journal yet, or its next tick\n"
            );
            Ok(Said { text, json })
        }
        Some(answer) => match answer.refused {
            Some(why) => Err(Error::user(format!("`{order}` is refused: {why}")).into()),
            None => {
                json["state"] = json!("done");
                json["epoch"] = json!(answer.epoch);
                Ok(Said { text: format!("`{order}` holds from epoch {} on\n", answer.epoch), json })
            }
        },
    }
}

/// Adds a person and says their token once.
pub(super) fn people(folder: &Path, name: &str, role: Role) -> Result<Said, Failure> {
    let (run, _) = folders(folder)?;
    let mut bytes = [0u8; 24];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| Error::external(format!("no chance for a token from /dev/urandom: {e}")))?;
    let token = hex(&bytes);
    People::add(&run, name, role, &token)?;
    let text = format!(
        "{token}\nThis is the token of {name}; it is shown once. Orders: {TOKEN}=... tidemill models \
         ... --as {name}\n"
    );
    Ok(Said { text, json: json!({ "name": name, "role": role, "token": token }) })
}
