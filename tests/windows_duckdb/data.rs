//! Random small data sets, each a walk of inserts, retractions, reads and watermarks, by a seed.

use tidemill_types::time::HOUR;
use tidemill_types::{Id, Micros, Value};

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Chance(u64);

impl Chance {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A whole number from 0 to `n - 1`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() >> 11) as usize % n
    }

    /// True so often in a hundred.
    pub fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A row of a stream; columns `i`, `x`, `s`, `b`, `y`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub key: u8,
    pub time: Micros,
    pub id: Id,
    pub values: [Value; 5],
}

impl Row {
    /// The columns, and behind them lists and maps made of these, as `windows.py` makes them: `vi`, `vx`, `vb` and
    /// `tags`, `mi`, `mx`, `mb` and `ms`. How long they are depends on `s`.
    pub fn columns(&self) -> Vec<Value> {
        let [i, x, s, b, y] = &self.values;
        let length = match s.as_str() {
            None => None,
            Some("") => Some(0),
            Some(s) if s < "b" => Some(1),
            Some(_) => Some(2),
        };
        let whole = b.as_i64().map_or(Value::Null, Value::Int);
        let is_b = Value::Bool(s.as_str() == Some("b"));
        let a = Value::Text("a".into());
        let pairs = [[i, &whole], [x, y], [b, &is_b], [s, &a]];
        let list = |pair: [&Value; 2]| match length {
            Some(length) => pair.into_iter().take(length).cloned().collect(),
            None => Value::Null,
        };
        let map = |pair: [&Value; 2]| match length {
            Some(length) => {
                let keys = if length == 2 { ["q", "p"] } else { ["p", ""] };
                let entries = keys.into_iter().zip(pair).take(length);
                Value::map(entries.map(|(key, value)| (key.into(), value.clone())))
            }
            None => Value::Null,
        };
        self.values.iter().cloned().chain(pairs.map(list)).chain(pairs.map(map)).collect()
    }
}

/// What happens to a store.
#[derive(Clone, Debug)]
pub enum Step {
    Insert(Row),
    Retract(Row),
    Read { key: u8, time: Micros, id: Id },
    Advance(Micros),
}

/// A walk.
pub struct DataSet {
    pub seed: u64,
    /// Whether reads come from the stream that is inserted.
    pub own_stream: bool,
    /// What a unit of time is, in microseconds: frames are as long as a few.
    pub unit: Micros,
    pub steps: Vec<Step>,
}

impl DataSet {
    /// The walk of a seed. Rows come up to some units of time late, some twice, some are taken back;
    /// there are reads in between, forth and back; nothing happens before the watermark.
    pub fn new(seed: u64) -> DataSet {
        let mut chance = Chance::new(seed);
        let own_stream = chance.percent(50);
        // Rows lie within 26 units: with hours, on both sides of local midnights.
        let unit = chance.pick(&[1, 1_000_000, HOUR]);
        // The last ones are evenings, in UTC, before the clocks of New York and Berlin are set, and before
        // a new year.
        let start = chance.pick(&[
            0,
            -500_000_000_000_000,
            1_357_034_400_000_000,
            1_362_866_400_000_000,
            1_364_680_800_000_000,
            1_383_429_600_000_000,
            1_388_440_800_000_000,
        ]);
        // Past 256 values a column in order splits.
        let rows = if chance.percent(1) { 300 + chance.below(100) } else { chance.below(25) };
        let rows = rows_in_order_of_arrival(&mut chance, rows, start, unit);
        let mut data = DataSet { seed, own_stream, unit, steps: Vec::new() };
        data.walk(&mut chance, rows, start);
        data
    }

    fn walk(&mut self, chance: &mut Chance, rows: Vec<Row>, start: Micros) {
        let ids = 2 * rows.len() + 2;
        let texts = chance.percent(30);
        let end = rows.iter().map(|row| row.time).max().unwrap_or(start);
        let spread = ((end - start) / self.unit) as usize + 4;
        let mut present: Vec<Row> = Vec::new();
        let mut watermark = Micros::MIN;
        let moments = 1 + chance.below(3);
        let mut rest = rows.as_slice();
        for moment in 1..=moments {
            let share = if moment == moments { rest.len() } else { chance.below(rest.len() + 1) };
            let (now, later) = rest.split_at(share);
            rest = later;
            for row in now {
                self.steps.push(Step::Insert(named(row, texts)));
                present.push(named(row, texts));
            }
            for _ in 0..chance.below(3).min(present.len()) {
                let row = chance.below(present.len());
                if present[row].time >= watermark {
                    self.steps.push(Step::Retract(present.swap_remove(row)));
                }
            }
            for _ in 0..1 + chance.below(5) {
                if chance.percent(15)
                    && let Some(oldest) = rest.iter().map(|row| row.time).min()
                {
                    watermark = watermark.max(oldest);
                    self.steps.push(Step::Advance(watermark));
                }
                let (key, time, id) = match present.is_empty() || chance.percent(30) {
                    true => {
                        let time = start + (chance.below(spread) as Micros - 1) * self.unit;
                        (chance.below(3) as u8, time, id(chance.below(ids), texts))
                    }
                    false => {
                        let row = &present[chance.below(present.len())];
                        (row.key, row.time, row.id.clone())
                    }
                };
                self.steps.push(Step::Read { key, time: time.max(watermark), id });
            }
        }
    }
}

