//! `[executor.*]`, and which of them a model is trained by.

use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::plan::{At, ExecutorChoice, ExecutorPlan};
use crate::section::{Params, Section};
use crate::table::Node;

impl Reader {
    /// `NAME` or `NAME above 500000 rows`; the last one is for all sizes.
    pub(crate) fn choices(
        &mut self,
        node: &Node,
        path: &str,
        texts: Vec<At<String>>,
    ) -> Vec<ExecutorChoice> {
        let mut out = Vec::new();
        for text in texts {
            let words: Vec<&str> = text.value.split_whitespace().collect();
            let (name, above) = match words[..] {
                [name] => (name, Some(0)),
                [name, "above", rows, "rows"] => {
                    (name, rows.replace('_', "").parse().ok().filter(|rows| *rows > 0))
                }
                _ => ("", None),
            };
            match above {
                Some(above) => {
                    let name = At { value: name.to_string(), span: text.span.clone() };
                    out.push(ExecutorChoice { name, above });
                }
                None => self.errors.push(Diagnostic::new(
                    &text.span,
                    format!("`{}` names no executor", text.value),
                    "it is a name, or a name with the least size of its tasks",
                    "write \"NAME\" or \"NAME above 500000 rows\"",
                )),
            }
        }
        let span = out.last().map_or(node.span.clone(), |last| last.name.span.clone());
        let all = out.iter().position(|choice| choice.above == 0);
        if self.errors.is_empty() && all != out.len().checked_sub(1) {
            self.errors.push(Diagnostic::new(
                &span,
                format!("`executor` of {path} does not end in one for all sizes"),
                "they are tried in order, and the last takes what the others do not",
                "end it with a name alone, for example \"in_process\"",
            ));
        }
        out
    }

    pub(crate) fn executor(&mut self, key: &At<String>, node: &Node) -> Option<ExecutorPlan> {
        let path = format!("executor.{}", key.value);
        let folder = self.folder.clone();
        let mut p = Params::new(&path, &key.span, self.table_of(key, node)?, &folder);
        let kind = p.text("type");
        let fallback = p.optional_text("fallback");
        let (keys, common) = (p.rest(), p.asked());
        self.errors.extend(p.errors());
        let section = Section { kind, path, span: key.span.clone(), keys, common, folder };
        Some(ExecutorPlan { name: key.clone(), section, fallback })
    }
}
