//! What comes over the network is read without a panic, whatever it is: random bytes, and requests that
//! were sound before bytes of them were changed. `TIDEMILL_CASES` for each reader, 20,000 by default.

#[path = "fuzzed/network.rs"]
mod network;

use network::read;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use prost::Message;
use serde_json::json;
use tidemill::serve::grpc;

fn cases() -> usize {
    std::env::var("TIDEMILL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

/// Bytes to try: a sound request bent in a few places, or nothing but chance.
fn bent(dice: &mut TestRng, sound: &[u8]) -> Vec<u8> {
    let mut below = |n: usize| (dice.next_u64() % n.max(1) as u64) as usize;
    if below(4) == 0 {
        let n = below(200);
        return (0..n).map(|_| below(256) as u8).collect();
    }
    let mut bytes = sound.to_vec();
    for _ in 0..=below(3) {
        let at = below(bytes.len());
        match below(5) {
            0 => bytes.truncate(bytes.len() - below(8).min(bytes.len())),
            1 if !bytes.is_empty() => bytes[at] = below(256) as u8,
            2 => bytes.insert(at, b"\"{}[],:0-9e\\\xff\x00"[below(14)]),
            3 if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => {
                let copy = bytes[at..].to_vec();
                bytes.extend(copy);
            }
        }
    }
    bytes
}

/// Bends a sound request many times; some of what comes must be read and some refused, or the test tries
/// nothing.
fn try_all(reader: u8, sound: &[u8]) {
    assert!(read(reader, sound), "what is bent was not sound: {}", String::from_utf8_lossy(sound));
    let mut dice = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let good = (0..cases()).filter(|_| read(reader, &bent(&mut dice, sound))).count();
    assert!(good > 0 && good < cases(), "{good} of {} were read", cases());
}

#[test]
fn inference_requests_as_json_with_raw_tensors_after_it() {
    let tensor = |name: &str, datatype: &str, size: usize| json!({"name": name, "shape": [2], "datatype": datatype, "parameters": {"binary_data_size": size}});
    let request = json!({"id": "q", "inputs": [
        {"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [[1.5], [null]]},
        {"name": "k", "shape": [2], "datatype": "INT8", "data": [1, -2]},
        tensor("id", "BYTES", 11), tensor("y", "INT16", 4), tensor("b", "BOOL", 2),
    ], "outputs": [{"name": "score", "parameters": {"binary_data": true}}]});
    let raw = b"\0\x02\0\0\0ab\x01\0\0\0c\xff\xff\x02\0\x01\0";
    try_all(0, &[request.to_string().as_bytes(), raw].concat());
}

#[test]
fn inference_requests_as_messages() {
    let input = |name: &str, datatype: &str| grpc::Tensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![2],
        contents: Some(grpc::InferTensorContents {
            fp64_contents: vec![1.0, 2.0],
            bytes_contents: vec![b"a".to_vec(), b"b".to_vec()],
            int_contents: vec![1, -2],
            ..Default::default()
        }),
    };
    let request = grpc::InferRequest {
        model_name: "shop".into(),
        inputs: vec![input("x", "FP64"), input("card", "BYTES"), input("k", "INT8")],
        ..Default::default()
    };
    try_all(1, &request.encode_to_vec());
    let raw = grpc::InferRequest {
        raw_input_contents: vec![vec![0; 16], b"\x01\0\0\0a\x01\0\0\0b".to_vec(), vec![1, 2]],
        ..request
    };
    try_all(1, &raw.encode_to_vec());
}

#[test]
fn requests_for_features() {
    let request = json!({"features": ["shop:ratio"], "entities": {
        "card": ["a", null], "n": ["1", 2], "at": ["2026-01-01T00:00:00Z", 5], "amount": [1, 2.5],
    }, "full_feature_names": true});
    try_all(2, request.to_string().as_bytes());
}

#[test]
fn messages_of_agents() {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "lookup_features", "arguments": {"key": {"card": "c1"}},
    }});
    try_all(3, message.to_string().as_bytes());
}

#[test]
fn files_of_tokens() {
    let hash = "0".repeat(64);
    let entry = format!("[[caller]]\nname = \"a\"\nrole = \"viewer\"\nsha256 = \"{hash}\"\n");
    try_all(4, entry.as_bytes());
}
