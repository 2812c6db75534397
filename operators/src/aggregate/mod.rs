//! Aggregates: what a window of rows becomes.
//!
//! An aggregate names the [`Primitive`]s it needs; the window keeps each primitive once, however
//! many aggregates read it, and takes rows in and out of them exactly. [`Aggregate::finish`] is a
//! pure function of the primitives. So an aggregate can be retracted because all primitives can.
//! What no primitive gives, an aggregate keeps in a [`Running`] value of its own, in its own file.
//!
//! To add one: a file with an [`Entry`], and two lines here. The laws in `tests/aggregates.rs` run
//! over the list.

use std::any::Any;

use tidemill_types::{DataType, Item, Value};

use crate::column::Builder;

pub mod distinct;
pub mod exact_sum;
pub mod extreme;
pub mod leaves;
pub mod moment;
pub mod moments;
pub mod numbers;
pub mod ordered;
pub mod squares;
pub mod state;
pub mod wide;

mod avg;
mod by_other;
mod bytes;
mod change;
mod count;
mod decay;
mod drawdown;
mod dyadic;
mod elapsed;
mod ewma;
mod extremum;
mod frequency;
mod geometric;
mod hundredths;
mod map;
mod pairs;
mod per;
mod position;
mod quantile;
mod ranked;
mod regression;
mod sequence;
mod shape;
mod sketch;
mod sum;
mod units;
mod unnest;
mod value_range;
mod variance;
mod vector;
mod view;
mod within;

use moments::Moments;

pub(crate) use bytes::{Reader, Writer};
pub use decay::decayed;
pub use unnest::Unnest;
pub(crate) use view::{Columns, Rows};
pub use view::{Row, View};

/// Every aggregate, in the order of the reference.
pub const AGGREGATES: &[Entry] = &[
    count::ENTRY,
    sum::ENTRY,
    avg::ENTRY,
    variance::VAR_SAMP,
    variance::VAR_POP,
    variance::STDDEV_SAMP,
    variance::STDDEV_POP,
    extremum::MIN,
    extremum::MAX,
    value_range::ENTRY,
    position::FIRST_VALUE,
    position::LAST_VALUE,
    position::LAG,
    sequence::NTH_VALUE,
    sequence::FIRST_K,
    sequence::LAST_K,
    sequence::FIRST_DISTINCT,
    sequence::LAST_DISTINCT,
    sequence::ARRAY_AGG,
    sequence::STRING_AGG,
    ranked::TOP_K,
    ranked::BOTTOM_K,
    by_other::MIN_BY,
    by_other::MAX_BY,
    frequency::MODE,
    frequency::MOST_FREQUENT,
    frequency::TOP1_RATIO,
    frequency::ENTROPY,
    frequency::HISTOGRAM,
    frequency::SET_AGG,
    unnest::SET_UNION,
    frequency::BOUNDED_UNIQUE_COUNT,
    per::COUNT_PER,
    per::SUM_PER,
    per::AVG_PER,
    per::MIN_PER,
    per::MAX_PER,
    map::MAP_COUNT,
    map::MAP_SUM,
    map::MAP_AVG,
    map::MAP_MIN,
    map::MAP_MAX,
    vector::VECTOR_SUM,
    vector::VECTOR_AVG,
    vector::VECTOR_MIN,
    vector::VECTOR_MAX,
    quantile::QUANTILE,
    quantile::MEDIAN,
    shape::SKEWNESS,
    shape::SKEW_POP,
    shape::KURTOSIS,
    shape::KURTOSIS_POP,
    geometric::ENTRY,
    regression::CORR,
    regression::COVAR_SAMP,
    regression::COVAR_POP,
    regression::REGR_COUNT,
    regression::REGR_AVGX,
    regression::REGR_AVGY,
    regression::REGR_SXX,
    regression::REGR_SYY,
    regression::REGR_SXY,
    regression::REGR_SLOPE,
    regression::REGR_INTERCEPT,
    regression::REGR_R2,
    regression::SLOPE_OVER_TIME,
    decay::DECAYED_SUM,
    decay::DECAYED_COUNT,
    decay::DECAYED_AVG,
    ewma::ENTRY,
    elapsed::TIME_SINCE_LAST,
    elapsed::TIME_SINCE_FIRST,
    change::CHANGE,
    change::DELTA,
    change::RATE,
    drawdown::ENTRY,
    sketch::APPROX_COUNT_DISTINCT,
    sketch::APPROX_PERCENTILE,
    sketch::HLL_SKETCH,
    sketch::CPC_SKETCH,
];

