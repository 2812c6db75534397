//! `decayed_sum(x, '1h')`, `decayed_count(x, '1h')`, `decayed_avg(x, '1h')`: each row weighs half for every
//! half-life that has gone by since it.
//!
//! Read at moment T, a row of time t weighs 2^((t - T) / h). The result is exact in this sense: with
//! t = k h + r, the factor 2^(r/h) is rounded to an f64 (by the portable `libm`), and x 2^(r/h) 2^k is then
//! summed exactly; what a read adds up is rounded once, and once more by its own factor 2^(-R/h). So the
//! bits are a function of the multiset of rows and of the moment, whatever the order of arrival; rows can be
//! taken out; and nothing decays step by step, so no error piles up however long it runs. (Cormode,
//! Shkapenyuk, Srivastava and Xu, "Forward decay", 2009, is the idea: weights grow with the row's time
//! instead of shrinking with the clock's.)
//!
//! Rows are held in buckets of 64 half-lives. Two rules bound them, and so the state:
//!
//! * A read counts the bucket of its moment and the two before it: all rows of the last 128 half-lives, none
//!   older than 192. What is left out weighs less than 2^-128 each.
//! * A row more than 8 buckets behind the newest row ever seen is let go of for good. It shows only if a
//!   read goes back in time by more than 320 half-lives.
//!
//! Over time windows rows leave at the window's end too. NULL is not there; over no rows counted a count
//! is 0 and all else NULL. NaN and infinities do not decay.

use std::any::Any;

use tidemill_config::units;
use tidemill_types::{DataType, Micros, Value};

use super::bytes::{Reader, Writer};
use super::dyadic::{Dyadic, Term};
use super::exact_sum::Special;
use super::wide::Wide;
use super::{Aggregate, Built, Call, Entry, Primitive, Row, Running, View, form, written};

/// Half-lives in a bucket.
const BUCKET: i64 = 64;
/// How many buckets before that of the moment a read counts.
const READ: i64 = 2;
/// How many buckets behind the newest are held.
const HELD: i64 = 8;

pub(super) const DECAYED_SUM: Entry = Entry {
    name: "decayed_sum",
    aliases: &["exp_decay_sum"],
    summary: "the sum in which a row weighs half after each half-life: decayed_sum(x, '1h')",
    build: |call| build(call, Answer::Sum),
};

pub(super) const DECAYED_COUNT: Entry = Entry {
    name: "decayed_count",
    aliases: &["exp_decay_count"],
    summary: "the sum of the weights: decayed_count(x, '1h')",
    build: |call| build(call, Answer::Count),
};

pub(super) const DECAYED_AVG: Entry = Entry {
    name: "decayed_avg",
    aliases: &["ewma_by_time"],
    summary: "the mean in which a row weighs half after each half-life: decayed_avg(x, '1h')",
    build: |call| build(call, Answer::Avg),
};

/// What `sum`, `count` or `avg` is in a window that decays, for the window's own half-life: over rows, over the items of
/// lists, or in each of the forms for categories, places and keys.
///
/// # Errors
/// Another aggregate, or a call that it refuses.
pub fn decayed(call: &Call<'_>, half_life: Micros) -> Built {
    // Of a form that cannot be had the refusal names what stands in it, for that is what does not decay.
    if let Some(form) = form(call, |_| true, |single| decayed(single, half_life)) {
        return form;
    }
    let answer = match call.name {
        "sum" => Answer::Sum,
        "count" => Answer::Count,
        "avg" | "mean" => Answer::Avg,
        other => {
            return Err(format!("a window that decays has sum, count and avg; found {other}"));
        }
    };
    call.without_constants()?;
    typed(call, answer, half_life)
}

fn build(call: &Call<'_>, answer: Answer) -> Built {
    call.without_second()?;
    let half_life = match call.constants {
        [Value::Text(text)] => units::duration(text),
        [other] => Err(format!("found {}", written(other))),
        _ => Err(format!("found {} arguments", call.constants.len() + 1)),
    };
    let example = format!("{} takes a column and a half-life: {}(x, '1h')", call.name, call.name);
    typed(call, answer, half_life.map_err(|reason| format!("{example}; {reason}"))?)
}

fn typed(call: &Call<'_>, answer: Answer, half_life: Micros) -> Built {
    call.without_distinct()?;
    if half_life <= 0 {
        return Err(format!("{}: a half-life is longer than nothing", call.name));
    }
    match answer {
        Answer::Count if call.input.is_none() => {}
        Answer::Count => drop(call.input(&DataType::ALL)?),
        _ => drop(call.input(&[DataType::Int64, DataType::Float64, DataType::Bool])?),
    }
    Ok(Box::new(Decayed { answer, half_life }))
}

