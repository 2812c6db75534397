//! `gate = {...}` of a retrained model: what a new version must pass before it serves anybody.

use tidemill_types::Micros;

use crate::document::Reader;
use crate::parts::Names;
use crate::plan::At;
use crate::section::Params;
use crate::table::Node;

/// `gate = { nulls = 0.1, segments = ["carrier"], requires_approval = 2 }`. Every limit is off unless it
/// is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatePlan {
    /// `volume`: rows of the training set, at least, as a share of those of the version in charge.
    pub volume: Option<f64>,
    /// `nulls`: by how much the share of NULLs of a feature may exceed that in the training set of the
    /// version in charge.
    pub nulls: Option<f64>,
    /// `range`: the share of a feature's values, at most, that lie outside all that the version in
    /// charge was trained on.
    pub range: Option<f64>,
    /// `leakage`: the AUC of a numeric feature alone, at most: one above knows the label.
    pub leakage: Option<f64>,
    /// `segments`: features whose values are compared apart, as indices into
    /// [`crate::plan::Plan::features`].
    pub segments: Vec<At<usize>>,
    /// `segment_loss`: by how much the version's mean loss may exceed the other's in a segment; default
    /// 0.02.
    pub segment_loss: f64,
    /// `segment_rows`: segments of fewer rows are not judged; default 200.
    pub segment_rows: u64,
    /// `calibration`: the expected calibration error over ten bins, at most.
    pub calibration: Option<f64>,
    /// `latency`: the mean time to score a row, at most.
    pub latency: Option<Micros>,
    /// `size`: bytes of the artifact, at most.
    pub size: Option<u64>,
    /// `requires_approval`: so many different people must approve a version before it serves; default 0.
    pub requires_approval: u64,
}

impl GatePlan {
    /// Whether a sample of each training set is needed.
    pub fn looks_at_data(&self) -> bool {
        self.nulls.is_some() || self.range.is_some() || self.leakage.is_some()
    }
}

impl Reader {
    pub(crate) fn gate(
        &mut self,
        model: &At<String>,
        node: &Node,
        names: &Names,
    ) -> Option<GatePlan> {
        let folder = self.folder.clone();
        let path = format!("gate of model.{}", model.value);
        let mut p = Params::new(&path, &node.span, self.table_of(model, node)?, &folder);
        let mut limit = |key, most: f64| p.node(key).map(|_| p.float(key, 0.0, 0.0..=most));
        let (volume, nulls) = (limit("volume", 1e9), limit("nulls", 1.0));
        let (range, leakage) = (limit("range", 1.0), limit("leakage", 1.0));
        let calibration = limit("calibration", 1.0);
        let segments = p.optional_texts("segments").unwrap_or_default();
        let segment_loss = p.float("segment_loss", 0.02, 0.0..=100.0);
        let segment_rows = p.integer("segment_rows", 200, 1..=1_000_000_000) as u64;
        let latency = p.optional_period("latency");
        let size = p.node("size").map(|_| p.size("size", 0));
        let requires_approval = p.integer("requires_approval", 0, 0..=100) as u64;
        self.finish(p);
        let features: Vec<&str> = names.features.iter().map(String::as_str).collect();
        let segments = segments.into_iter().filter_map(|name| {
            let bare = name.value.strip_prefix("features.").unwrap_or(&name.value).to_string();
            let named = At { value: bare, span: name.span.clone() };
            let value = self.bind(&named, &features, "segments", "feature")?;
            Some(At { value, span: name.span })
        });
        let segments = segments.collect();
        Some(GatePlan {
            volume,
            nulls,
            range,
            leakage,
            segments,
            segment_loss,
            segment_rows,
            calibration,
            latency,
            size,
            requires_approval,
        })
    }
}
