//! `covar_samp(y, x)`, `covar_pop`, `corr`, and SQL's `regr_*(y, x)`: the least-squares line of y over x;
//! `slope_over_time(y)`: the same over the event time.
//!
//! As SQL has it: only pairs of which neither is NULL; where there are none, counts are 0 and all
//! else NULL; NULL too where the statistic is undefined (a sample form over one pair, a slope over one
//! x). A NaN or an infinity on either side makes all NaN but counts and means.
//!
//! Numerators and denominators are taken from exact sums, each rounded once: no cancellation, however
//! large the means. So `covar_*`, `regr_s**` and `regr_slope` are right to the last bit or two, and
//! a correlation of points on a line is 1. (Chan, Golub and LeVeque, "Algorithms for computing the sample
//! variance", 1983, is what this need not do.)

use tidemill_types::time::SECOND;
use tidemill_types::{DataType, Value};

use super::exact_sum::Rounded;
use super::pairs::Pairs;
use super::{Aggregate, Call, Entry, Primitive, Running, View};

const NUMBERS: [DataType; 3] = [DataType::Int64, DataType::Float64, DataType::Bool];

macro_rules! entry {
    ($name:ident, $sql:literal, $statistic:ident, $summary:literal) => {
        pub(super) const $name: Entry = Entry {
            name: $sql,
            aliases: &[],
            summary: $summary,
            build: |call| build(call, Statistic::$statistic),
        };
    };
}

entry!(CORR, "corr", Corr, "Pearson's correlation of two columns: corr(y, x)");
entry!(COVAR_SAMP, "covar_samp", CovarSamp, "the sample covariance (divisor n - 1)");
entry!(COVAR_POP, "covar_pop", CovarPop, "the population covariance (divisor n)");
entry!(REGR_COUNT, "regr_count", Count, "how many pairs have no NULL");
entry!(REGR_AVGX, "regr_avgx", AvgX, "the mean of x over such pairs: regr_avgx(y, x)");
entry!(REGR_AVGY, "regr_avgy", AvgY, "the mean of y over such pairs: regr_avgy(y, x)");
entry!(REGR_SXX, "regr_sxx", Sxx, "the sum of squares of x about its mean");
entry!(REGR_SYY, "regr_syy", Syy, "the sum of squares of y about its mean");
entry!(REGR_SXY, "regr_sxy", Sxy, "the sum of products about both means");
entry!(REGR_SLOPE, "regr_slope", Slope, "the slope of the least-squares line of y over x");
entry!(REGR_INTERCEPT, "regr_intercept", Intercept, "that line's value at x = 0");
entry!(REGR_R2, "regr_r2", R2, "the share of y's variance that the line explains");

pub(super) const SLOPE_OVER_TIME: Entry = Entry {
    name: "slope_over_time",
    aliases: &["trend"],
    summary: "the slope of the least-squares line of a column over event time, a second",
    build: |call| {
        call.without_distinct()?;
        call.without_constants()?;
        call.input(&NUMBERS)?;
        Ok(Box::new(Regression { statistic: Statistic::Slope, over_time: true }))
    },
};

fn build(call: &Call<'_>, statistic: Statistic) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.input(&NUMBERS)?;
    match call.second {
        Some(second) if NUMBERS.contains(&second) => {}
        Some(second) => {
            return Err(format!(
                "the second column of {} is of type int64, float64 or bool; found {second}",
                call.name
            ));
        }
        None => return Err(format!("{} takes two columns: {}(y, x)", call.name, call.name)),
    }
    match call.constants.len() {
        0 => Ok(Box::new(Regression { statistic, over_time: false })),
        more => Err(format!("{} takes 2 arguments; found {}", call.name, more + 2)),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Statistic {
    Count,
    AvgX,
    AvgY,
    Sxx,
    Syy,
    Sxy,
    CovarPop,
    CovarSamp,
    Corr,
    Slope,
    Intercept,
    R2,
}

struct Regression {
    statistic: Statistic,
    over_time: bool,
}

impl Aggregate for Regression {
    fn output(&self) -> DataType {
        if self.statistic == Statistic::Count { DataType::Int64 } else { DataType::Float64 }
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Own]
    }

    fn running(&self) -> Option<Box<dyn Running>> {
        let pairs = if self.over_time { Pairs::over_time() } else { Pairs::of_columns() };
        Some(Box::new(pairs))
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let Some(pairs) = view.own::<Pairs>() else { return Value::Null };
        let n = pairs.count();
        match self.statistic {
            Statistic::Count => Value::Int(i64::try_from(n).unwrap_or(i64::MAX)),
            _ if n == 0 => Value::Null,
            Statistic::AvgX => Value::Float(pairs.x().mean(n)),
            Statistic::AvgY => Value::Float(pairs.y().mean(n)),
            Statistic::CovarSamp if n == 1 => Value::Null,
            _ if !pairs.is_finite() => Value::Float(f64::NAN),
            statistic => {
                let found = self.of_finite(statistic, pairs, n);
                found.map_or(Value::Null, |x| Value::Float(x.to_f64()))
            }
        }
    }
}

impl Regression {
    fn of_finite(&self, statistic: Statistic, pairs: &Pairs, n: u64) -> Option<Rounded> {
        let divisor = |n: u64, m: u64| (u128::from(n) * u128::from(m)) as f64;
        Some(match statistic {
            Statistic::Sxx => pairs.dxx().rounded().divided_by(n as f64),
            Statistic::Syy => pairs.dyy().rounded().divided_by(n as f64),
            Statistic::Sxy => pairs.dyx().rounded().divided_by(n as f64),
            Statistic::CovarPop => pairs.dyx().rounded().divided_by(divisor(n, n)),
            Statistic::CovarSamp => pairs.dyx().rounded().divided_by(divisor(n, n - 1)),
            Statistic::Slope => {
                let dxx = pairs.dxx();
                if dxx.is_zero() {
                    return None;
                }
                let slope = pairs.dyx().rounded().over(dxx.rounded());
                // x is counted in microseconds.
                match self.over_time {
                    true => slope.times(Rounded { mantissa: SECOND as f64, exponent: 0 }),
                    false => slope,
                }
            }
            Statistic::Intercept => {
                let dxx = pairs.dxx();
                if dxx.is_zero() {
                    return None;
                }
                pairs.at_zero().over(dxx.rounded())
            }
            Statistic::Corr | Statistic::R2 => {
                let (dxx, dyy) = (pairs.dxx(), pairs.dyy());
                if dxx.is_zero() || statistic == Statistic::Corr && dyy.is_zero() {
                    return None;
                }
                if dyy.is_zero() {
                    return Some(Rounded { mantissa: 1.0, exponent: 0 });
                }
                let (dyx, product) = (pairs.dyx(), dxx.product(&dyy));
                if statistic == Statistic::R2 {
                    // Both sides exact: 1 on a line, never beyond.
                    return Some(dyx.square().rounded().over(product.rounded()));
                }
                // The root of an exact quotient of two: not beyond 1 either.
                let square = dyx.square().rounded().over(product.rounded()).sqrt();
                let turned = Rounded { mantissa: -square.mantissa, ..square };
                if dyx.is_negative() { turned } else { square }
            }
            Statistic::Count | Statistic::AvgX | Statistic::AvgY => return None,
        })
    }
}
