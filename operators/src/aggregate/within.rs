//! An aggregate inside another: over the values of one category, one place or all items of lists. What it
//! needs is kept in states of its own, which the one around it feeds.

use super::bytes::{Reader, Writer};
use super::moment::Moment;
use super::numbers::{Asks, Numbers};
use super::state::State;
use super::{Aggregate, Primitive, Row, Rows, View};

/// What an aggregate needs when it stands inside another.
#[derive(Default)]
pub(super) struct Within {
    /// What is kept: running values with equal ones are of one kind.
    pub(super) name: String,
    places: [usize; Primitive::COUNT],
    /// Over no rows; an extreme could not ask for rows again, so all values are kept in order.
    states: Vec<State>,
}

/// What is asked for by an aggregate around this one: the states within are its own, rows it reads itself.
pub(super) fn primitives(inner: &dyn Aggregate) -> &'static [Primitive] {
    match inner.primitives().contains(&Primitive::Position) {
        true => &[Primitive::Own, Primitive::Position],
        false => &[Primitive::Own],
    }
}

/// Visits what comes behind so many.
pub(super) fn behind<'a>(
    skip: usize,
    visit: &'a mut dyn FnMut(Row<'_>) -> bool,
) -> impl FnMut(Row<'_>) -> bool + 'a {
    let mut passed = 0;
    move |row| {
        passed += 1;
        passed <= skip || visit(row)
    }
}

impl Within {
    pub(super) fn new(inner: &dyn Aggregate) -> Within {
        let mut within = Within { places: Primitive::NOWHERE, ..Within::default() };
        let Within { name, places, states } = &mut within;
        let mut asks = Asks::default();
        for primitive in inner.primitives() {
            let kept = match primitive {
                Primitive::Least | Primitive::Greatest => Primitive::Ordered,
                other if asks.add(*other) => continue,
                other => *other,
            };
            let state = match kept {
                Primitive::Own => inner.running().map(State::Own),
                _ if places[kept as usize] < states.len() => None,
                other => State::new(other),
            };
            let Some(state) = state else { continue };
            name.push_str(&match &state {
                State::Own(running) => format!(" ({})", running.name()),
                _ => format!(" {kept:?}"),
            });
            places[kept as usize] = states.len();
            states.push(state);
        }
        if asks.sum {
            name.push_str(if asks.squares { " sum and squares" } else { " sum" });
            states.push(State::Numbers(Box::new(Numbers::new(asks))));
        }
        within
    }

    /// States over no rows.
    pub(super) fn states(&self) -> impl Iterator<Item = State> + '_ {
        self.states.iter().map(State::fresh)
    }

    /// How many these are.
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// Another one.
    pub(super) fn again(&self) -> Within {
        Within { name: self.name.clone(), places: self.places, states: self.states().collect() }
    }

    /// What the aggregate gives over such states and these rows, seen from the one around it.
    pub(super) fn finish(
        &self,
        inner: &dyn Aggregate,
        states: &[State],
        rows: &dyn Rows,
        around: &View<'_>,
    ) -> tidemill_types::Value {
        let whole = inner.output() == tidemill_types::DataType::Int64;
        inner.finish(&View {
            moment: &Moment::of_states(states, whole),
            numbers: states.iter().find_map(State::numbers),
            states,
            places: &self.places,
            columns: around.columns,
            rows,
            time: around.time,
        })
    }

    /// The states that were saved, one by one.
    pub(super) fn restore(&self, bytes: &mut Reader<'_>) -> Option<Vec<State>> {
        self.states.iter().map(|state| state.restore(bytes.bytes()?)).collect()
    }
}

/// What [`Within::restore`] reads.
pub(super) fn save(states: &[State], out: &mut Writer) {
    for state in states {
        out.bytes(&state.save());
    }
}

/// What states take.
pub(super) fn bytes(states: &[State]) -> usize {
    states.iter().map(|state| size_of::<State>() + state.bytes()).sum()
}