/// What may be written besides: spellings that stand for calls of the list.
pub const FORMS: &[(&str, &str)] = &[
    ("NAME_per(x, c)", "NAME for each value of c, as a map; NAME_cate too"),
    ("top_n_key_NAME_per(x, c, n)", "the same for the n greatest values of c"),
    ("top_n_value_NAME_per(x, c, n)", "the same for the n values of c with the greatest results"),
    (
        "NAME(unnest(x))",
        "NAME over the items of lists; NAME(x, unnest(y)) over x and each item of y",
    ),
    ("map_NAME(x)", "NAME for each key of maps, as a map"),
    ("vector_NAME(x)", "NAME at each place of lists, as a list"),
    ("NAME_if(x, condition)", "NAME(x) filter (where condition); NAME_where too"),
    ("count_if(condition)", "count(*) filter (where condition); count_where too"),
    ("ratio(x, y)", "sum(x) / sum(y) as a float; NULL where the divisor is 0 or there is nothing"),
];

/// The longest list and the largest map that an aggregate gives; one at each place of lists is as long as
/// these.
pub const MOST: usize = 1_000;

/// What the list says about an aggregate.
pub struct Entry {
    /// Its SQL name, lower case.
    pub name: &'static str,
    /// Other names that people know it by.
    pub aliases: &'static [&'static str],
    /// One line for the reference.
    pub summary: &'static str,
    /// Types a call, or says why it can't be.
    pub build: fn(&Call<'_>) -> Result<Box<dyn Aggregate>, String>,
}

/// A call as written: `name([DISTINCT] args) FILTER (WHERE ...)`. The filter is applied before.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The name as written, lower case.
    pub name: &'a str,
    /// `count(distinct x)`
    pub distinct: bool,
    /// The type of the first argument; none for `count(*)`.
    pub input: Option<DataType>,
    /// The type of the second argument where it is a column too: `corr(x, y)`.
    pub second: Option<DataType>,
    /// Further arguments: constants (`quantile(x, 0.9)`, `lag(x, 2)`).
    pub constants: &'a [Value],
    /// Whether the call is over the items of an argument: `sum(unnest(x))`. [`build`] reads it; the
    /// entries of the list do not.
    pub unnest: Unnest,
}

/// A constant as it is written in a call, for errors.
fn written(constant: &Value) -> String {
    match constant {
        Value::Null => "NULL".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(whole) => whole.to_string(),
        // With its point, which tells it from a whole number.
        Value::Float(float) => format!("{float:?}"),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a map".into(),
    }
}

