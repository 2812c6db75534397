//! What a run writes down of its decisions: the journal, which a second run over the same log must
//! repeat, and the registry of models.
//!
//! A thread of its own does the writing, so that the mill never waits for the disk: what has come
//! since it last looked shares one `fsync`. Nothing leaves by a sink before all that was written down
//! before it is durable: the sinks wait for [`Settled`].

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use crossbeam_channel::{Receiver, Sender};
use tidemill_types::Error;
use tidemill_types::model::ModelVersion;
use tidemill_types::task::{Artifact, Failure, Setback};

use crate::host::{Handle, Host, Received, Turn, receive};
use crate::journal::Journal;
use crate::journal::Settled;
use crate::journal::record::{Command, Header, Outcome, Record, Report};
use crate::models::orders::Answer;
use crate::models::registry::{Registry, sha256};
use crate::models::report;

/// Entries that wait for the disk at most.
const WAITING: usize = 256;

/// Journal and registry of one run.
pub struct Ledger {
    registry: Registry,
    /// What earlier runs wrote and this one has not come to yet.
    ahead: VecDeque<Record>,
    outcomes: BTreeMap<String, (u64, Outcome)>,
    setbacks: BTreeMap<String, Vec<Setback>>,
    /// Records that this run and those that it goes on from came to.
    position: u64,
    /// What people had done in earlier runs and this one has not come to yet, up to the next end.
    commands: VecDeque<Command>,
    /// What came of every order, by its id.
    answers: BTreeMap<String, Answer>,
    /// What gates found in earlier runs.
    reports: BTreeMap<(String, u64), Report>,
    /// To the thread that writes; none once the ledger is closed.
    to: Option<Sender<Entry>>,
    writer: Option<Handle<()>>,
    settled: Settled,
}

/// What is to be written, in this order and no other: whoever reads a version in the journal finds
/// its manifest, and whoever reads a manifest finds its artifact.
enum Entry {
    Artifact { model: String, bytes: Vec<u8> },
    Manifest(ModelVersion),
    Report(Report),
    Record(Record),
}

/// What writes entries, until nobody sends any more or the disk refuses one.
struct Writer {
    entries: Receiver<Entry>,
    journal: Journal,
    registry: Registry,
    /// What seals reports.
    key: Option<String>,
    epochs: Settled,
    settled: Settled,
}

impl Writer {
    /// Writes what waits.
    fn step(&mut self, wait: bool) -> Turn<()> {
        if !wait && !self.epochs.is_settled() {
            return Turn::Idle;
        }
        let first = match receive(&self.entries, wait) {
            Received::One(first) => first,
            Received::Nothing => return Turn::Idle,
            Received::Gone => return Turn::Over(()),
        };
        let mut written = 0;
        // A decision must not outlive the epochs that it was taken on.
        let mut result = self.epochs.wait();
        for entry in std::iter::once(first).chain(self.entries.try_iter()) {
            written += 1;
            let (registry, journal) = (&self.registry, &mut self.journal);
            result = result.and_then(|()| match entry {
                Entry::Artifact { model, bytes } => registry.put(&model, &bytes).map(drop),
                Entry::Manifest(version) => registry.register(&version),
                Entry::Report(report) => {
                    let bytes = report::seal(&report, self.key.as_deref());
                    bytes.and_then(|b| registry.keep_report(&report.model, report.version, &b))
                }
                Entry::Record(record) => journal.append(&record),
            });
        }
        let failed = result.and_then(|()| self.journal.sync()).err();
        let over = failed.is_some();
        self.settled.done(written, failed);
        if over { Turn::Over(()) } else { Turn::Moved }
    }
}

