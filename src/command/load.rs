//! `tidemill load`: how fast a server answers at a given rate.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidemill_types::Error;

use super::{Failure, Said};
use crate::serve::load::{self, Measured, Plan};

/// What load.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Where the server listens, for example 127.0.0.1:8080. Plain HTTP.
    server: String,
    /// What is asked.
    #[arg(long, value_name = "PATH")]
    path: String,
    /// A file with a body a line, sent in turn.
    #[arg(long, value_name = "FILE")]
    bodies: PathBuf,
    /// Requests a second.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// For so many seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Uncounted seconds before.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Connections; one has one request under way.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
}

/// The variable with the caller's token: a command line is seen by everybody on the machine.
const TOKEN: &str = "TIDEMILL_TOKEN";

fn plan(options: &Options) -> Result<Plan, Error> {
    let wrong = |what: &str, help: &str| Error::user(what.to_string()).help(help);
    let address: Option<SocketAddr> =
        options.server.to_socket_addrs().ok().and_then(|mut all| all.next());
    let address = address
        .ok_or_else(|| wrong(&format!("`{}` is no address", options.server), "write HOST:PORT"))?;
    let uri = options.path.parse().ok().filter(|_| options.path.starts_with('/'));
    let uri = uri.ok_or_else(|| {
        wrong(&format!("`{}` is no path", options.path), "write for example /v2/models/shop/infer")
    })?;
    let text = std::fs::read_to_string(&options.bodies).map_err(|e| {
        wrong(
            &format!("cannot read {}: {e}", options.bodies.display()),
            "write a body a line, for example \
             {\"inputs\":[{\"name\":\"card\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"c1\"]}]}",
        )
    })?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let bodies: Vec<_> = lines.map(|line| line.as_bytes().to_vec().into()).collect();
    if bodies.is_empty() {
        let what = format!("{} is empty", options.bodies.display());
        return Err(wrong(&what, "write a body a line"));
    }
    let sound = |x: f64| x.is_finite() && (0.0..=86_400.0).contains(&x);
    let rate = options.rate;
    let possible = rate.is_finite() && (0.01..=1e7).contains(&rate);
    if !(possible && sound(options.seconds) && sound(options.warm_up)) {
        return Err(wrong(
            "the rate or the time makes no sense",
            "the rate is 0.01 to 10,000,000 a second, times are up to a day",
        ));
    }
    Ok(Plan {
        address,
        uri,
        bodies: Arc::new(bodies),
        token: std::env::var(TOKEN).ok(),
        rate,
        duration: Duration::from_secs_f64(options.seconds),
        warm_up: Duration::from_secs_f64(options.warm_up),
        connections: usize::from(options.connections),
    })
}

/// Sends the load and says what came of it.
pub(super) fn run(options: &Options) -> Result<Said, Failure> {
    let measured = load::run(plan(options)?)?;
    let answered: u64 = measured.statuses.values().sum();
    if measured.good() == 0 {
        let found: Vec<String> = measured.statuses.iter().map(told).collect();
        let none = format!("no answer was good: {}", found.join(", "));
        let (server, path) = (&options.server, &options.path);
        let cure = format!("look at one answer: `curl -i --json BODY http://{server}{path}`");
        return Err(Error::external(none).help(cure).into());
    }
    let rate = answered as f64 / measured.took.as_secs_f64().max(1e-9);
    let quantiles: Vec<(f64, u64)> =
        QUANTILES.iter().map(|q| (*q, measured.latency.value_at_quantile(q / 100.0))).collect();
    let mut text = format!(
        "{answered} answers in {:.2} s: {rate:.0}/s of {:.0}/s asked; {} were good, {} were sent late\n\n",
        measured.took.as_secs_f64(),
        options.rate,
        measured.good(),
        measured.late,
    );
    let bad = |(status, _): &(&u16, &u64)| !(200..300).contains(*status);
    for status in measured.statuses.iter().filter(bad) {
        text += &format!("{}\n", told(status));
    }
    text += &plot(&quantiles);
    text += "\nLatencies count from when a request was due.\n";
    let by_name =
        quantiles.iter().map(|(q, micros)| (format!("p{q}"), json!(*micros as f64 / 1e6)));
    let json = json!({
        "answers": answered,
        "good": measured.good(),
        "late": measured.late,
        "per_second": rate,
        "asked_per_second": options.rate,
        "statuses": statuses(&measured),
        "seconds": by_name.collect::<serde_json::Map<_, _>>(),
        "mean_seconds": measured.latency.mean() / 1e6,
    });
    Ok(Said { text, json })
}

/// How often there was a status, or none.
fn told((status, n): (&u16, &u64)) -> String {
    match status {
        0 => format!("no answer: {n}"),
        status => format!("status {status}: {n}"),
    }
}

fn statuses(measured: &Measured) -> serde_json::Map<String, serde_json::Value> {
    measured.statuses.iter().map(|(status, n)| (status.to_string(), json!(n))).collect()
}

/// Percent.
const QUANTILES: [f64; 9] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0];

/// Columns of the longest bar.
const WIDTH: f64 = 50.0;

/// A bar for each quantile. The scale is logarithmic: tenfold the time is the same step everywhere.
fn plot(quantiles: &[(f64, u64)]) -> String {
    let least = quantiles.first().map_or(1, |(_, micros)| *micros).max(1) as f64;
    let most = quantiles.last().map_or(1, |(_, micros)| *micros).max(1) as f64;
    let span = (most / least).ln().max(1e-9);
    let mut text = String::new();
    for (quantile, micros) in quantiles {
        let share = (*micros as f64 / least).max(1.0).ln() / span;
        let bar = "#".repeat((share * (WIDTH - 1.0)) as usize + 1);
        text += &format!("p{quantile:<6} {:>12} us  {bar}\n", micros);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_with_the_logarithm() {
        let text = plot(&[(50.0, 10), (99.0, 100), (100.0, 1_000)]);
        let bars: Vec<usize> = text.lines().map(|line| line.matches('#').count()).collect();
        assert_eq!(bars, [1, 25, 50]);
        assert_eq!(plot(&[(50.0, 7), (100.0, 7)]).matches('#').count(), 2);
    }
}
