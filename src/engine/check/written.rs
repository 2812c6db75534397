//! Where an expression of the program was written: what is told of one that fails on a row.

use tidemill_config::plan::{FeaturePlan, LabelPlan};
use tidemill_operators::dataflow::Site;
use tidemill_operators::expression::Scalar;

use super::Compiled;

/// An expression as people find it in the pipeline file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What it stands in: `feature`, `label` or `window`.
    pub kind: &'static str,
    /// Its name; of windows that share a key, the names of all.
    pub name: String,
    /// What is written there, on one line.
    pub text: String,
}

impl Compiled {
    /// Where an expression of the program was written.
    pub fn written(&self, site: Site) -> Written {
        let group = |g: usize| &self.program.groups[g];
        let (kind, name, text) = match site {
            Site::Feature(feature) => {
                let FeaturePlan { name, text, .. } = &self.plan.features[feature];
                ("feature", name.value.clone(), text.value.clone())
            }
            Site::Label(label) => {
                let LabelPlan { name, value, .. } = &self.plan.labels[label];
                ("label", name.value.clone(), value.value.clone())
            }
            Site::Key(g, part) => {
                ("window", group(g).names.join(", "), group(g).spine_key[part].to_string())
            }
            Site::Column(g, column) => {
                ("window", group(g).names.join(", "), group(g).columns[column].to_string())
            }
        };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Written { kind, name, text }
    }

    /// Expressions of labels and windows that are no mere columns: they may fail on a row.
    pub fn may_fail(&self) -> Vec<Site> {
        let labels = self.program.labels.iter().enumerate();
        let mut sites: Vec<Site> = labels.map(|(label, _)| Site::Label(label)).collect();
        for (g, group) in self.program.groups.iter().enumerate() {
            if group.outputs.is_empty() {
                continue;
            }
            let of = |scalars: &[Scalar], site: fn(usize, usize) -> Site| {
                let computed = scalars.iter().enumerate().filter(|(_, scalar)| !scalar.is_column());
                computed.map(|(n, _)| site(g, n)).collect::<Vec<Site>>()
            };
            sites.extend(of(&group.spine_key, Site::Key));
            sites.extend(of(&group.columns, Site::Column));
        }
        sites
    }
}
