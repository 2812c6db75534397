//! What windows cost with nothing around them: `cargo bench --bench windows`.
//!
//! Payments as the features of `config/pipelines/payments.toml` see them, rows in memory and in order,
//! one thread: each is taken into its card's windows and read, 20 answers over a minute, an hour, a day and
//! the last two rows. Three days of event time; the second half is timed, when every window is full.
//! Median of five.
//!
//!     cargo bench --bench windows -- keys       # 1 k to 10 M cards, even and zipf 1.1
//!     cargo bench --bench windows -- lengths    # the longest window from a minute to 30 days
//!     cargo bench --bench windows -- memory     # bytes a key and a row
//!     cargo bench --bench windows -- tiles      # the longest window exact, and with a resolution
//!     cargo bench --bench windows -- lines      # how long ten payments take while the windows are being saved
//!     cargo bench --bench windows -- vectors    # sums, means and maxima at each place of vectors
//!     cargo bench --bench windows -- once       # little, to count instructions

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::Instant;

use tidemill_config::plan::{Edge, Frame};
use tidemill_operators::aggregate::{self, Call, Unnest};
use tidemill_operators::column::Cell;
use tidemill_operators::window::{Answers, Group, Output, Pieces, Store};
use tidemill_types::{DataType, Id, Item, Key, Micros, Value};

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SECOND: Micros = 1_000_000;
const HOUR: Micros = 3_600 * SECOND;
const DAY: Micros = 24 * HOUR;

/// How many requests have their memory on its way at once.
const AHEAD: usize = 128;
/// How many times that is a round.
const ROUND: usize = 64;

/// Numbers that look random and are the same each time (SplitMix64).
struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct Payment {
    key: Key,
    time: Micros,
    merchant: i64,
    amount: f64,
}

/// Payments of so many cards, whose shares fall as `1 / rank^zipf`.
fn payments(n: usize, cards: usize, zipf: f64) -> Vec<Payment> {
    let mut chance = Chance(7);
    let mut sum = 0.0;
    let mut shares: Vec<f64> = Vec::with_capacity(cards);
    for rank in 1..=cards {
        sum += (rank as f64).powf(-zipf);
        shares.push(sum);
    }
    let card = |chance: &mut Chance| {
        let at = chance.share() * sum;
        shares.partition_point(|share| *share < at).min(cards - 1)
    };
    (0..n)
        .map(|i| Payment {
            // Ranks are scattered over the hashes, as those of real keys are.
            key: Key::of_bytes(&(card(&mut chance) as u64).to_le_bytes()),
            time: (3.0 * DAY as f64 * i as f64 / n as f64) as Micros,
            merchant: (chance.share() * chance.share() * 20_000.0) as i64,
            amount: (chance.share() * chance.share() * 30_000.0).round() / 100.0,
        })
        .collect()
}

/// The answers of the payments pipeline, with this as its longest window.
fn group(longest: Frame) -> Group {
    let (float, int) = (Some(DataType::Float64), Some(DataType::Int64));
    let output = |frame, column, name: &str, distinct, input| Output {
        frame,
        edge: Edge::default(),
        column,
        second: None,
        filter: None,
        aggregate: Arc::from(
            aggregate::build(&Call {
                name,
                distinct,
                input,
                second: None,
                constants: &[],
                unnest: Unnest::No,
            })
            .expect("a call of the list"),
        ),
    };
    let mut outputs = Vec::new();
    for frame in [Frame::Last(60 * SECOND), Frame::Last(HOUR), longest] {
        outputs.push(output(frame, None, "count", false, None));
        for name in ["sum", "avg", "stddev_pop", "min", "max"] {
            outputs.push(output(frame, Some(0), name, false, float));
        }
    }
    outputs.push(output(Frame::Last(HOUR), Some(1), "count", true, int));
    outputs.push(output(Frame::Rows(2), Some(2), "lag", false, int));
    Group { own_stream: true, outputs }
}

/// Takes and reads all; gives nanoseconds an event of the second half, and the store.
fn run(payments: &[Payment], longest: Frame) -> (f64, Store) {
    run_group(payments, group(longest), &[])
}

