//! `[checkpoint]`: how often the state is kept, and where.

use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::document::Reader;
use crate::plan::{At, BucketPlan, CheckpointPlan, StorePlan};
use crate::section::Params;
use crate::table::Node;

impl Reader {
    /// Reads `[checkpoint]`, which need not be there.
    pub(crate) fn checkpoint(
        &mut self,
        given: Option<&(At<String>, Node)>,
    ) -> Option<CheckpointPlan> {
        let entries = match given {
            Some((key, node)) => self.table_of(key, node)?,
            None => &[],
        };
        let span = given.map_or(0..0, |(key, _)| key.span.clone());
        let mut p = Params::new("[checkpoint]", &span, entries, Path::new(""));
        let enabled = p.boolean("enabled", true);
        let interval = p.duration("interval", 5 * tidemill_types::time::SECOND);
        let keep = p.integer("keep", 2, 1..=1_000) as u64;
        let store = p.optional_text("store").unwrap_or(At::nowhere("checkpoints".to_string()));
        let (endpoint, region) = (p.optional_text("endpoint"), p.optional_text("region"));
        let store = store_plan(&mut p, &store, endpoint, region);
        if interval < 10 * tidemill_types::time::MILLISECOND {
            p.error(Diagnostic::new(
                &span,
                "`interval` of [checkpoint] is too short",
                "it is at least 10 ms; a run that is cut off repeats what came since the last one",
                "write interval = \"5s\"",
            ));
        }
        self.finish(p);
        enabled.then_some(CheckpointPlan { interval, keep, store })
    }
}

/// A folder, or a bucket by its address.
fn store_plan(
    p: &mut Params<'_>,
    store: &At<String>,
    endpoint: Option<At<String>>,
    region: Option<At<String>>,
) -> StorePlan {
    let address = store.value.strip_prefix("s3://").and_then(bucket_of);
    let Some((bucket, prefix)) = address else {
        if store.value.is_empty() || store.value.contains("://") {
            p.error(Diagnostic::new(
                &store.span,
                format!("`store` of [checkpoint] cannot be `{}`", store.value),
                "it is a folder, relative to the run's, or a bucket of S3 and what keys in it begin with",
                "write store = \"checkpoints\", or store = \"s3://BUCKET/PREFIX\"",
            ));
        }
        for (name, given) in [("endpoint", &endpoint), ("region", &region)] {
            if let Some(given) = given {
                p.error(Diagnostic::new(
                    &given.span,
                    format!("`{name}` of [checkpoint] has no bucket"),
                    "it says where a bucket is, and `store` names a folder",
                    format!("remove `{name}`, or write store = \"s3://BUCKET/PREFIX\""),
                ));
            }
        }
        return StorePlan::Folder(store.value.clone());
    };
    if let Some(endpoint) = &endpoint {
        let host = ["http://", "https://"].iter().find_map(|s| endpoint.value.strip_prefix(s));
        if host.is_none_or(|host| host.is_empty() || host.starts_with('/') || host.contains('@')) {
            p.error(Diagnostic::new(
                &endpoint.span,
                format!("`endpoint` of [checkpoint] cannot be `{}`", endpoint.value),
                "it is the address of a server that speaks as S3 does; secrets are not written here",
                "write endpoint = \"http://127.0.0.1:9000\", and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ));
        }
    }
    let (endpoint, region) = (endpoint.map(|e| e.value), region.map(|r| r.value));
    StorePlan::Bucket(BucketPlan { bucket, prefix, endpoint, region })
}

/// Bucket and prefix of what stands behind `s3://`.
fn bucket_of(address: &str) -> Option<(String, String)> {
    let (bucket, prefix) = address.split_once('/').unwrap_or((address, ""));
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    let named = bucket.len() >= 3 && bucket.chars().all(fits);
    let prefix = prefix.trim_matches('/');
    (named && !prefix.contains("//")).then(|| (bucket.to_string(), prefix.to_string()))
}
