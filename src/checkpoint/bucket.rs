//! Lines in a bucket of S3, or of a server that speaks as it does.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use tidemill_config::plan::BucketPlan;
use tidemill_types::Error;

/// What a request that fails is tried again within: a line that fails is tried again anyhow.
const RETRY: Duration = Duration::from_secs(20);

/// The bucket's objects below its prefix.
///
/// Who asks is told by the standard variables (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
/// `AWS_SESSION_TOKEN`, a web identity of Kubernetes) or, without them, by the role of the machine. A manifest is
/// made by `If-None-Match: *`, which S3 and its kin know.
///
/// # Errors
/// Variables that contradict each other; nothing is asked yet.
pub fn open(plan: &BucketPlan) -> Result<Arc<dyn ObjectStore>, Error> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(&plan.bucket);
    if let Some(region) = &plan.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &plan.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    let retry =
        RetryConfig { backoff: BackoffConfig::default(), max_retries: 8, retry_timeout: RETRY };
    let objects = builder.with_retry(retry).build().map_err(|error| {
        Error::external(format!("cannot speak to {}: {error}", name(plan))).help(HELP)
    })?;
    Ok(match plan.prefix.as_str() {
        "" => Arc::new(objects),
        prefix => Arc::new(PrefixStore::new(objects, prefix)),
    })
}

/// What to do where a bucket does not answer as it should.
pub const HELP: &str = "see that the bucket is there and may be read, written and listed; `store`, `endpoint` and \
    `region` of [checkpoint] say where it is, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY who asks";

/// For people.
pub fn name(plan: &BucketPlan) -> String {
    match plan.prefix.as_str() {
        "" => format!("s3://{}", plan.bucket),
        prefix => format!("s3://{}/{prefix}", plan.bucket),
    }
}