/// Aggregates at each place of vectors over the last hour; the fourth column has these.
fn of_vectors(names: &[&str]) -> Group {
    let input = Some(DataType::List(Item::Float64));
    let (distinct, second, constants, unnest) = (false, None, &[], Unnest::No);
    let output = |name: &&str| Output {
        frame: Frame::Last(HOUR),
        edge: Edge::default(),
        column: Some(3),
        second,
        filter: None,
        aggregate: Arc::from(
            aggregate::build(&Call { name, distinct, input, second: None, constants, unnest })
                .expect("a call of the list"),
        ),
    };
    Group { own_stream: true, outputs: names.iter().map(output).collect() }
}

/// A thousand vectors of two decimals.
fn vectors(length: usize) -> Vec<Arc<[Value]>> {
    let mut chance = Chance(11);
    let mut number = || Value::Float((chance.share() * 2_000.0 - 1_000.0).round() / 100.0);
    (0..1_000).map(|_| (0..length).map(|_| number()).collect()).collect()
}

fn run_group(payments: &[Payment], group: Group, vectors: &[Arc<[Value]>]) -> (f64, Store) {
    let mut store = Store::new(group);
    let mut places = Vec::with_capacity(AHEAD);
    let mut answers = Answers::to(ROUND * AHEAD);
    let mut began = Instant::now();
    let half = payments.len() / 2 / AHEAD * AHEAD;
    let mut id = 0;
    for (n, chunk) in payments.chunks(AHEAD).enumerate() {
        if n * AHEAD == half {
            began = Instant::now();
        }
        places.clear();
        places.extend(chunk.iter().map(|p| store.place(p.key)));
        std::hint::black_box(store.touch(places.iter().copied()));
        for (payment, &place) in chunk.iter().zip(&places) {
            id += 1;
            let cell = |column: usize| match column {
                0 => Cell::Float(payment.amount),
                1 => Cell::Int(payment.merchant),
                2 => Cell::Int(payment.time),
                _ => Cell::List(&vectors[id as usize % vectors.len()]),
            };
            store.insert_at(place, payment.key, payment.time, &Id::Int(id), cell);
            store.read_at(Some(place), payment.time, &Id::Int(id), &mut answers);
        }
        // Answers leave and the watermark moves by rounds, as in a pipeline.
        if n % ROUND == ROUND - 1 {
            let round = std::mem::replace(&mut answers, Answers::to(ROUND * AHEAD));
            std::hint::black_box(store.finish(round));
            store.advance(chunk[0].time);
        }
    }
    let events = payments.len() - half;
    (began.elapsed().as_secs_f64() * 1e9 / events as f64, store)
}

/// How windows are saved while ten payments after ten come.
#[derive(Clone, Copy, PartialEq)]
enum Saving {
    Not,
    /// Between two tens, all in one go.
    Whole,
    /// So many bytes after each ten.
    Steps(usize),
}

/// Takes ten payments at a time and reads them; microseconds of each ten from the half on, where saving begins, for as
/// long as it lasts, but so many at least; and bytes that were saved.
fn tens(payments: &[Payment], longest: Frame, saving: Saving) -> (Vec<f64>, usize) {
    let mut store = Store::new(group(longest));
    let (mut took, mut pieces) = (Vec::new(), None);
    let is_saved = |pieces: &Option<Pieces>| saving == Saving::Not || pieces.is_some();
    let half = payments.len() / 20;
    for (n, chunk) in payments.chunks(10).enumerate() {
        if n == half && saving != Saving::Not {
            store.begin_cut();
        }
        let began = Instant::now();
        if n >= half && !is_saved(&pieces) {
            let step = if let Saving::Steps(step) = saving { step } else { usize::MAX };
            pieces = store.go_on_with_cut(step);
        }
        let mut answers = Answers::default();
        for (i, payment) in chunk.iter().enumerate() {
            let (place, id) = (store.place(payment.key), Id::Int((10 * n + i) as i64));
            let cell = |column: usize| match column {
                0 => Cell::Float(payment.amount),
                1 => Cell::Int(payment.merchant),
                _ => Cell::Int(payment.time),
            };
            store.insert_at(place, payment.key, payment.time, &id, cell);
            store.read_at(Some(place), payment.time, &id, &mut answers);
        }
        std::hint::black_box(store.finish(answers));
        store.advance(chunk[0].time);
        if n >= half {
            took.push(began.elapsed().as_secs_f64() * 1e6);
        }
        if is_saved(&pieces) && took.len() >= 20_000 {
            break;
        }
    }
    let bytes = pieces.map_or(0, |pieces| pieces.ranges().values().map(Vec::len).sum());
    (took, bytes)
}

