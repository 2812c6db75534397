//! `[windows]`: which rows a window holds.

use tidemill_types::{Micros, Zone};

use super::At;

/// The most sources of a window: a row of it has three bits for where it came from.
pub const MOST_SOURCES: usize = 8;

/// The most that `rows` may say.
pub const MOST_ROWS: i64 = 1_000_000;

/// One of `[windows]`: `carrier_3h = { over = "arrivals", by = "carrier", last = "3h" }`
#[derive(Clone, Debug)]
pub struct WindowPlan {
    /// The name that features use.
    pub name: At<String>,
    /// `over`: indices into [`Plan::sources`], ascending, each once; the spine where it is not given. What keys and
    /// aggregates read is a column of each of them.
    pub sources: Vec<usize>,
    /// `by`: columns of the sources, each with the expression over the spine that must equal it.
    pub by: Vec<(At<String>, At<String>)>,
    /// The frame.
    pub frame: Frame,
    /// `offset` and `exclude`
    pub edge: Edge,
    /// `series`
    pub series: Option<Series>,
    /// `secondary`: a column of the sources; a feature is then a value for each value of it.
    pub secondary: Option<At<String>>,
}

/// Which rows of its key a window holds, as of a time t: the moment that is read, or as far before it
/// as [`Edge::offset`] says. All are rows that a read as of t sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frame {
    /// `last = "3h"`: event times in [t - W, t], both ends inside.
    Last(Micros),
    /// `rows = 5`: the newest so many.
    Rows(u64),
    /// `rows = 5, last = "3h"`: of those in [t - W, t], the newest so many.
    Within {
        /// At most so many.
        rows: u64,
        /// W
        last: Micros,
    },
    /// `tumbling = "1h"`: the bucket of t so far, [b, t] with b the latest multiple of the size, counted
    /// from the origin, that is not after t.
    Tumbling {
        /// The length of a bucket.
        size: Micros,
        /// `origin`: where some bucket begins.
        origin: Micros,
    },
    /// `hopping = { size = "1h", every = "15m" }`: the last whole bucket, [b - size, b) with b the
    /// latest multiple of `every`, counted from the origin, that is not after t.
    Hopping {
        /// The length of a bucket.
        size: Micros,
        /// How far one begins after the other; not more than the size.
        every: Micros,
        /// `origin`: where some bucket begins.
        origin: Micros,
    },
    /// `calendar = "month", timezone = "America/New_York"`: from the start of the period that t is in
    /// up to t.
    Calendar {
        /// What the calendar is cut into.
        period: Period,
        /// Whose calendar.
        zone: Zone,
    },
    /// `session = "30m"`: the session that is open at t: the rows back from the newest, as long as none
    /// is further than the gap from the one before; none if the newest is further than that from t.
    Session(Micros),
    /// `last = "30d", resolution = "1h"`: event times in [s, t], where s is t - W moved back to a
    /// multiple of the resolution: rows leave together, and up to a resolution late.
    Tiled {
        /// W
        last: Micros,
        /// How far the tail moves at once.
        resolution: Micros,
    },
    /// `half_life = "1h"`: all, each with a weight that halves in this time.
    Decayed(Micros),
    /// `lifetime = true`: all.
    Lifetime,
}

/// What the calendar is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// An hour of the local clock.
    Hour,
    /// A day.
    Day,
    /// Monday to Sunday.
    Week,
    /// A month.
    Month,
    /// Three months, from January on.
    Quarter,
    /// A year.
    Year,
}

impl Period {
    /// Every period with the name that a file uses.
    pub const ALL: [(Period, &'static str); 6] = [
        (Period::Hour, "hour"),
        (Period::Day, "day"),
        (Period::Week, "week"),
        (Period::Month, "month"),
        (Period::Quarter, "quarter"),
        (Period::Year, "year"),
    ];
}

/// What of the present a window leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// `offset = "1d"`: the window as of so long before the moment that is read, every row of that time
    /// included.
    pub offset: Micros,
    /// `exclude`
    pub exclude: Exclude,
}

/// What a window leaves out at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exclude {
    /// Nothing.
    #[default]
    Nothing,
    /// `exclude = "row"`: the row that reads.
    Row,
    /// `exclude = "time"`: rows at the very time as of which is read.
    Time,
}

/// `series = { step = "1d", count = 7 }`: the window as of t, t - step, and so on: a list, the newest
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    /// How far one is before the other.
    pub step: Micros,
    /// How many there are.
    pub count: u64,
}