impl Call<'_> {
    /// The type of the argument, if it is among `accepted`.
    fn input(&self, accepted: &[DataType]) -> Result<DataType, String> {
        let names: Vec<&str> = accepted.iter().map(|t| t.name()).collect();
        let found = match self.input {
            Some(input) if accepted.contains(&input) => return Ok(input),
            Some(input) => input.name(),
            None => "no column",
        };
        let name = self.name;
        let help = match self.input {
            Some(DataType::List(_)) => format!("; {name}(unnest(x)) is over the items of lists"),
            Some(DataType::Map(_)) => format!("; map_{name}(x) is for each key of maps"),
            _ => String::new(),
        };
        Err(format!("{name} takes a column of type {}; found {found}{help}", one_of(&names)))
    }

    /// The type of the argument, which may be a list or a map.
    fn any_input(&self) -> Result<DataType, String> {
        match self.input {
            Some(input @ (DataType::List(_) | DataType::Map(_))) => Ok(input),
            _ => self.input(&DataType::ALL),
        }
    }

    /// As [`Call::input`], for what is put into a list.
    fn item(&self, accepted: &[DataType]) -> Result<Item, String> {
        let input = self.input(accepted)?;
        input.as_item().ok_or_else(|| format!("{} cannot put {input} into a list", self.name))
    }

    /// The only one of these constants: how many values are shown, from 1 to [`MOST`].
    fn bound(&self, constants: &[Value], otherwise: Option<usize>) -> Result<usize, String> {
        match (constants, otherwise) {
            ([], Some(otherwise)) => Ok(otherwise),
            ([Value::Int(k @ 1..=1_000)], _) => Ok(*k as usize),
            ([], None) => Err(format!("{} takes how many: from 1 to {MOST}", self.name)),
            ([other], _) => {
                let found = written(other);
                Err(format!("{} takes how many, from 1 to {MOST}; found {found}", self.name))
            }
            (more, _) => Err(format!("{} takes one number; found {}", self.name, more.len())),
        }
    }

    /// Refuses DISTINCT where it would change the result and is not offered.
    fn without_distinct(&self) -> Result<(), String> {
        if self.distinct {
            return Err(format!("{} does not take DISTINCT; count does", self.name));
        }
        Ok(())
    }

    /// Refuses further arguments.
    fn without_constants(&self) -> Result<(), String> {
        match self.constants.len() + usize::from(self.second.is_some()) {
            0 => Ok(()),
            n => Err(format!("{} takes 1 argument; found {}", self.name, n + 1)),
        }
    }

    /// Refuses a second column.
    fn without_second(&self) -> Result<(), String> {
        match self.second {
            None => Ok(()),
            Some(_) => {
                Err(format!("{} takes one column; its other arguments are constants", self.name))
            }
        }
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_string(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

/// What a window keeps of one column for an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Primitive {
    /// How many values (rows, where there is no column) are not NULL.
    Count,
    /// Their exact sum.
    Sum,
    /// The exact sum of their squares.
    SumSquares,
    /// The least number.
    Least,
    /// The greatest number.
    Greatest,
    /// The values in order: ranks, and extremes of what is no number.
    Ordered,
    /// How often each value is there.
    Distinct,
    /// The rows by position.
    Position,
    /// What the aggregate keeps itself: [`Aggregate::running`].
    Own,
}

impl Primitive {
    /// How many there are.
    pub(crate) const COUNT: usize = 9;

    /// No places of any.
    pub(crate) const NOWHERE: [usize; Primitive::COUNT] = [usize::MAX; Primitive::COUNT];

    /// Whether it is read off once for all aggregates: what a [`moment::Moment`] tells.
    pub(crate) fn is_of_moment(self) -> bool {
        use Primitive::{Count, Greatest, Least, Sum, SumSquares};
        matches!(self, Count | Sum | SumSquares | Least | Greatest)
    }
}

/// What a call is built into, or why it is refused.
pub type Built = Result<Box<dyn Aggregate>, String>;

/// The aggregate of a call.
///
/// # Errors
/// A name that is on no list, or a call that the aggregate refuses.
pub fn build(call: &Call<'_>) -> Built {
    if let Some(entry) = listed(call.name).filter(|_| call.unnest == Unnest::No) {
        return (entry.build)(call);
    }
    form(call, |inner| listed(inner).is_some(), build)
        .unwrap_or_else(|| Err(format!("there is no aggregate `{}`", call.name)))
}

/// The form of an aggregate that a call names: over the items of lists, for each category, at each place of vectors, or for
/// each key of maps. `known` is which names may stand in it, and `single` builds them. Nothing if it is none of these.
fn form(
    call: &Call<'_>,
    known: impl Fn(&str) -> bool,
    single: impl FnOnce(&Call<'_>) -> Built,
) -> Option<Built> {
    if call.unnest != Unnest::No {
        Some(unnest::over(call, call.unnest, single))
    } else if let Some((show, inner)) = per::parts(call.name).filter(|(_, inner)| known(inner)) {
        Some(per::over(call, inner, show, single))
    } else if let Some(inner) = vector::parts(call.name).filter(|inner| known(inner)) {
        Some(vector::over(call, inner, single))
    } else {
        map::parts(call.name)
            .filter(|inner| known(inner))
            .map(|inner| map::over(call, inner, single))
    }
}

/// Whether [`build`] knows the name.
pub fn is_known(name: &str) -> bool {
    let is_listed = |name| listed(name).is_some();
    is_listed(name)
        || per::parts(name).is_some_and(|(_, inner)| is_listed(inner))
        || vector::parts(name).is_some_and(is_listed)
        || map::parts(name).is_some_and(is_listed)
}

fn listed(name: &str) -> Option<&'static Entry> {
    AGGREGATES.iter().find(|entry| entry.name == name || entry.aliases.contains(&name))
}

/// An aggregate for each value of a second column, as a map from text: what a window's secondary key makes
/// of its calls. The calls then name that column as their second one.
///
/// # Errors
/// An aggregate that gives a list or a map, for these do not nest.
pub fn per(inner: std::sync::Arc<dyn Aggregate>) -> Built {
    per::of(inner, per::By::Second, per::Show::Most, MOST)
}

/// A value as a key of a map; none where it is NULL or of a type without categories.
fn category(value: &Value) -> Option<std::sync::Arc<str>> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Int(i) => Some(i.to_string().into()),
        Value::Bool(b) => Some(b.to_string().into()),
        _ => None,
    }
}

