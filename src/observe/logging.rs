//! The log: structured events to standard error, as text or JSON, filtered by `TIDEMILL_LOG`.
//!
//! The filter is written as `tracing` has it, `info,tidemill::engine=debug` for example.

use std::io::{self, IsTerminal, Write};

use tidemill_types::Error;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::Screen;

/// The variable of the environment that holds the filter.
pub const VARIABLE: &str = "TIDEMILL_LOG";
/// What is logged without it: what an operator must see. librdkafka's own lines come as warnings.
const DEFAULT: &str = "warn,tidemill=info";
const DEFAULT_QUIET: &str = "error";

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts the log of this process. The filter is, in order: the variable, `error` if `quiet`, `info`.
///
/// Fails on a filter that cannot be read, and if a log was started before.
pub fn start(format: LogFormat, quiet: bool, screen: &Screen) -> Result<(), Error> {
    let filter = match std::env::var(VARIABLE) {
        Ok(text) if !text.trim().is_empty() => text,
        _ if quiet => DEFAULT_QUIET.into(),
        _ => DEFAULT.into(),
    };
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let writer = ScreenWriter { screen: screen.clone() };
    let subscriber = subscriber(format, &filter, colours, writer)?;
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| Error::internal("the log was started twice"))
}

fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    colours: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).map_err(|e| {
        Error::user(format!("{VARIABLE}=`{filter}` is not a log filter: {e}"))
            .help("write a level (error, warn, info, debug, trace) or `target=level`, with commas between")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match format {
        LogFormat::Text => Box::new(builder.with_ansi(colours).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    })
}

/// Gathers one event, then prints it in one piece while no progress bar is on the screen.
struct ScreenWriter {
    screen: Screen,
}

impl<'a> MakeWriter<'a> for ScreenWriter {
    type Writer = ScreenLine;

    fn make_writer(&'a self) -> ScreenLine {
        ScreenLine { screen: self.screen.clone(), bytes: Vec::with_capacity(256) }
    }
}

struct ScreenLine {
    screen: Screen,
    bytes: Vec<u8>,
}

impl Write for ScreenLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ScreenLine {
    fn drop(&mut self) {
        // A log that cannot be written must not stop a run: a closed standard error is ignored.
        let _ = self.screen.suspend(|| io::stderr().lock().write_all(&self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber =
            subscriber(format, filter, false, move || writer.clone()).expect("a good filter");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(source = "weather", "idle");
            tracing::debug!("detail");
            tracing::warn!(target: "other", "elsewhere");
        });
        let bytes = kept.0.lock().expect("lock").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn lines_are_filtered_and_plain() {
        let text = logged(LogFormat::Text, DEFAULT);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("idle source=\"weather\"") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(logged(LogFormat::Text, "off"), "");
    }

    #[test]
    fn json_lines_are_flat_objects() {
        let text = logged(LogFormat::Json, "tidemill=info");
        let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one object");
        assert_eq!((&line["message"], &line["source"]), (&"idle".into(), &"weather".into()));
    }

    #[test]
    fn a_bad_filter_is_the_users() {
        let error =
            subscriber(LogFormat::Text, "tidemill=loud", false, io::sink).err().expect("bad");
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains(VARIABLE), "{error}");
    }
}
