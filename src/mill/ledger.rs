//! What a run writes down of its decisions: the journal, which a second run over the same log must
//! repeat, and the registry of models.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use tidemill_types::Error;
use tidemill_types::model::ModelVersion;
use tidemill_types::task::Artifact;

use crate::journal::Journal;
use crate::journal::record::{Header, Outcome, Record};
use crate::models::registry::Registry;

/// Journal and registry of one run.
pub struct Ledger {
    journal: Journal,
    registry: Registry,
    /// What earlier runs wrote and this one has not come to yet.
    ahead: VecDeque<Record>,
    outcomes: BTreeMap<String, (u64, Outcome)>,
}

impl Ledger {
    /// Opens `folder/journal` and `folder/models`.
    ///
    /// # Errors
    /// A journal of another pipeline, or one that is damaged or in use.
    pub fn open(folder: &Path, pipeline: &str, plan: &str) -> Result<Ledger, Error> {
        let path = folder.join("journal");
        let (mut journal, records) = Journal::open(&path)?;
        let mut ahead = VecDeque::new();
        let mut outcomes = BTreeMap::new();
        for record in records {
            match record {
                Record::Header(header) if header.plan != plan => {
                    let name = &header.pipeline;
                    return Err(Error::user(format!(
                        "{} is the journal of another pipeline (`{name}`, plan {:.12}), or of an earlier state of this one",
                        path.display(),
                        header.plan
                    ))
                    .help("give this run a folder of its own with --folder, or move the old one away"));
                }
                Record::Header(_) => continue,
                Record::Outcome { ref task, epoch, ref outcome } => {
                    outcomes.insert(task.clone(), (epoch, outcome.clone()));
                    ahead.push_back(record);
                }
                record => ahead.push_back(record),
            }
        }
        journal.append(&Record::Header(Header::new(pipeline, plan)))?;
        journal.sync()?;
        let registry = Registry::open(folder.join("models"))?;
        Ok(Ledger { journal, registry, ahead, outcomes })
    }

    /// Writes a decision down, or finds that an earlier run took the same one.
    ///
    /// # Errors
    /// An earlier run decided otherwise: the log or the program has changed since.
    pub fn note(&mut self, record: Record) -> Result<(), Error> {
        let Some(before) = self.ahead.pop_front() else {
            self.journal.append(&record)?;
            return self.journal.sync();
        };
        if before == record {
            return Ok(());
        }
        tracing::error!(?before, now = ?record, "the journal says otherwise");
        Err(Error::user("this run does not repeat what its journal says of the earlier one")
            .help("the input has changed since: give this run a folder of its own with --folder"))
    }

    /// How a training ended in an earlier run, and the epoch at which that took effect.
    pub fn outcome(&self, task: &str) -> Option<&(u64, Outcome)> {
        self.outcomes.get(task)
    }

    /// The artifact of a training that an earlier run made.
    ///
    /// # Errors
    /// It is gone or damaged.
    pub fn artifact(
        &self,
        model: &str,
        outcome: &Outcome,
    ) -> Result<Result<Artifact, String>, Error> {
        match outcome {
            Outcome::Failed { error } => Ok(Err(error.clone())),
            Outcome::Trained { artifact, kind, rows, metrics } => Ok(Ok(Artifact {
                kind: kind.clone(),
                bytes: self.registry.artifact(model, artifact)?,
                rows: *rows,
                metrics: metrics.clone(),
            })),
        }
    }

    /// Stores an artifact; its hash.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn store(&self, model: &str, bytes: &[u8]) -> Result<String, Error> {
        self.registry.put(model, bytes)
    }

    /// Registers a version and writes it down.
    ///
    /// # Errors
    /// The folder cannot be written, or holds another version of that number.
    pub fn register(&mut self, version: &ModelVersion) -> Result<(), Error> {
        self.registry.register(version)?;
        self.note(Record::Version { version: version.clone() })
    }
}
