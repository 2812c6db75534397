//! What two columns have in common, exactly: how many pairs there are, and the sums of y, x, y^2, x^2
//! and y*x over them. Rows in which either is NULL are not there.

use std::any::Any;

use super::bytes::{Reader, Writer};
use super::dyadic::{Dyadic, Term};
use super::exact_sum::{Rounded, Sum};
use super::wide::Wide;
use super::{Row, Running};
use tidemill_types::{Micros, Value};

/// The running value; 60 to 100 ns a row, about 350 bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    /// Whether x is the event time, in microseconds, and not the second column.
    over_time: bool,
    n: u64,
    y: Sum,
    x: Sum,
    /// Of the pairs whose two sides are finite; where one is not, nothing that reads them has a value.
    yy: Dyadic<4>,
    xx: Dyadic<4>,
    yx: Dyadic<4>,
}

impl Pairs {
    /// Over the second column.
    pub(super) fn of_columns() -> Pairs {
        Pairs::default()
    }

    /// Over the event time.
    pub(super) fn over_time() -> Pairs {
        Pairs { over_time: true, ..Pairs::default() }
    }

    /// How many pairs there are.
    pub(super) fn count(&self) -> u64 {
        self.n
    }

    /// The sum of y.
    pub(super) fn y(&self) -> &Sum {
        &self.y
    }

    /// The sum of x.
    pub(super) fn x(&self) -> &Sum {
        &self.x
    }

    /// Whether every pair is of finite numbers.
    pub(super) fn is_finite(&self) -> bool {
        self.y.non_finite().is_none() && self.x.non_finite().is_none()
    }

    /// `n * sum(y^2) - sum(y)^2`, exactly: n times the sum of squares about the mean.
    pub(super) fn dyy(&self) -> Wide {
        self.about(&self.yy, &self.y, &self.y)
    }

    /// The same of x.
    pub(super) fn dxx(&self) -> Wide {
        self.about(&self.xx, &self.x, &self.x)
    }

    /// The same of the products.
    pub(super) fn dyx(&self) -> Wide {
        self.about(&self.yx, &self.y, &self.x)
    }

    fn about(&self, products: &Dyadic<4>, a: &Sum, b: &Sum) -> Wide {
        let mut about = products.to_wide().times(self.n);
        about.subtract(&a.finite().to_wide().product(&b.finite().to_wide()));
        about
    }

    /// `sum(y) * sum(x^2) - sum(x) * sum(y*x)`: what the line's value at x = 0 is a share of.
    pub(super) fn at_zero(&self) -> Rounded {
        let mut at_zero = self.y.finite().to_wide().product(&self.xx.to_wide());
        at_zero.subtract(&self.x.finite().to_wide().product(&self.yx.to_wide()));
        at_zero.rounded()
    }

    fn change(&mut self, row: &Row<'_>, out: bool) {
        let time = time(row.time);
        let (y, x) = (row.value, if self.over_time { &time } else { row.second });
        if y.as_f64().is_none() || x.as_f64().is_none() {
            return;
        }
        if out {
            self.n = self.n.saturating_sub(1);
            self.y.remove(y);
            self.x.remove(x);
        } else {
            self.n += 1;
            self.y.insert(y);
            self.x.insert(x);
        }
        if let (Some(y), Some(x)) = (Term::of(y), Term::of(x)) {
            let sums = [(&mut self.yy, &y, &y), (&mut self.xx, &x, &x), (&mut self.yx, &y, &x)];
            for (sum, a, b) in sums {
                if let Some(product) = a.times(b) {
                    sum.add(&if out { product.negated() } else { product });
                }
            }
        }
    }
}

fn time(time: Micros) -> Value {
    Value::Int(time)
}

impl Running for Pairs {
    fn name(&self) -> String {
        if self.over_time { "pairs over time" } else { "pairs" }.to_string()
    }

    fn fresh(&self) -> Box<dyn Running> {
        Box::new(Pairs { over_time: self.over_time, ..Pairs::default() })
    }

    fn insert(&mut self, row: &Row<'_>) {
        self.change(row, false);
    }

    fn remove(&mut self, row: &Row<'_>) {
        self.change(row, true);
    }

    fn clear(&mut self) {
        *self = Pairs { over_time: self.over_time, ..Pairs::default() };
    }

    fn merge(&mut self, other: &dyn Running) {
        if let Some(other) = other.as_any().downcast_ref::<Pairs>() {
            self.n = self.n.saturating_add(other.n);
            self.y.merge(&other.y);
            self.x.merge(&other.x);
            self.yy.merge(&other.yy);
            self.xx.merge(&other.xx);
            self.yx.merge(&other.yx);
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.byte(1).count(self.n);
        self.y.save(&mut out);
        self.x.save(&mut out);
        self.yy.save(&mut out);
        self.xx.save(&mut out);
        self.yx.save(&mut out);
        out.finish()
    }

    fn restore(&self, bytes: &[u8]) -> Option<Box<dyn Running>> {
        let mut bytes = Reader::new(bytes);
        let _version = bytes.byte().filter(|version| *version == 1)?;
        let pairs = Pairs {
            over_time: self.over_time,
            n: bytes.count()?,
            y: Sum::restore(&mut bytes)?,
            x: Sum::restore(&mut bytes)?,
            yy: Dyadic::restore(&mut bytes)?,
            xx: Dyadic::restore(&mut bytes)?,
            yx: Dyadic::restore(&mut bytes)?,
        };
        bytes.end(Box::new(pairs))
    }

    fn bytes(&self) -> usize {
        let sums = [self.yy.bytes(), self.xx.bytes(), self.yx.bytes()].iter().sum::<usize>();
        size_of::<Pairs>() + self.y.bytes() + self.x.bytes() + sums
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