fn median(payments: &[Payment], longest: Micros) -> f64 {
    let mut times: Vec<f64> = (0..5).map(|_| run(payments, Frame::Last(longest)).0).collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn say(what: &str, ns: f64) {
    println!("{what:<44}{ns:>10.1} ns{:>14.2} M/s", 1e3 / ns);
}

fn main() {
    let asked = std::env::args().nth(1).filter(|a| !a.starts_with('-')).unwrap_or_default();
    match asked.as_str() {
        "keys" => {
            for (cards, events) in
                [(1_000, 2), (10_000, 2), (100_000, 4), (1_000_000, 4), (10_000_000, 10)]
            {
                for zipf in [1.1, 0.0] {
                    let payments = payments(events * 1_000_000, cards, zipf);
                    say(&format!("{cards} cards, zipf {zipf}"), median(&payments, DAY));
                }
            }
        }
        "lengths" => {
            let payments = payments(4_000_000, 100_000, 1.1);
            for (name, longest) in [
                ("1m", 60 * SECOND),
                ("1h", HOUR),
                ("6h", 6 * HOUR),
                ("1d", DAY),
                ("7d", 7 * DAY),
                ("30d", 30 * DAY),
            ] {
                say(&format!("longest window {name}"), median(&payments, longest));
            }
        }
        "memory" => {
            for (cards, zipf) in
                [(100_000, 1.1), (100_000, 0.0), (1_000_000, 1.1), (1_000_000, 0.0)]
            {
                let (_, store) = run(&payments(4_000_000, cards, zipf), Frame::Last(DAY));
                let (keys, rows, bytes) = store.size();
                println!(
                    "{cards} cards, zipf {zipf}: {keys} keys, {rows} rows, {} bytes a key, {} a row",
                    bytes / keys.max(1),
                    bytes / rows.max(1)
                );
            }
        }
        "tiles" => {
            let tiled = |resolution| Frame::Tiled { last: DAY, resolution };
            let minute = 60 * SECOND;
            for (cards, zipf) in [(1_000, 0.0), (100_000, 1.1)] {
                let payments = payments(4_000_000, cards, zipf);
                for (name, frame) in [
                    ("exact", Frame::Last(DAY)),
                    ("resolution 1h", tiled(HOUR)),
                    ("resolution 10m", tiled(10 * minute)),
                    ("resolution 1m", tiled(minute)),
                ] {
                    let (ns, store) = run(&payments, frame);
                    let (keys, rows, bytes) = store.size();
                    say(&format!("{cards} cards, zipf {zipf}, {name}"), ns);
                    println!("    {rows} rows, {} bytes a key", bytes / keys.max(1));
                }
            }
        }
        "lines" => {
            for cards in [100_000, 1_000_000] {
                let payments = payments(4_000_000, cards, 0.0);
                for (name, saving) in [
                    ("none", Saving::Not),
                    ("16 KiB after each ten", Saving::Steps(16 << 10)),
                    ("in one go", Saving::Whole),
                ] {
                    let (mut took, bytes) = tens(&payments, Frame::Last(DAY), saving);
                    took.sort_by(f64::total_cmp);
                    let at = |q: f64| took[((took.len() - 1) as f64 * q) as usize];
                    println!(
                        "{cards} cards, {name:<24} {:>7} tens, {:>6.1} MB: p50 {:.0} us, p99 {:.0}, p99.9 {:.0}, most {:.0}",
                        took.len(),
                        bytes as f64 / 1e6,
                        at(0.5),
                        at(0.99),
                        at(0.999),
                        at(1.0)
                    );
                }
            }
        }
        "vectors" => {
            let payments = payments(400_000, 10_000, 1.1);
            for length in [16, 64, 256] {
                let vectors = vectors(length);
                for names in [&["vector_sum", "vector_avg"][..], &["vector_max"]] {
                    let (ns, store) = run_group(&payments, of_vectors(names), &vectors);
                    let (keys, rows, bytes) = store.size();
                    say(&format!("{} of {length} numbers", names.join(", ")), ns);
                    println!("    {keys} keys, {rows} rows, {} bytes a row", bytes / rows.max(1));
                }
            }
        }
        "once" => {
            let payments = payments(1_000_000, 100_000, 1.1);
            say("100000 cards, zipf 1.1, 1000000 events, once", run(&payments, Frame::Last(DAY)).0);
        }
        _ => {
            let payments = payments(4_000_000, 100_000, 1.1);
            say("100000 cards, zipf 1.1", median(&payments, DAY));
        }
    }
}
