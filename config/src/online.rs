//! `[online]`: what is held for requests.

use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::plan::{At, LeadingEdge, OnlinePlan};
use crate::section::Params;
use crate::table::Node;

impl Reader {
    /// Reads `[online]`. That its columns are there is checked where the spine's schema is known.
    pub(crate) fn online(&mut self, key: &At<String>, node: &Node) -> Option<OnlinePlan> {
        let mut p = Params::new("[online]", &key.span, self.table_of(key, node)?, Path::new(""));
        let entity = p.optional_texts("entity").unwrap_or_default();
        let max_entities = p.integer("max_entities", 1_000_000, 1..=1_000_000_000) as u64;
        let max_age = p.optional_duration("max_age");
        let recent = p.integer("recent", 100_000, 0..=100_000_000) as u64;
        let edge = match p.choice("edge", "event_time", &["event_time", "wall_clock"]) {
            "wall_clock" => LeadingEdge::WallClock,
            _ => LeadingEdge::EventTime,
        };
        if entity.is_empty() {
            p.error(Diagnostic::new(
                &key.span,
                "[online] has no `entity`",
                "features are looked up by the columns of the spine that name an entity",
                "write entity = \"card_id\", or entity = [\"origin\", \"dest\"]",
            ));
        }
        for (i, column) in entity.iter().enumerate() {
            if entity[..i].iter().any(|known| known.value == column.value) {
                p.error(Diagnostic::new(
                    &column.span,
                    format!("`entity` names `{}` twice", column.value),
                    "each column stands for one part of the key",
                    "remove one of the two",
                ));
            }
        }
        self.finish(p);
        let plan = OnlinePlan { entity, max_entities, max_age, recent, edge };
        (!plan.entity.is_empty()).then_some(plan)
    }
}