/// An aggregate, typed.
pub trait Aggregate: Send + Sync {
    /// The type of the result.
    fn output(&self) -> DataType;

    /// What it reads.
    fn primitives(&self) -> &'static [Primitive];

    /// Over no rows, the running value that [`Primitive::Own`] stands for.
    fn running(&self) -> Option<Box<dyn Running>> {
        None
    }

    /// The result over the rows in the window, as SQL has it: NULL values are not there; over no
    /// values a count is 0 and everything else NULL.
    fn finish(&self, view: &View<'_>) -> Value;

    /// Whether it is how many different values there are, and no more: [`moment::Moment::count`] is that then.
    fn is_distinct_count(&self) -> bool {
        false
    }

    /// Where it is the first argument in one row, and no more: whether that is counted from the newest row on,
    /// and how many rows are passed over.
    fn place(&self) -> Option<(bool, usize)> {
        None
    }

    /// [`Aggregate::finish`] at many moments, of an aggregate that reads nothing else.
    fn finish_all(&self, moments: &Moments, out: &mut Builder) {
        out.extend(moments.iter().map(|moment| self.finish(&View::at(&moment))));
    }
}

/// What an aggregate keeps of a window where no [`Primitive`] gives it.
///
/// The law: a function of the multiset of rows that are in it, to the last bit, whatever their order
/// and whatever came and went between. Rows of which every argument is NULL come too.
pub trait Running: Send + Sync {
    /// Kind and parameters: aggregates over the same columns whose running values have one name
    /// share one.
    fn name(&self) -> String;

    /// Another one, over no rows.
    fn fresh(&self) -> Box<dyn Running>;

    /// Adds a row.
    fn insert(&mut self, row: &Row<'_>);

    /// Takes out a row that was added.
    fn remove(&mut self, row: &Row<'_>);

    /// Takes out all rows.
    fn clear(&mut self);

    /// Adds all rows of another of the same name.
    fn merge(&mut self, other: &dyn Running);

    /// Its bytes, for [`Running::restore`] of any build.
    fn save(&self) -> Vec<u8>;

    /// One that holds what was saved; none if these are no bytes of its kind.
    fn restore(&self, bytes: &[u8]) -> Option<Box<dyn Running>>;

    /// Bytes on the heap, its own size included.
    fn bytes(&self) -> usize;

    /// For [`View::own`].
    fn as_any(&self) -> &dyn Any;
}
