//! What a person types: one file a command.
//!
//! Results go to standard output, errors to standard error. Exit codes, after BSD's sysexits: 0 done,
//! 64 wrong usage (clap: 2), 69 the world failed, 70 a defect, 78 a wrong pipeline file.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use serde_json::{Value as Json, json};
use tidemill_config::diagnostic::Report;
use tidemill_types::Error;

mod backfill;
mod check;
mod crash_test;
mod explain;
mod graph;
mod journal;
mod load;
mod models;
mod new;
mod produce;
mod reference;
mod replay;
mod run;
mod schema;
mod serving;
mod supervise;
mod token;
mod top;
mod train;

/// A streaming dataflow engine with incremental model updates.
#[derive(Parser, Debug)]
#[command(name = "tidemill", version, about, arg_required_else_help = true)]
#[command(after_help = "Examples:
  tidemill new shop
  tidemill run config/pipelines/flight_delays.toml
  tidemill check config/pipelines/flight_delays.toml
  tidemill graph config/pipelines/flight_delays.toml | dot -Tsvg > graph.svg
  tidemill journal verify out/flight_delays/journal
  tidemill reference aggregates

Environment:
  NO_COLOR      plain output
  TIDEMILL_LOG  what is logged, for example info or tidemill=debug")]
pub struct Arguments {
    /// How results are written.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One JSON object, for programs.
    Json,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs a pipeline.
    #[command(after_help = "Examples:
  tidemill run config/pipelines/flight_delays.toml
  tidemill run pipeline.toml --workers 2 --folder /tmp/trial --set pipeline.seed=7
  tidemill run pipeline.toml --speed 3600x --output json

SIGINT or SIGTERM stops the run: what is done is written and summed up.")]
    Run {
        #[command(flatten)]
        pipeline: Pipeline,
        #[command(flatten)]
        options: run::Options,
    },
    /// Writes a starter pipeline with data of its own.
    #[command(after_help = "Examples:
  tidemill new shop && tidemill run shop/shop.toml
  tidemill new shop --folder /tmp/trial --template kafka

Nothing is overwritten: exit code 78 if one of the files is there already.")]
    New(new::Options),
    /// Loads a pipeline's files into Kafka topics.
    #[command(after_help = "Examples:
  tidemill produce pipeline.toml --brokers localhost:9092
  tidemill produce pipeline.toml --brokers kafka:9093 --source orders --topic-prefix trial- \\
    --property security.protocol=SASL_SSL --property sasl.mechanisms=PLAIN \\
    --property sasl.username=me --property sasl.password=secret

Each source gets a topic of its own, with JSON values of the declared columns; NULL is null, times are
RFC 3339 in UTC. A topic that is there already gets the rows on top of what it holds. At the end come
the keys with which the sources read their topics.")]
    Produce {
        #[command(flatten)]
        pipeline: Pipeline,
        #[command(flatten)]
        options: produce::Options,
    },
    /// Checks a pipeline file: names, limits, units, variables.
    #[command(after_help = "Example:
  tidemill check pipeline.toml --set source.orders.path=orders.csv

Exit code 78 if anything is wrong; every error names file, line, reason and cure.")]
    Check(Pipeline),
    /// Draws a pipeline: sources, windows, features, models, sinks.
    #[command(after_help = "Examples:
  tidemill graph pipeline.toml --format mermaid
  tidemill graph pipeline.toml | dot -Tsvg > graph.svg")]
    Graph {
        #[command(flatten)]
        pipeline: Pipeline,
        /// The language of the drawing.
        #[arg(long, value_enum, default_value_t = graph::Format::Dot)]
        format: graph::Format,
    },
    /// Kills runs of a pipeline again and again and compares what they write with a run never killed.
    #[command(after_help = "Examples:
  tidemill crash-test config/pipelines/flight_delays.toml --kills 20
  tidemill crash-test pipeline.toml --kills 1000 --seed 7 --workers 2

Runs are killed (SIGKILL) at any moment and at each step of the protocol of checkpoints, and started again,
with other numbers of workers. All sources must end. Compared are files and, of sinks that are exactly once,
what readers of committed messages see: they write to topics of their own meanwhile, which are made and
removed. Exit code 70 if anything differs: the folder with both runs is kept.")]
    CrashTest {
        #[command(flatten)]
        pipeline: Pipeline,
        #[command(flatten)]
        options: crash_test::Options,
    },
    /// Computes the features of history: the rows that a run writes, and nothing else of the run.
    #[command(after_help = "Examples:
  tidemill backfill pipeline.toml --from 2026-01-01 --to 2026-02-01 --out january.parquet
  tidemill backfill pipeline.toml --from 2026-01-01 --to 2027-01-01 --out 2026/ --parts 16 \\
    --executor cluster --workers 4 --set executor.cluster.address=http://ray-head:8265

The same operators as in `run` compute the rows, so that each value is the one that a run computes; of
`mode = \"at_once\"` the final ones. Everything before --from is read too, for windows reach back. A file
stands under its name when it is whole, a folder gets a file for each day of event time.

With --parts, history is split by the key of the windows. What is done of it stands in OUT.backfill until all
is: the same command goes on with what is missing. The rows and bytes are the same for any number of parts
and any executor.")]
    Backfill {
        #[command(flatten)]
        pipeline: Pipeline,
        #[command(flatten)]
        options: backfill::Options,
    },
    /// Tells how an event got its score: the model and why it was in charge, the features and the events behind them.
    #[command(after_help = "Examples:
  tidemill explain config/pipelines/flight_delays.toml 4711
  tidemill explain pipeline.toml 4711 --folder out/trial --events 3 --output json

The sources are read again, and the run is repeated up to the event, held to its journal. Events are told with
partition and offset.")]
    Explain {
        #[command(flatten)]
        pipeline: Pipeline,
        #[command(flatten)]
        options: explain::Options,
    },
    /// Computes a stretch of a run once more, and compares it with what the run wrote.
    #[command(after_help = "Examples:
  tidemill replay pipeline.toml --from 2013-02-01 --to 2013-02-02
  tidemill replay pipeline.toml --folder out/trial --from 2013-02-01T06:00:00Z --to 2013-02-01T07:00:00Z \\
    --with-model trees@2

The pipeline is run from the beginning of its logs, held to the journal of the run, until the stretch is over. Rows
go to files beside; those of a file sink are compared with the run's. Exit code 69 if the logs have lost their
beginning, 70 if anything differs.")]
    Replay {
        #[command(flatten)]
        pipeline: Pipeline,
        #[command(flatten)]
        options: replay::Options,
    },
    /// Reads a journal.
    #[command(subcommand)]
    Journal(journal::Command),
    /// Asks a server at a fixed rate and tells how long answers took.
    #[command(after_help = "Example:
  tidemill load 127.0.0.1:8080 --path /v2/models/shop/infer --bodies bodies.jsonl --rate 10000

Requests are due at fixed times, and latencies count from then (open loop). The environment variable
TIDEMILL_TOKEN holds the caller's token, if one is needed.")]
    Load(load::Options),
    /// Shows a running pipeline in the terminal: rates, watermarks, models, drift, alerts.
    #[command(after_help = "Examples:
  tidemill top
  tidemill top http://127.0.0.1:8080 --once

It asks once a second until it is stopped. The environment variable TIDEMILL_TOKEN holds the caller's
token, if one is needed. In a pipe it writes plain text.")]
    Top(top::Options),
    /// Makes a token for a caller of `run --serve`.
    #[command(after_help = "Example:
  tidemill token ann --role operator >> notes   # keep the token, put the entry into tokens.toml
  tidemill run pipeline.toml --serve 0.0.0.0:8080 --tokens tokens.toml")]
    Token(token::Options),
    /// Reads a model registry.
    #[command(subcommand)]
    Models(models::Command),
    /// Runs one attempt at a task, a training or a part of a backfill, as executors start it.
    #[command(after_help = "Example:
  tidemill train out/shop/tasks/0123456789abcdef0123456789abcdef/task.json

Exit codes: 0 done, 10 failed (failure.json beside the attempt says why), 11 the deadline passed, 12 another
attempt has the lease, 14 cancelled.")]
    Train(train::Options),
    /// Lists the components of a kind, with their keys.
    Reference {
        /// The kind; all of them if it is not given.
        #[arg(value_enum)]
        kind: Option<reference::Kind>,
    },
    /// Prints the JSON Schema of pipeline files, for editors.
    #[command(after_help = "Example:
  tidemill schema > pipeline.schema.json

Editors with Taplo (Even Better TOML, Helix, Neovim) take it from the first line of a pipeline file:
  #:schema pipeline.schema.json")]
    Schema,
    /// Prints completions for a shell.
    #[command(after_help = "Example:
  tidemill completions bash > /etc/bash_completion.d/tidemill")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// A pipeline file and what is changed in it.
#[derive(clap::Args, Debug)]
struct Pipeline {
    /// The pipeline file.
    file: PathBuf,
    /// Sets a key, as table.name.key=value; without a value the key is taken away. May be given often.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write it as table.name.key=value, for example source.orders.path=orders.csv")?;
    Ok((key.trim().to_string(), value.to_string()))
}

/// Why a command failed.
enum Failure {
    /// A wrong pipeline file.
    Pipeline(Report),
    /// Anything else.
    Other(Error),
    /// Processes that were started have said what there is to say; this is their exit code.
    Said(u8),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Other(error)
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Failure {
        Failure::Pipeline(report)
    }
}

/// What a command has to say: for people and for programs.
struct Said {
    text: String,
    json: Json,
}

/// A text as one word of a shell.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%:=".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Runs one command.
pub fn run(arguments: Arguments) -> ExitCode {
    let done = match arguments.command {
        Command::Run { pipeline, options } => run::run(&pipeline.file, &pipeline.set, &options),
        Command::CrashTest { pipeline, options } => {
            crash_test::run(&pipeline.file, &pipeline.set, &options)
        }
        Command::Backfill { pipeline, options } => {
            backfill::run(&pipeline.file, &pipeline.set, &options)
        }
        Command::Explain { pipeline, options } => {
            explain::run(&pipeline.file, &pipeline.set, &options)
        }
        Command::Replay { pipeline, options } => {
            replay::run(&pipeline.file, &pipeline.set, &options)
        }
        Command::New(options) => new::run(&options),
        Command::Produce { pipeline, options } => {
            produce::run(&pipeline.file, &pipeline.set, &options)
        }
        Command::Check(pipeline) => check::run(&pipeline.file, &pipeline.set),
        Command::Graph { pipeline, format } => graph::run(&pipeline.file, &pipeline.set, format),
        Command::Journal(command) => journal::run(command),
        Command::Load(options) => load::run(&options),
        Command::Token(options) => token::run(&options),
        Command::Top(options) => top::run(&options),
        Command::Models(command) => models::run(command),
        Command::Train(options) => match train::run(&options) {
            Ok((said, 0)) => Ok(said),
            Ok((said, code)) => {
                say(&match arguments.output {
                    Output::Text => said.text,
                    Output::Json => format!("{}\n", said.json),
                });
                return ExitCode::from(code);
            }
            Err(failure) => Err(failure),
        },
        Command::Reference { kind } => Ok(reference::run(kind)),
        Command::Schema => Ok(schema::run()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let command = &mut Arguments::command();
            clap_complete::generate(shell, command, "tidemill", &mut script);
            let text = String::from_utf8_lossy(&script).into_owned();
            Ok(Said { json: json!({ "completions": text }), text })
        }
    };
    match (done, arguments.output) {
        (Ok(said), Output::Text) => say(&said.text),
        (Ok(said), Output::Json) => say(&format!("{}\n", said.json)),
        (Err(failure), output) => fail(failure, output),
    }
}

/// Prints the answer. A reader that has seen enough, as `head` has, is no failure.
fn say(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write the answer: {e}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn fail(failure: Failure, output: Output) -> ExitCode {
    match failure {
        Failure::Pipeline(report) => {
            if output == Output::Json {
                println!("{}", report.to_json());
            } else if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
                eprint!("{}", report.pretty());
            } else {
                eprint!("{report}");
            }
            ExitCode::from(78)
        }
        Failure::Other(error) => {
            if output == Output::Json {
                println!("{}", json!({ "error": error.message, "cure": error.help }));
            } else {
                eprintln!("error: {}", error.message);
                if let Some(help) = &error.help {
                    eprintln!("  cure: {help}");
                }
            }
            ExitCode::from(error.exit_code())
        }
        Failure::Said(code) => ExitCode::from(code),
    }
}