#[derive(Clone, Copy)]
enum Answer {
    Sum,
    Count,
    Avg,
}

struct Decayed {
    answer: Answer,
    half_life: Micros,
}

impl Aggregate for Decayed {
    fn output(&self) -> DataType {
        DataType::Float64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Own]
    }

    fn running(&self) -> Option<Box<dyn Running>> {
        Some(Box::new(Buckets::new(self.half_life)))
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let Some(buckets) = view.own::<Buckets>() else { return Value::Null };
        let (now, factor) = buckets.moment(view.time());
        let counted = buckets.counted(now);
        let special = || {
            let mut all = Special::default();
            counted.iter().filter_map(|(_, b)| b.special.as_deref()).for_each(|s| all.merge(s));
            all.sum()
        };
        let weights = || total(counted, now, |bucket| &bucket.weights);
        let values = || total(counted, now, |bucket| &bucket.values);
        Value::Float(match self.answer {
            Answer::Count => weights().rounded().divided_by(factor).to_f64(),
            _ if counted.is_empty() => return Value::Null,
            Answer::Sum => {
                special().unwrap_or_else(|| values().rounded().divided_by(factor).to_f64())
            }
            // The moment's factor is on both sides.
            Answer::Avg => {
                special().unwrap_or_else(|| values().rounded().over(weights().rounded()).to_f64())
            }
        })
    }
}

/// The sum over buckets, in units of the weight at the beginning of the half-life `now`.
fn total(buckets: &[(i64, Bucket)], now: i64, of: impl Fn(&Bucket) -> &Dyadic<5>) -> Wide {
    let mut total = Wide::default();
    for (place, bucket) in buckets {
        total.plus(&of(bucket).to_wide().scaled((place * BUCKET - now) as i32));
    }
    total
}

/// Weighted rows by bucket. Up to [`HELD`] + 1 buckets of about 140 bytes; about 60 ns a row that comes or goes.
#[derive(Clone, Debug)]
struct Buckets {
    half_life: Micros,
    /// By place in time, ascending; none is empty.
    buckets: Vec<(i64, Bucket)>,
    /// Rows of earlier buckets are not there.
    since: i64,
}

/// The rows of 64 half-lives, in units of the weight at their beginning.
#[derive(Clone, Debug, Default)]
struct Bucket {
    rows: u64,
    weights: Dyadic<5>,
    values: Dyadic<5>,
    special: Option<Box<Special>>,
}

impl Buckets {
    fn new(half_life: Micros) -> Buckets {
        Buckets { half_life, buckets: Vec::new(), since: i64::MIN }
    }

    /// Which half-life a time is in, and its share of the weight at that one's beginning: 1 to 2.
    fn moment(&self, time: Micros) -> (i64, f64) {
        let within = time.rem_euclid(self.half_life) as f64 / self.half_life as f64;
        (time.div_euclid(self.half_life), libm::exp2(within))
    }

    /// What a read in the half-life `now` counts.
    fn counted(&self, now: i64) -> &[(i64, Bucket)] {
        let place = now.div_euclid(BUCKET);
        let from = self.buckets.partition_point(|(at, _)| *at < place - READ);
        let to = self.buckets.partition_point(|(at, _)| *at <= place);
        self.buckets.get(from..to).unwrap_or_default()
    }

    fn change(&mut self, row: &Row<'_>, out: bool) {
        if row.value.is_null() {
            return;
        }
        let (half_life, factor) = self.moment(row.time);
        let (place, within) = (half_life.div_euclid(BUCKET), half_life.rem_euclid(BUCKET));
        if place < self.since {
            return;
        }
        let at = match self.buckets.binary_search_by_key(&place, |(at, _)| *at) {
            Ok(at) => at,
            Err(_) if out => return,
            Err(at) => {
                self.buckets.insert(at, (place, Bucket::default()));
                at
            }
        };
        let bucket = &mut self.buckets[at].1;
        bucket.change(row.value, factor, within as i32, out);
        if bucket.rows == 0 {
            self.buckets.remove(at);
        }
        self.let_go();
    }

