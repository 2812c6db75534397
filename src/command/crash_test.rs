//! `tidemill crash-test`: kills runs of a pipeline, starts them again, and compares all that they
//! wrote with a run that was never interrupted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tidemill_config::document::load;
use tidemill_config::plan::{Mode, Plan, SinkPlan, StorePlan, Stream};
use tidemill_config::table::Item;
use tidemill_connectors::sink::{Delivery, Readback, SINKS};
use tidemill_types::Error;

use self::at_once::Sent;
use self::chance::Chance;
use self::found::{Files, empty, files};
use super::{Failure, Said};
use crate::checkpoint::bucket;
use crate::checkpoint::points::{POINTS, VARIABLE};
use crate::checkpoint::store::Store;
use crate::engine::check::compile;

mod at_once;
mod chance;
mod found;

/// What a person may choose of a crash test.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Kills, all in all.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    kills: u32,
    /// Decides when and where; the machine's own timing does too.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Runs are started with 1 to so many workers.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Where the runs write; a temporary folder, which stays if anything differs, if it is not given.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Kills of one life of a run, at most: then it comes to its end and is compared.
const KILLS_A_LIFE: u32 = 12;

/// Wall times, which differ from run to run, and folders.
const NOT_COMPARED: [&str; 6] = [
    "seconds",
    "events_per_second",
    "peak_memory_bytes",
    "seconds_waiting_for_training",
    "folder",
    "first_scores",
];

struct Kit<'a> {
    file: &'a Path,
    overrides: &'a [(String, String)],
    plan: Plan,
    options: &'a Options,
    folder: PathBuf,
    /// Keys with which the sinks that write elsewhere do so to places of this life's own.
    elsewhere: Vec<(String, String)>,
    /// The fail points that a run of this pipeline may come to.
    points: Vec<&'static str>,
    chance: Chance,
    /// How long a run takes.
    takes: Duration,
    killed: BTreeMap<String, u32>,
    /// `at_once`: what this life has sent, and what all lives had by their ends.
    sent: Sent,
    bytes: u64,
    /// Runs that were to be killed, whether they came to where they were to be or not.
    tried: usize,
    went_on: u32,
    began_again: u32,
}

/// Kills, restarts and compares.
pub(super) fn run(
    file: &Path,
    overrides: &[(String, String)],
    options: &Options,
) -> Result<Said, Failure> {
    let plan = compile(load(file, overrides)?)?.plan;
    if plan.checkpoint.is_none() {
        let error = Error::user("the pipeline makes no checkpoints: there is nothing to test");
        return Err(error.help("leave [checkpoint] enabled").into());
    }
    if let Some(source) = plan.sources.iter().find(|s| !crate::engine::check::bounded(s)) {
        let name = &source.name.value;
        let error = Error::user(format!("source `{name}` never ends: two runs cannot be compared"));
        return Err(error.help(format!("--set source.{name}.until=end")).into());
    }
    if let Some((sink, path)) = outside(&plan) {
        let name = &sink.name.value;
        let error =
            Error::user(format!("sink `{name}` writes to {path}, outside the run's folder"));
        return Err(error
            .help(format!("--set sink.{name}.path=FILE, a name in that folder"))
            .into());
    }
    let (folder, temporary) = match &options.folder {
        Some(folder) => (folder.clone(), false),
        None => {
            let name = format!("tidemill-crash-test-{}", std::process::id());
            (std::env::temp_dir().join(name), true)
        }
    };
    let began = Instant::now();
    let mut kit = Kit {
        file,
        overrides,
        points: points_of(&plan),
        plan,
        options,
        folder: folder.clone(),
        elsewhere: Vec::new(),
        chance: Chance::new(options.seed),
        takes: Duration::ZERO,
        killed: BTreeMap::new(),
        sent: Sent::default(),
        bytes: 0,
        tried: 0,
        went_on: 0,
        began_again: 0,
    };
    let lives = kit.run()?;
    if temporary {
        fs::remove_dir_all(&folder).map_err(Error::from)?;
    }
    Ok(kit.said(lives, began.elapsed()))
}

