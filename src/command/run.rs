//! `tidemill run`: a pipeline, from its sources to its sinks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tidemill_config::document::load;
use tidemill_config::plan::{LeadingEdge, Mode};
use tidemill_types::Error;

use super::serving::Flags;
use super::{Failure, Said, supervise};
use crate::engine::check::{Compiled, compile};
use crate::engine::cluster::{Members, run_member};
use crate::engine::run;
use crate::host::Host;
use crate::observe::{Display, LogFormat, ProgressBar, Screen, logging, traces};
use crate::serve::signals;

/// What a person may choose of a run.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Where to write; `out/NAME` if it is not given. Running again into the same folder repeats the
    /// run: trainings in its journal are taken from there.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Workers of the dataflow, in each process.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Starts so many processes on this machine and watches over them: if one dies all begin again at the newest
    /// checkpoint.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64), conflicts_with_all = ["process", "hosts"])]
    processes: Option<u16>,
    /// Which of `--hosts` this process is, where each is started by itself; 0 has the sinks and the models.
    #[arg(long, requires = "hosts")]
    process: Option<usize>,
    /// HOST:PORT of each process, with commas between, the same for all. `TIDEMILL_TOKEN` says who belongs to them.
    #[arg(long, value_delimiter = ',', requires = "process")]
    hosts: Vec<String>,
    /// Replays at so many times the speed of the events, for example 3600x.
    #[arg(long, value_parser = speed)]
    speed: Option<f64>,
    #[command(flatten)]
    serving: Flags,
    /// Goes on serving after the end of the input, until the program is stopped.
    #[arg(long, requires = "serve")]
    linger: bool,
    /// Shows no progress, and of the log only errors.
    #[arg(long)]
    quiet: bool,
    /// How the log is written to standard error.
    #[arg(long, value_enum, default_value = "text")]
    log: LogFormat,
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text);
    match number.parse() {
        Ok(speed) if speed > 0.0 && f64::is_finite(speed) => Ok(speed),
        _ => Err("write it as a number above 0 and an x, for example 3600x".to_string()),
    }
}

impl Options {
    /// All processes, if this is one of several.
    fn members(&self) -> Result<Option<Members>, Error> {
        let Some(process) = self.process else { return Ok(None) };
        let hosts = self.hosts.clone();
        if process >= hosts.len() {
            let why = format!("--process {process} is none of the {} of --hosts", hosts.len());
            return Err(Error::user(why).help("count from 0, in the order of --hosts"));
        }
        if hosts.len() == 1 {
            return Ok(None);
        }
        let token = std::env::var(supervise::TOKEN).unwrap_or_default();
        let near = |host: &String| host.starts_with("127.") || host.starts_with("localhost:");
        if token.len() < 16 && !hosts.iter().all(near) {
            let why = "processes on other machines need a token, so that nobody else joins them";
            let help = format!("set {} to the same 16 letters or more for each", supervise::TOKEN);
            return Err(Error::user(why).help(help));
        }
        Ok(Some(Members { process, hosts, token }))
    }
}

/// What several processes do not do.
fn several(compiled: &Compiled, options: &Options) -> Result<(), Error> {
    if compiled.plan.pipeline.mode == Mode::AtOnce {
        let why = "a pipeline with mode = \"at_once\" runs in one process";
        return Err(
            Error::user(why).help("leave out --processes and --hosts, or write mode = \"final\"")
        );
    }
    let by_clock =
        compiled.plan.online.as_ref().is_some_and(|online| online.edge == LeadingEdge::WallClock);
    if by_clock {
        let why =
            "[online] edge = \"wall_clock\" has one process: the windows of others cannot be asked";
        let help = "leave out --processes and --hosts, or write edge = \"event_time\"";
        return Err(Error::user(why).help(help));
    }
    if options.speed.is_some() {
        let why = "--speed has one process: each would keep a pace of its own";
        return Err(Error::user(why).help("leave out --speed, or --processes and --hosts"));
    }
    Ok(())
}

/// Runs a pipeline.
pub(super) fn run(
    file: &Path,
    overrides: &[(String, String)],
    options: &Options,
) -> Result<Said, Failure> {
    let compiled = compile(load(file, overrides)?)?;
    if let Some(processes) = options.processes.filter(|processes| *processes > 1) {
        several(&compiled, options)?;
        return supervise::run(processes);
    }
    let members = options.members()?;
    if members.is_some() {
        several(&compiled, options)?;
    }
    let folder = match &options.folder {
        Some(folder) => folder.clone(),
        None => Path::new("out").join(&compiled.plan.pipeline.name.value),
    };
    std::fs::create_dir_all(&folder)
        .map_err(|e| Error::user(format!("cannot make {}: {e}", folder.display())))
        .map_err(|error| error.help("name a folder that can be written with --folder"))?;
    let screen = Screen::default();
    logging::start(options.log, options.quiet, &screen)?;
    let pipeline = compiled.plan.pipeline.name.value.clone();
    let bar = ProgressBar::new(Display::choose(options.quiet), &screen);
    let chosen = run::Options {
        folder: folder.clone(),
        workers: usize::from(options.workers),
        members,
        speed: options.speed,
        serve: options.serving.options(&folder, &pipeline)?,
        stretch: None,
        host: Host::default(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    signals::stop_on_signal(&stop)?;
    supervise::end_with_supervisor()?;
    if chosen.members.as_ref().is_some_and(|members| members.process > 0) {
        run_member(compiled, &chosen, &stop)?;
        return Err(Failure::Said(0));
    }
    traces::start(&compiled.plan)?;
    let ran = run::run(compiled, &chosen, Arc::clone(&stop), bar);
    traces::finish();
    let run::Ran { report, server, checkpoint } = ran?;
    let page = folder.join("report.html");
    report.write(&page)?;
    let stopped = stop.load(Ordering::Relaxed);
    if let Some(server) = server {
        if options.linger && !stopped {
            tracing::info!(address = %server.address(), "the input has ended; HTTP is served on");
        }
        while options.linger && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        server.stop();
        traces::finish();
    }
    let mut text = report.summary.table();
    if stopped {
        let next = match checkpoint {
            true => "goes on from its newest checkpoint",
            false => "begins anew, for there is no checkpoint to go on from",
        };
        text +=
            &format!("\nThe run was stopped before its input ended; running it again {next}.\n");
    }
    text += &format!("\nOutput in {}, report in {}\n", folder.display(), page.display());
    let mut json = json!(report.summary);
    if let Some(object) = json.as_object_mut() {
        object.insert("folder".to_string(), json!(folder));
        object.insert("stopped".to_string(), json!(stopped));
        object.insert("checkpoint".to_string(), json!(stopped && checkpoint));
    }
    Ok(Said { text, json })
}