    /// Lets go of what is too far behind the newest.
    fn let_go(&mut self) {
        let Some((newest, _)) = self.buckets.last() else { return };
        let since = self.since.max(newest - HELD);
        let gone = self.buckets.partition_point(|(at, _)| *at < since);
        self.buckets.drain(..gone);
        // While nothing was let go of, the state knows of no limit: then it is a function of the rows that
        // are in it, and not of the newest that ever was.
        if gone > 0 || self.since > i64::MIN {
            self.since = since;
        }
    }
}

impl Bucket {
    fn change(&mut self, value: &Value, factor: f64, within: i32, out: bool) {
        let Some(weight) = Term::of_float(factor).map(|weight| weight.scaled(within)) else {
            return;
        };
        let turned = |term: Term| if out { term.negated() } else { term };
        self.rows = if out { self.rows.saturating_sub(1) } else { self.rows + 1 };
        self.weights.add(&turned(weight));
        match (Term::of(value), value) {
            (Some(number), _) => {
                if let Some(product) = weight.times(&number) {
                    self.values.add(&turned(product));
                }
            }
            (None, Value::Float(x)) => {
                let special = self.special.get_or_insert_default();
                special.change(*x, |n| *n = if out { n.saturating_sub(1) } else { *n + 1 });
                if special.is_empty() {
                    self.special = None;
                }
            }
            _ => {}
        }
    }

    fn merge(&mut self, other: &Bucket) {
        self.rows = self.rows.saturating_add(other.rows);
        self.weights.merge(&other.weights);
        self.values.merge(&other.values);
        if let Some(special) = &other.special {
            self.special.get_or_insert_default().merge(special);
        }
    }
}

impl Running for Buckets {
    fn name(&self) -> String {
        format!("decay {}", self.half_life)
    }

    fn fresh(&self) -> Box<dyn Running> {
        Box::new(Buckets::new(self.half_life))
    }

    fn insert(&mut self, row: &Row<'_>) {
        self.change(row, false);
    }

    fn remove(&mut self, row: &Row<'_>) {
        self.change(row, true);
    }

    fn clear(&mut self) {
        *self = Buckets::new(self.half_life);
    }

    fn merge(&mut self, other: &dyn Running) {
        let Some(other) = other.as_any().downcast_ref::<Buckets>() else { return };
        self.since = self.since.max(other.since);
        for (place, bucket) in &other.buckets {
            match self.buckets.binary_search_by_key(place, |(at, _)| *at) {
                Ok(at) => self.buckets[at].1.merge(bucket),
                Err(at) => self.buckets.insert(at, (*place, bucket.clone())),
            }
        }
        self.let_go();
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.byte(1).whole(self.half_life).whole(self.since).count(self.buckets.len() as u64);
        for (place, bucket) in &self.buckets {
            out.whole(*place).count(bucket.rows);
            bucket.weights.save(&mut out);
            bucket.values.save(&mut out);
            out.special(bucket.special.as_deref());
        }
        out.finish()
    }

    fn restore(&self, bytes: &[u8]) -> Option<Box<dyn Running>> {
        let mut bytes = Reader::new(bytes);
        let _version = bytes.byte().filter(|version| *version == 1)?;
        let _same = bytes.whole().filter(|half_life| *half_life == self.half_life)?;
        let (since, length) = (bytes.whole()?, bytes.count()?);
        let furthest = i64::MAX / BUCKET;
        let mut buckets: Vec<(i64, Bucket)> = Vec::new();
        for _ in 0..length {
            let place = bytes.whole().filter(|at| (-furthest..=furthest).contains(at))?;
            let bucket = Bucket {
                rows: bytes.count().filter(|rows| *rows > 0)?,
                weights: Dyadic::restore(&mut bytes)?,
                values: Dyadic::restore(&mut bytes)?,
                special: bytes.special()?,
            };
            if buckets.last().is_some_and(|(before, _)| *before >= place) || place < since {
                return None;
            }
            buckets.push((place, bucket));
        }
        let restored = Buckets { half_life: self.half_life, buckets, since };
        let mut settled = restored.clone();
        settled.let_go();
        let same = settled.since == since && settled.buckets.len() == restored.buckets.len();
        bytes.end(Box::new(same.then_some(restored)?))
    }

    fn bytes(&self) -> usize {
        let heap = |(_, b): &(i64, Bucket)| {
            b.weights.bytes()
                + b.values.bytes()
                + b.special.as_ref().map_or(0, |_| size_of::<Special>())
        };
        size_of::<Buckets>()
            + self.buckets.capacity() * size_of::<(i64, Bucket)>()
            + self.buckets.iter().map(heap).sum::<usize>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