impl Ledger {
    /// Opens `folder/journal` and `folder/models`; nothing is written there before `epochs` are durable.
    ///
    /// # Errors
    /// A journal of another pipeline, or one that is damaged or in use.
    pub fn open(
        folder: &Path,
        pipeline: &str,
        plan: &str,
        epochs: Settled,
        host: &Host,
    ) -> Result<Ledger, Error> {
        let path = folder.join("journal");
        let (mut journal, records) = Journal::open(&path)?;
        let mut ahead = VecDeque::new();
        let (mut outcomes, mut setbacks) = (BTreeMap::new(), BTreeMap::new());
        let header = Header::new(pipeline, plan);
        let mut last = None;
        let mut answers = BTreeMap::new();
        let mut reports = BTreeMap::new();
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
                Record::Header(header) => last = Some(header),
                Record::Outcome { ref task, epoch, ref outcome, setbacks: ref failed } => {
                    outcomes.insert(task.clone(), (epoch, outcome.clone()));
                    setbacks.insert(task.clone(), failed.clone());
                    ahead.push_back(record);
                }
                Record::Report(ref report) => {
                    reports.insert((report.model.clone(), report.version), report.clone());
                    ahead.push_back(record);
                }
                Record::Command(ref command) => {
                    answers.insert(command.id.clone(), answer(command));
                    ahead.push_back(record);
                }
                record => ahead.push_back(record),
            }
        }
        // Who writes stands there once for all runs of one build: a journal does not tell crashes.
        if last.as_ref() != Some(&header) {
            journal.append(&Record::Header(header))?;
            journal.sync()?;
        }
        let registry = Registry::open(folder.join("models"))?;
        // Whoever holds the journal is the only one who writes versions.
        registry.sweep()?;
        let settled = Settled::new(host);
        let (to, entries) = host.channel(WAITING);
        let mut writer = Writer {
            entries,
            journal,
            registry: registry.clone(),
            key: report::key(),
            epochs,
            settled: settled.clone(),
        };
        let writer = host.start("journal", move |wait| writer.step(wait))?;
        let (to, writer) = (Some(to), Some(writer));
        Ok(Ledger {
            registry,
            commands: to_the_end(&ahead),
            outcomes,
            setbacks,
            position: 0,
            ahead,
            answers,
            reports,
            to,
            writer,
            settled,
        })
    }

    /// What tells how much of it is durable.
    pub fn settled(&self) -> Settled {
        self.settled.clone()
    }

    fn enter(&self, entry: Entry) -> Result<(), Error> {
        self.settled.ask();
        match self.to.as_ref().and_then(|to| to.send(entry).ok()) {
            Some(()) => Ok(()),
            // The writer went with an error, which is told here.
            None => self.settled.wait().and(Err(Error::internal("the journal's thread is gone"))),
        }
    }

    /// Writes a decision down, or finds that an earlier run took the same one.
    ///
    /// # Errors
    /// The journal could not be written, now or before; an earlier run decided otherwise: the log or the program has changed since.
    pub fn note(&mut self, record: Record) -> Result<(), Error> {
        self.position += 1;
        let Some(before) = self.ahead.pop_front() else {
            return self.enter(Entry::Record(record));
        };
        if before == record {
            if matches!(record, Record::Finished { .. }) {
                self.commands = to_the_end(&self.ahead);
            }
            return Ok(());
        }
        tracing::error!(?before, now = ?record, "the journal says otherwise");
        Err(Error::user("this run does not repeat what its journal says of the earlier one")
            .help("the input has changed since: give this run a folder of its own with --folder"))
    }

    /// How many records this run came to, headers not counted.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes on behind so many records, to which an earlier run had come.
    ///
    /// # Errors
    /// The journal has fewer.
    pub fn go_on_from(&mut self, position: u64) -> Result<(), Error> {
        let records = self.ahead.len();
        let behind = usize::try_from(position).ok().filter(|position| *position <= records);
        let behind = behind.ok_or_else(|| {
            Error::external(format!(
                "the journal has {records} records, and a checkpoint was made behind {position}"
            ))
            .help("restore the journal, or begin again: give the run a folder of its own")
        })?;
        self.ahead.drain(..behind);
        self.position = position;
        self.commands = to_the_end(&self.ahead);
        Ok(())
    }

    /// An artifact by its hash.
    ///
    /// # Errors
    /// It is gone or damaged.
    pub fn bytes(&self, model: &str, artifact: &str) -> Result<Vec<u8>, Error> {
        self.registry.artifact(model, artifact)
    }

    /// The next thing that people had done in an earlier run, once its epoch has come.
    pub fn due(&mut self, epoch: u64) -> Option<Command> {
        self.commands.pop_front_if(|command| command.epoch <= epoch)
    }

    /// Whether everything that earlier runs wrote has been repeated: what comes now is new.
    pub fn caught_up(&self) -> bool {
        self.ahead.is_empty()
    }

    /// What came of an order in this run or an earlier one.
    pub fn answer(&self, id: &str) -> Option<&Answer> {
        self.answers.get(id)
    }

    /// A report as an earlier run wrote it, or as it is made now.
    pub fn report(&self, made: Report) -> Report {
        self.reports.get(&(made.model.clone(), made.version)).cloned().unwrap_or(made)
    }

    /// Keeps a report beside its version.
    ///
    /// # Errors
    /// The folder could not be written before.
    pub fn file(&self, report: &Report) -> Result<(), Error> {
        self.enter(Entry::Report(report.clone()))
    }

    /// Writes down what a person asked for.
    ///
    /// # Errors
    /// As [`Ledger::note`].
    pub fn command(&mut self, command: &Command) -> Result<(), Error> {
        self.answers.insert(command.id.clone(), answer(command));
        self.note(Record::Command(command.clone()))
    }

    /// A version and its artifact, once all that was written down is durable.
    ///
    /// # Errors
    /// There is no such version, or it is damaged.
    pub fn version(&self, model: &str, version: u64) -> Result<(ModelVersion, Vec<u8>), Error> {
        self.settled.wait()?;
        self.registry.get(model, version)
    }

    /// How a training ended in an earlier run, and the epoch at which that took effect.
    pub fn outcome(&self, task: &str) -> Option<&(u64, Outcome)> {
        self.outcomes.get(task)
    }

    /// What came to nothing before a training of an earlier run ended.
    pub fn setbacks(&self, task: &str) -> Vec<Setback> {
        self.setbacks.get(task).cloned().unwrap_or_default()
    }

    /// The artifact of a training that an earlier run made.
    ///
    /// # Errors
    /// It is gone or damaged.
    pub fn artifact(
        &self,
        model: &str,
        outcome: &Outcome,
    ) -> Result<Result<Artifact, Failure>, Error> {
        match outcome {
            Outcome::Failed { error, code } => {
                let mut failure = Failure::from(error.clone());
                // Journals of before have none.
                if !code.is_empty() {
                    failure.code.clone_from(code);
                }
                Ok(Err(failure))
            }
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
    /// The folder could not be written, now or before.
    pub fn store(&self, model: &str, bytes: Vec<u8>) -> Result<String, Error> {
        let hash = sha256(&bytes);
        self.enter(Entry::Artifact { model: model.to_string(), bytes })?;
        Ok(hash)
    }

    /// Registers a version and writes it down.
    ///
    /// # Errors
    /// The folder could not be written, or holds another version of that number: now or before.
    pub fn register(&mut self, version: &ModelVersion) -> Result<(), Error> {
        self.enter(Entry::Manifest(version.clone()))?;
        self.note(Record::Version { version: version.clone() })
    }

    /// Waits until all of it is durable.
    ///
    /// # Errors
    /// What the disk said.
    pub fn settle(&self) -> Result<(), Error> {
        self.settled.wait()
    }
}

/// What people had done before the next end of the input: what stands behind it, whatever its epoch, was
/// asked for once everything was scored.
fn to_the_end(ahead: &VecDeque<Record>) -> VecDeque<Command> {
    let before = ahead.iter().take_while(|record| !matches!(record, Record::Finished { .. }));
    let command = |record: &Record| match record {
        Record::Command(command) => Some(command.clone()),
        _ => None,
    };
    before.filter_map(command).collect()
}

fn answer(command: &Command) -> Answer {
    Answer { epoch: command.epoch, refused: command.refused.clone() }
}

impl Drop for Ledger {
    /// The journal is unlocked when its thread has ended.
    fn drop(&mut self) {
        self.to = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
