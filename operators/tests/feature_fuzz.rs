//! The feature language under 20,000 bent texts: no panic, no end of patience, no error out of place.
//!
//! `TIDEMILL_CASES` asks for more, `TIDEMILL_SEED` for others. The same function is fuzzed by
//! libFuzzer in `fuzz/`, which needs a nightly compiler and finds what no grammar thinks of.

#[path = "fuzzed/check.rs"]
mod check;
#[path = "fuzzed/grammar.rs"]
mod grammar;

use std::panic;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use check::{Came, check};
use grammar::Texts;
use tidemill_operators::aggregate::AGGREGATES;
use tidemill_operators::expression::functions;

/// A text that takes so long takes for ever: typical are 0.2 ms. This is to name the text; nothing
/// passes by being fast.
const PATIENCE: Duration = Duration::from_secs(300);

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no whole number: {text}")),
        Err(_) => default,
    }
}

/// The stack of a program's first thread, on which features are read. Planning takes about 3 kB for
/// each operator of a chain: on the 2 MB of other threads a chain of 700 ends the process.
const STACK: usize = 8 << 20;

/// Checks texts on a thread of its own; returns how many came how far.
fn run(texts: impl Iterator<Item = String> + Send + 'static) -> [usize; 3] {
    let (to, from) = mpsc::channel();
    let work = move || {
        for text in texts {
            if to.send((text.clone(), None)).is_err() {
                return;
            }
            let came = panic::catch_unwind(|| check(&text));
            let _ = to.send((text, Some(came)));
        }
    };
    thread::Builder::new().stack_size(STACK).spawn(work).expect("a thread");
    let (mut counts, mut begun) = ([0; 3], String::new());
    loop {
        match from.recv_timeout(PATIENCE) {
            Ok((text, None)) => begun = text,
            Ok((_, Some(Ok(came)))) => counts[came as usize] += 1,
            Ok((text, Some(Err(_)))) => panic!("panicked (see above): {text:?}"),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("does not end: {begun:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => return counts,
        }
    }
}

#[test]
fn bent_features_are_refused_in_their_place_or_typed() {
    // The library's panics are caught and become errors; what is printed of them is no news.
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let ours = info.location().is_some_and(|at| at.file().contains("operators"));
        if ours {
            print(info);
        }
    }));
    let (cases, seed) = (number("TIDEMILL_CASES", 20_000), number("TIDEMILL_SEED", 7));
    let aggregates = AGGREGATES.iter().map(|entry| entry.name).collect();
    let mut texts = Texts::new(seed, functions().collect(), aggregates);
    let counts = run((0..cases).map(move |_| texts.next()));
    eprintln!("refused, parsed, typed: {counts:?}");
    // A generator of nothing but refused texts would show nothing.
    let [_, parsed, typed] = counts.map(|count| count as u64);
    assert!(parsed > cases / 100 && typed > cases / 20, "{counts:?}");
}

/// Long texts, where a step too many for each would show.
#[test]
fn long_features_end() {
    let n = 20_000;
    let texts = [
        format!("i in ({}1)", "1, ".repeat(n)),
        format!("s in ({}'')", "'\u{e9}',\n".repeat(n)),
        format!("{}1", "1 + ".repeat(n)),
        format!("{}i{}", "(".repeat(n), ")".repeat(n)),
        "(".repeat(n),
        "-".repeat(n),
        format!("{}b", "not ".repeat(n)),
        format!("{}i{}", "abs(".repeat(n), ")".repeat(n)),
        format!("{}1 end", "case when b then 1 else ".repeat(n)),
        format!("i{}", "::bigint".repeat(n)),
        format!("i{}", "[1]".repeat(n)),
        format!("'{}'", "\u{1f600}".repeat(n)),
        format!("{}i", "\n".repeat(n)),
        format!("{}i", "/*".repeat(n)),
        format!("{}1", "sum(x) over w + ".repeat(90)),
        format!("{}1", "i + ".repeat(990)),
        format!("i{}", "::bigint".repeat(990)),
        format!("{}s", "s || ".repeat(990)),
        format!("{}1", "sum(x + 1) over w + ".repeat(150)),
    ];
    let counts = run(texts.into_iter());
    assert!(counts[Came::Refused as usize] > 0 && counts[Came::Typed as usize] > 0, "{counts:?}");
}

#[test]
fn a_call_stands_where_it_is_written() {
    assert_eq!(check("1 + avg(x) over w"), Came::Typed);
    assert_eq!(check("avg(x)"), Came::Parsed);
    // A letter that grows when it becomes small.
    assert_eq!(
        check("'\u{130}\u{130}\u{130}\u{130}\u{130}\u{130}\u{130}\u{130}' = SUM(x)"),
        Came::Parsed
    );
    assert_eq!(check("avg(x) over z"), Came::Refused);
}