impl Kit<'_> {
    fn run(&mut self) -> Result<u32, Error> {
        let whole = self.folder.join("whole");
        empty(&whole)?;
        self.move_elsewhere("whole");
        let began = Instant::now();
        let wanted = self.finish(self.start(&whole, 1, None)?)?;
        self.takes = began.elapsed();
        let wanted = (self.found(&whole)?, wanted);
        let (mut kills, mut lives) = (0, 0);
        while kills < self.options.kills {
            lives += 1;
            let folder = self.folder.join("killed");
            empty(&folder)?;
            self.move_elsewhere(&format!("life-{lives}"));
            self.sent = Sent::default();
            let most = (self.options.kills - kills).min(KILLS_A_LIFE);
            let (killed, told) = self.live(&folder, most)?;
            kills += killed;
            if self.at_once() {
                self.sent.look(&folder, &self.aside())?;
                self.bytes += self.sent.bytes();
            }
            let found = (self.found(&folder)?, told);
            self.compare(&wanted, &found, lives)?;
            tracing::debug!(lives, kills, "a life was compared");
        }
        Ok(lives)
    }

    /// Has sinks that write to no file of the folder write to places of this life's own.
    fn move_elsewhere(&mut self, life: &str) {
        let suffix = format!("crash-{}-{life}", std::process::id());
        let keys = |(sink, readback): (&SinkPlan, Readback)| {
            let name = sink.name.value.clone();
            let keys = (readback.elsewhere)(sink, &suffix).into_iter();
            keys.map(move |(key, value)| (format!("sink.{name}.{key}"), value))
        };
        self.elsewhere = apart(&self.plan).flat_map(keys).collect();
        if let Some(StorePlan::Bucket(bucket)) = self.plan.checkpoint.as_ref().map(|c| &c.store) {
            let store = format!("{}/{suffix}", bucket::name(bucket));
            self.elsewhere.push(("checkpoint.store".to_string(), store));
        }
    }

    /// What a life wrote, in its folder and elsewhere; the places elsewhere are removed.
    fn found(&self, folder: &Path) -> Result<Files, Error> {
        let mut found = files(folder, &self.aside())?;
        let plan = self.plan_of_life()?;
        for (sink, readback) in read_back(&plan) {
            found.insert(readers_of(sink), (readback.read)(sink)?);
        }
        apart(&plan).try_for_each(|(sink, readback)| (readback.remove)(sink))?;
        Ok(if self.at_once() { at_once::in_common(&plan, found) } else { found })
    }

    /// One life: starts and kills a run until it has come to its end; how often it was killed, and what it
    /// told.
    fn live(&mut self, folder: &Path, most: u32) -> Result<(u32, Json), Error> {
        let mut killed = 0;
        loop {
            match if killed == 0 { None } else { Some(self.lines(folder)?) } {
                None => {}
                Some(0) => self.began_again += 1,
                _ => self.went_on += 1,
            }
            let workers = 1 + self.chance.below(u64::from(self.options.workers)) as u16;
            if killed == most {
                let told = self.finish(self.start(folder, workers, None)?)?;
                return Ok((killed, told));
            }
            // Every point in turn, and as often at any moment: now and then at once.
            let n = self.tried;
            self.tried += 1;
            let at = n.is_multiple_of(2).then(|| self.points[n / 2 % self.points.len()]);
            let point = at.map(|name| format!("{name}:{}", 1 + self.chance.below(2)));
            let child = self.start(folder, workers, point.as_deref())?;
            let wait = match (at, self.chance.below(4)) {
                (Some(_), _) => None,
                (None, 0) => Some(self.takes.mul_f64(self.chance.share() / 8.0)),
                (None, _) => Some(self.takes.mul_f64(self.chance.share())),
            };
            match self.kill(child, wait)? {
                Ended::Killed => {
                    killed += 1;
                    if self.at_once() {
                        self.sent.look(folder, &self.aside())?;
                    }
                    *self.killed.entry(at.unwrap_or("any moment").to_string()).or_default() += 1;
                }
                Ended::Finished(told) => return Ok((killed, told)),
            }
        }
    }

    fn start(&self, folder: &Path, workers: u16, point: Option<&str>) -> Result<Child, Error> {
        let program = std::env::current_exe().map_err(Error::from)?;
        let mut command = Command::new(program);
        command.arg("run").arg(self.file).args(["--quiet", "--output", "json", "--folder"]);
        command.arg(folder).arg("--workers").arg(workers.to_string());
        // So often that a run of any length makes some.
        let often = (self.takes.as_millis() / 12).clamp(10, 5_000);
        let interval = format!("checkpoint.interval={often}ms");
        command.args(["--set", &interval]);
        // And near enough to the mill that they lie all over the input.
        command.args(["--set", "pipeline.ahead=2000"]);
        for (key, value) in self.overrides.iter().chain(&self.elsewhere) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.env_remove(VARIABLE);
        if let Some(point) = point {
            command.env(VARIABLE, point);
        }
        // A pipe that nobody reads would fill: files take what is said.
        let output = |name: &str| fs::File::create(self.folder.join(name)).map_err(Error::from);
        command.stdin(Stdio::null()).stdout(output("stdout")?).stderr(output("stderr")?);
        command.spawn().map_err(|e| Error::external(format!("cannot start a run: {e}")))
    }

    /// Kills a run after a time, or waits for it to kill itself at a point.
    fn kill(&self, mut child: Child, wait: Option<Duration>) -> Result<Ended, Error> {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(Error::from)? {
                break status;
            }
            if wait.is_some_and(|wait| began.elapsed() >= wait) {
                child.kill().map_err(Error::from)?;
                break child.wait().map_err(Error::from)?;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        // Only a signal leaves no code.
        if status.code().is_none() {
            return Ok(Ended::Killed);
        }
        self.told(status).map(Ended::Finished)
    }

    fn finish(&self, mut child: Child) -> Result<Json, Error> {
        let status = child.wait().map_err(Error::from)?;
        self.told(status)
    }

    /// What a run told that has ended by itself.
    fn told(&self, status: ExitStatus) -> Result<Json, Error> {
        if !status.success() {
            let said = ["stderr", "stdout"]
                .map(|name| fs::read_to_string(self.folder.join(name)).unwrap_or_default());
            let said = said.concat();
            let folder = self.folder.display();
            return Err(Error::external(format!("a run failed ({status}): {}", said.trim_end()))
                .help(format!("what it wrote is in {folder}")));
        }
        let said = fs::read(self.folder.join("stdout")).map_err(Error::from)?;
        let mut told: Json = serde_json::from_slice(&said)
            .map_err(|e| Error::internal(format!("a run told no JSON: {e}")))?;
        if let Some(object) = told.as_object_mut() {
            NOT_COMPARED.iter().for_each(|key| drop(object.remove(*key)));
        }
        if self.at_once() {
            return Ok(at_once::counts_in_common(&told));
        }
        for training in told["retrainings"].as_array_mut().into_iter().flatten() {
            training["seconds"] = json!(0);
        }
        Ok(told)
    }

    fn compare(
        &self,
        wanted: &(Files, Json),
        found: &(Files, Json),
        life: u32,
    ) -> Result<(), Error> {
        let differ = |what: &str| {
            Err(Error::internal(format!("life {life}: {what} differs from the run never killed"))
                .help(format!("compare the folders whole and killed in {}", self.folder.display())))
        };
        for name in wanted.0.keys().chain(found.0.keys()) {
            if wanted.0.get(name) != found.0.get(name) {
                return differ(name);
            }
        }
        if wanted.1 != found.1 {
            let (wanted, found) = (&wanted.1, &found.1);
            let keys = wanted.as_object().into_iter().flatten().map(|(key, _)| key);
            let key = keys.clone().find(|key| wanted[key.as_str()] != found[key.as_str()]);
            return differ(&format!("`{}` of the summary", key.map_or("?", String::as_str)));
        }
        Ok(())
    }

    fn at_once(&self) -> bool {
        self.plan.pipeline.mode == Mode::AtOnce
    }

    /// How many checkpoints a life has made that are still there.
    fn lines(&self, folder: &Path) -> Result<usize, Error> {
        let plan = self.plan_of_life()?.checkpoint;
        plan.map_or(Ok(0), |plan| Ok(Store::open(&plan.store, folder)?.lines()?.len()))
    }

    /// The plan, with the places of this life.
    fn plan_of_life(&self) -> Result<Plan, Error> {
        let overrides = [self.overrides, &self.elsewhere[..]].concat();
        let loaded = load(self.file, &overrides);
        loaded.map(|loaded| loaded.plan).map_err(|report| {
            Error::internal(format!("the pipeline does not load again: {report}"))
        })
    }

    /// The beginnings of names of files whose rows have no order across partitions.
    fn aside(&self) -> Vec<String> {
        let aside = |stream| matches!(stream, Stream::DeadLetters | Stream::Late);
        let sinks = self.plan.sinks.iter().filter(|sink| aside(sink.stream));
        sinks.filter_map(path_of).map(str::to_string).collect()
    }

    /// What was found to be equal.
    fn equal(&self) -> String {
        if self.at_once() {
            return format!(
                "features after all corrections, the rows that were scored, refused or late, and their counts are \
                 equal; within a life all that text files held at a kill was made again, {} bytes in all",
                self.bytes
            );
        }
        let by = |delivery| read_back(&self.plan).any(|(s, _)| delivery_of(s) == Some(delivery));
        let messages = if by(Delivery::Transactions) { ", committed messages" } else { "" };
        let upserts = if by(Delivery::Upserts) { ", upserted rows" } else { "" };
        format!("all files{messages}{upserts}, the journal and the summary are equal")
    }

    /// Sinks of which nothing is compared.
    fn not_compared(&self) -> impl Iterator<Item = &str> {
        let differs = |sink: &&SinkPlan| {
            let repeats = delivery_of(sink) == Some(Delivery::AtLeastOnce);
            repeats || (self.at_once() && !at_once::is_compared(sink))
        };
        self.plan.sinks.iter().filter(differs).map(|sink| sink.name.value.as_str())
    }

    fn said(&self, lives: u32, took: Duration) -> Said {
        let kills: u32 = self.killed.values().sum();
        let (went_on, began_again) = (self.went_on, self.began_again);
        let mut text = format!(
            "{kills} kills over {lives} lives of the run, each compared with one that was never killed: {}.\n\
             {went_on} restarts went on from a checkpoint, {began_again} began again, with 1 to {} workers; \
             {:.0} s.\n\n",
            self.equal(),
            self.options.workers,
            took.as_secs_f64()
        );
        let apart: Vec<&str> = self.not_compared().collect();
        if !apart.is_empty() {
            text += &format!(
                "Not compared, for {}: {}.\n\n",
                match self.at_once() {
                    true => "rows there depend on when events came, or a crash may repeat them",
                    false => "a crash may repeat rows there",
                },
                apart.join(", ")
            );
        }
        for (point, kills) in &self.killed {
            text += &format!("  {kills:>6}  {point}\n");
        }
        let json = json!({
            "kills": kills,
            "lives": lives,
            "went_on": went_on,
            "began_again": began_again,
            "by_point": self.killed,
            "not_compared": self.not_compared().collect::<Vec<_>>(),
            "seconds": took.as_secs_f64(),
        });
        Said { text, json }
    }
}

