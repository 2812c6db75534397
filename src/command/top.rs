//! `tidemill top`: the dashboard in a terminal.

mod ask;
mod frame;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tidemill_types::Error;

use self::ask::Server;
use self::frame::{Look, Room};
use super::{Failure, Said};
use crate::serve::signals;

/// What is looked at.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Where the pipeline is served. Plain HTTP.
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// Prints one frame and ends.
    #[arg(long)]
    once: bool,
}

/// The variable with the caller's token: a command line is seen by everybody on the machine.
const TOKEN: &str = "TIDEMILL_TOKEN";

/// From one frame to the next.
const EVERY: Duration = Duration::from_secs(1);

/// What changes with events and not with the clock is asked for every so many frames.
const SELDOM: u64 = 3;

/// Where the output is no terminal, or does not tell its size.
const PLAIN: Room = Room { columns: 100, lines: usize::MAX, colour: false };

/// Shows a pipeline until it is stopped, or once.
pub(super) fn run(options: &Options) -> Result<Said, Failure> {
    let server = Server::new(&options.server, std::env::var(TOKEN).ok())?;
    let mut look = Look { pipeline: server.get("pipeline")?, ..Look::default() };
    let terminal = std::io::stdout().is_terminal();
    if options.once || !terminal {
        take(&server, &mut look, 0)?;
    }
    if options.once {
        let json = json!({
            "pipeline": look.pipeline,
            "status": look.status,
            "models": look.models["models"],
            "drift": look.drift["map"],
            "alerts": look.alerts["alerts"],
        });
        return Ok(Said { text: frame::draw(&look, &room(terminal)), json });
    }
    let stop = Arc::new(AtomicBool::new(false));
    signals::stop_on_signal(&stop)?;
    let screen = Screen::enter(terminal);
    let mut turn = 0;
    let mut seen = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        look.lost = match take(&server, &mut look, turn) {
            Ok(()) => {
                seen = Instant::now();
                None
            }
            Err(error) if look.status.is_null() => return Err(error.into()),
            Err(error) => Some((seen.elapsed(), error.message)),
        };
        if !screen.show(&frame::draw(&look, &room(terminal))) {
            break;
        }
        turn += 1;
        let until = Instant::now() + EVERY;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    drop(screen);
    Ok(Said { text: String::new(), json: Json::Null })
}

/// Asks for what the next frame shows.
fn take(server: &Server, look: &mut Look, turn: u64) -> Result<(), Error> {
    look.status = server.get("status")?;
    look.alerts = server.get("alerts")?;
    if turn.is_multiple_of(SELDOM) {
        look.models = server.get("models")?;
        look.drift = server.get("drift")?;
    }
    Ok(())
}

fn room(terminal: bool) -> Room {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match terminal.then(terminal_size::terminal_size).flatten() {
        Some((columns, lines)) => Room {
            columns: usize::from(columns.0),
            lines: usize::from(lines.0),
            colour: std::env::var_os("NO_COLOR").is_none(),
        },
        None => Room { columns: number("COLUMNS").unwrap_or(PLAIN.columns), ..PLAIN },
    }
}

/// A screen of its own, which is left as it was found. In a pipe frames follow each other as lines.
struct Screen {
    terminal: bool,
}

impl Screen {
    fn enter(terminal: bool) -> Screen {
        if terminal {
            // The other screen, no cursor.
            put("\x1b[?1049h\x1b[?25l");
        }
        Screen { terminal }
    }

    /// Shows a frame; says whether anybody still reads.
    fn show(&self, frame: &str) -> bool {
        match self.terminal {
            // Line by line over what stands there, so that nothing flickers.
            true => put(&format!("\x1b[H{}\x1b[J", frame.replace('\n', "\x1b[K\n"))),
            false => put(&format!("{frame}\n")),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            put("\x1b[?25h\x1b[?1049l");
        }
    }
}

fn put(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}