/// Rows hold whole numbers as ids until it is known of what type ids are.
fn named(row: &Row, texts: bool) -> Row {
    match &row.id {
        Id::Int(n) => Row { id: id(*n as usize, texts), ..row.clone() },
        _ => row.clone(),
    }
}

/// Texts order as bytes: "10" is before "9".
fn id(n: usize, texts: bool) -> Id {
    if texts { Id::Text(n.to_string().into()) } else { Id::Int(n as i64) }
}

fn rows_in_order_of_arrival(
    chance: &mut Chance,
    count: usize,
    start: Micros,
    unit: Micros,
) -> Vec<Row> {
    let columns = Columns::new(chance);
    let keys = 1 + chance.below(2);
    let (length, lateness) = (1 + chance.below(count + 2), chance.pick(&[1, 2, 8, 100]));
    // Even numbers, so that reads can stand between.
    let mut ids: Vec<i64> = (0..count as i64).map(|n| 2 * n).collect();
    chance.shuffle(&mut ids);
    let mut rows: Vec<(usize, Row)> = Vec::new();
    for id in ids {
        let time = chance.below(length);
        let arrival = time + chance.below(lateness);
        let time = start + time as Micros * unit;
        let key = chance.below(keys) as u8;
        let row = Row { key, time, id: Id::Int(id), values: columns.values(chance) };
        if chance.percent(5) {
            rows.push((arrival + 1, row.clone()));
        }
        rows.push((arrival, row));
    }
    rows.sort_by_key(|(arrival, _)| *arrival);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// What the columns of a data set are like.
struct Columns {
    nulls: usize,
    specials: usize,
    ints: usize,
    floats: usize,
    trues: usize,
}

impl Columns {
    fn new(chance: &mut Chance) -> Columns {
        Columns {
            nulls: chance.pick(&[0, 10, 30, 90]),
            specials: chance.pick(&[0, 0, 0, 5, 30]),
            ints: chance.below(3),
            floats: chance.below(6),
            trues: chance.pick(&[0, 30, 70, 100]),
        }
    }

    fn values(&self, chance: &mut Chance) -> [Value; 5] {
        let values = [
            Value::Int(self.int(chance)),
            Value::Float(self.float(chance)),
            Value::Text(
                chance.pick(&["", "a", "A", "ab", "b", "é", "z,\"q\"", "\u{1f600}"]).into(),
            ),
            Value::Bool(chance.percent(self.trues)),
            Value::Float(self.float(chance)),
        ];
        values.map(|value| if chance.percent(self.nulls) { Value::Null } else { value })
    }

    fn int(&self, chance: &mut Chance) -> i64 {
        match self.ints {
            0 => chance.below(20) as i64 - 7,
            1 => chance.bits() as i64 >> chance.below(64),
            _ => chance.pick(&[i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1, 0, 1, -1]),
        }
    }

    fn float(&self, chance: &mut Chance) -> f64 {
        if chance.percent(self.specials) {
            return chance.pick(&[f64::NAN, f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY]);
        }
        let sign = chance.pick(&[1.0, -1.0]);
        sign * match self.floats {
            0 => chance.below(640) as f64 / 64.0,
            1 => chance.below(100_000) as f64 / 100.0 + 1e6,
            // Any magnitude.
            2 => Some(f64::from_bits(chance.bits() >> 1)).filter(|x| x.is_finite()).unwrap_or(1.5),
            3 => chance.pick(&[f64::MAX, 1e308, 9e307, 1.0, 1e292]),
            4 => f64::from_bits(chance.bits() >> 12 >> chance.below(52)),
            _ => chance.pick(&[0.0, 0.1, 0.2, 0.3, 1e16, 1.0]),
        }
    }
}