/// Sinks that write to a place which others may use too.
fn apart(plan: &Plan) -> impl Iterator<Item = (&SinkPlan, Readback)> {
    plan.sinks.iter().filter_map(|sink| Some((sink, entry_of(sink)?.readback?)))
}

/// What a sink's readers see, among what is compared.
fn readers_of(sink: &SinkPlan) -> String {
    format!("what readers of sink `{}` see", sink.name.value)
}

/// Those of them whose contents no crash changes, so that what they wrote is compared.
fn read_back(plan: &Plan) -> impl Iterator<Item = (&SinkPlan, Readback)> {
    apart(plan).filter(|(sink, _)| match delivery_of(sink) {
        Some(Delivery::Upserts) => plan.pipeline.mode == Mode::Final,
        delivery => delivery == Some(Delivery::Transactions),
    })
}

fn entry_of(sink: &SinkPlan) -> Option<&'static tidemill_connectors::sink::Entry> {
    SINKS.iter().find(|entry| entry.name == sink.section.kind.value)
}

fn delivery_of(sink: &SinkPlan) -> Option<Delivery> {
    entry_of(sink).map(|entry| (entry.delivery)(sink))
}

/// The file of a sink that does not lie in the run's folder, where every life would write to the same one.
fn outside(plan: &Plan) -> Option<(&SinkPlan, &str)> {
    plan.sinks.iter().find_map(|sink| {
        let path = path_of(sink)?;
        let parts = Path::new(path).components();
        let leaves = |part| !matches!(part, Component::Normal(_) | Component::CurDir);
        parts.into_iter().any(leaves).then_some((sink, path))
    })
}

fn path_of(sink: &SinkPlan) -> Option<&str> {
    let (_, path) = sink.section.keys.iter().find(|(key, _)| key.value == "path")?;
    match &path.value {
        Item::Text(path) => Some(path),
        _ => None,
    }
}

/// The points that a run of this plan may come to: a sink's own where there is such a sink.
fn points_of(plan: &Plan) -> Vec<&'static str> {
    let of_sinks = SINKS.iter().map(|entry| entry.name);
    let absent: Vec<&str> = of_sinks
        .filter(|kind| !plan.sinks.iter().any(|sink| sink.section.kind.value == *kind))
        .collect();
    let comes = |point: &&str| {
        let kind = point.split_once('.').map_or("", |(kind, _)| kind);
        let compared = |(sink, _): (&SinkPlan, _)| sink.section.kind.value == "kafka";
        let sent = kind != "kafka" || read_back(plan).any(compared);
        let at_once = ["epoch.durable", "line.held"].contains(point);
        let mode = !at_once || plan.pipeline.mode == Mode::AtOnce;
        !absent.contains(&kind) && sent && mode
    };
    POINTS.iter().map(|(point, _)| *point).filter(comes).collect()
}

enum Ended {
    Killed,
    Finished(Json),
}
