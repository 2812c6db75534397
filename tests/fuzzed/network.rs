//! What faces the network, by the first byte of what comes: shared by the tests and by libFuzzer.

use prost::Message;
use tidemill::serve::access::Callers;
use tidemill::serve::scorer::StoreInfo;
use tidemill::serve::{feast, grpc, mcp, protocol, tensor};
use tidemill_types::DataType;

/// A store with a column of every type.
pub fn store() -> StoreInfo {
    StoreInfo {
        pipeline: "shop".into(),
        entity: [("card".into(), DataType::String), ("n".into(), DataType::Int64)].into(),
        on_demand: [("at".into(), DataType::Timestamp), ("amount".into(), DataType::Float64)]
            .into(),
        features: [("ratio".into(), DataType::Float64), ("big".into(), DataType::Bool)].into(),
        ..StoreInfo::default()
    }
}

/// Reads bytes by one of the readers; says whether they were sound. It must not panic.
pub fn read(reader: u8, bytes: &[u8]) -> bool {
    match reader % 5 {
        0 => {
            // The JSON ends at the first NUL, and raw tensors follow it.
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            let (json, raw) = bytes.split_at(end);
            let raw = raw.get(1..).unwrap_or_default();
            let request = serde_json::from_slice::<protocol::InferRequest>(json);
            request.is_ok_and(|request| tensor::read(&request, raw).is_ok())
        }
        1 => grpc::InferRequest::decode(bytes).is_ok_and(|r| grpc::question(&r).is_ok()),
        2 => feast::read(bytes, &store()).is_ok(),
        3 => mcp::read(bytes).is_ok(),
        _ => Callers::parse(&String::from_utf8_lossy(bytes), "a file").is_ok(),
    }
}
