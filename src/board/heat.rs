//! Readings over the whole of a run in a bounded number of cells: when there are too many, two
//! neighbours become one, which keeps the larger.

use tidemill_types::Micros;

/// Cells at most.
pub const CELLS: usize = 96;

/// The largest readings by time. Event time is cut into spans of equal length, which doubles when the
/// run has become too long for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heat {
    /// The length of a span; 0 before the first reading.
    span: Micros,
    /// Which span the first cell is, counted from 1970.
    first: i64,
    cells: Vec<Option<f64>>,
}

impl Heat {
    /// Takes a reading. `every` is how often there is one; it sets the first length of a span.
    /// Readings come in the order of time; an earlier one is taken into the first span that is held.
    pub fn add(&mut self, at: Micros, statistic: f64, every: Micros) {
        if self.span == 0 {
            self.span = every.max(1);
            self.first = at.div_euclid(self.span);
        }
        // A jump over years would else be as many empty cells.
        while at.div_euclid(self.span).saturating_sub(self.first) >= CELLS as i64 {
            self.halve();
        }
        let place = (at.div_euclid(self.span) - self.first).max(0) as usize;
        if self.cells.len() <= place {
            self.cells.resize(place + 1, None);
        }
        let cell = &mut self.cells[place];
        *cell = Some(cell.map_or(statistic, |held| held.max(statistic)));
    }

    fn halve(&mut self) {
        let (first, cells) = (self.first.div_euclid(2), std::mem::take(&mut self.cells));
        self.span = self.span.saturating_mul(2);
        for (n, cell) in cells.into_iter().enumerate() {
            let place = ((self.first + n as i64).div_euclid(2) - first) as usize;
            if self.cells.len() <= place {
                self.cells.resize(place + 1, None);
            }
            let held = &mut self.cells[place];
            *held = match (*held, cell) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
        }
        self.first = first;
    }

    /// The length of a span; 0 before the first reading.
    pub fn span(&self) -> Micros {
        self.span
    }

    /// Each cell with the event time at which its span begins.
    pub fn cells(&self) -> impl Iterator<Item = (Micros, Option<f64>)> + '_ {
        let at = |n: usize| (self.first + n as i64).saturating_mul(self.span);
        self.cells.iter().enumerate().map(move |(n, cell)| (at(n), *cell))
    }
}

/// Several heats on the spans of the widest: where each begins, and the cells of each.
pub fn aligned(heats: &[&Heat]) -> (Vec<Micros>, Vec<Vec<Option<f64>>>) {
    let span = heats.iter().map(|heat| heat.span).max().unwrap_or(0).max(1);
    let places = |heat: &Heat| -> Vec<(i64, Option<f64>)> {
        heat.cells().map(|(at, cell)| (at.div_euclid(span), cell)).collect()
    };
    let all: Vec<Vec<(i64, Option<f64>)>> = heats.iter().map(|heat| places(heat)).collect();
    let ends = || all.iter().flatten().map(|(place, _)| *place);
    let (Some(first), Some(last)) = (ends().min(), ends().max()) else { return Default::default() };
    // Heats that began apart may need more columns than one has; the oldest are left out.
    let first = first.max(last - 2 * CELLS as i64);
    let rows = all.iter().map(|cells| {
        let mut row = vec![None::<f64>; (last - first + 1) as usize];
        for (place, cell) in cells.iter().filter(|(place, _)| *place >= first) {
            let held = &mut row[(place - first) as usize];
            *held = match (*held, *cell) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
        }
        row
    });
    ((first..=last).map(|place| place * span).collect(), rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_stays_within_its_cells_and_loses_no_peak() {
        let mut heat = Heat::default();
        for n in 0..100_000_i64 {
            heat.add(1_000 + n * 10, if n == 77_777 { 9.0 } else { (n % 5) as f64 / 10.0 }, 10);
            assert!(heat.cells.len() <= CELLS);
        }
        assert!(heat.cells.len() > CELLS / 2 - 2, "{}", heat.cells.len());
        let peak = heat.cells().find(|(_, cell)| *cell == Some(9.0)).map(|(at, _)| at);
        let at = 1_000 + 777_770;
        assert!(peak.is_some_and(|begin| (begin..begin + heat.span()).contains(&at)), "{peak:?}");
        heat.add(0, 0.1, 10);
        assert!(heat.cells.len() <= CELLS, "what comes out of order has its place too");
        heat.add(Micros::MAX, 0.2, 10);
        assert!(heat.cells.len() <= CELLS, "a jump is no flood");
    }

    #[test]
    fn heats_of_different_lengths_share_their_columns() {
        let (mut long, mut short) = (Heat::default(), Heat::default());
        (0..300).for_each(|n| long.add(n * 10, n as f64, 10));
        (250..300).for_each(|n| short.add(n * 10, -(n as f64), 10));
        let (times, rows) = aligned(&[&long, &short]);
        assert_eq!(times.len(), rows[0].len());
        assert_eq!(rows[0].len(), rows[1].len());
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == long.span()));
        let begin = times.iter().position(|at| at + long.span() > 2_500).expect("a column");
        assert!(rows[1][..begin].iter().all(Option::is_none));
        assert_eq!(rows[1][begin], Some(-250.0));
        assert_eq!(aligned(&[]), (vec![], vec![]));
    }
}
