//! What the sources of a window have in common: the columns that keys and calls over it may read.

use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::{At, Plan, WindowPlan};
use tidemill_operators::window::Rank;
use tidemill_types::{Field, Schema};

use super::Derive;

/// The sources of a window, in the order of their rows among those of one time: that of the file, but for the
/// spine, which is the last.
pub(super) struct Shared<'a> {
    sources: Vec<(usize, &'a str, &'a Schema)>,
    /// The columns that all of them have, of one type.
    pub(super) schema: Schema,
}

impl<'a> Shared<'a> {
    pub(super) fn of(window: &WindowPlan, plan: &'a Plan, sources: &'a [Derive]) -> Shared<'a> {
        let mut order = window.sources.clone();
        order.sort_by_key(|source| (*source == plan.pipeline.spine.value, *source));
        let named = |s: usize| (s, plan.sources[s].name.value.as_str(), &sources[s].schema);
        let sources: Vec<_> = order.into_iter().map(named).collect();
        let mut fields: Vec<Field> = Vec::new();
        if let Some(((_, _, first), others)) = sources.split_first() {
            let in_all = |field: &&Field| others.iter().all(|(_, _, of)| of.fields.contains(field));
            fields.extend(first.fields.iter().filter(in_all).cloned());
        }
        Shared { sources, schema: Schema { fields } }
    }

    /// Each source with its rank and where its shared columns stand; nowhere in particular where it is alone.
    pub(super) fn streams(&self) -> impl Iterator<Item = (usize, Rank, Option<Vec<usize>>)> {
        let n = self.sources.len();
        self.sources.iter().enumerate().filter_map(move |(i, (source, _, of))| {
            let places = || self.schema.names().filter_map(|name| of.index_of(name)).collect();
            // A plan has no more sources in a window than there are ranks.
            Some((*source, Rank::new(i, n)?, (n > 1).then(places)))
        })
    }

    /// Why a column that some of the sources have is not one of all, at the place where it is named.
    pub(super) fn why_not(&self, column: &At<String>, window: &str) -> Option<Diagnostic> {
        let name = column.value.as_str();
        let found = |of: &Schema| of.fields.iter().find(|field| field.name == name).cloned();
        let (mut told, mut without) = (Vec::new(), Vec::new());
        for (_, source, of) in &self.sources {
            match found(of) {
                Some(Field { data_type, length: Some(length), .. }) => {
                    told.push(format!("`{source}` has it as {data_type} of {length} items"));
                }
                Some(field) => told.push(format!("`{source}` has it as {}", field.data_type)),
                None => {
                    told.push(format!("`{source}` has no such column"));
                    without.push(*source);
                }
            }
        }
        if self.schema.index_of(name).is_some() || without.len() == self.sources.len() {
            return None;
        }
        let cure = match without[..] {
            [] => format!(
                "compute one of another name and of one type in each of them: columns = {{ {name}_ = \"cast({name} as \
                 ...)\" }}"
            ),
            _ => format!(
                "compute it where it is missing: columns = {{ {name} = \"...\" }} in [source.{}]",
                without.join("] and [source.")
            ),
        };
        Some(Diagnostic::new(
            &column.span,
            format!("`{name}` is not a column of all sources of window `{window}`"),
            told.join(", "),
            cure,
        ))
    }
}
