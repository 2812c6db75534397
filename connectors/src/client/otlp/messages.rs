//! The messages of OTLP that a trace is made of, with the numbers of `opentelemetry/proto/trace/v1/trace.proto` and its neighbours
//! (<https://github.com/open-telemetry/opentelemetry-proto>); fields that nothing here sets are left out.

use prost::Message;
use serde_json::{Value as Json, json};
use tidemill_types::schema::hex;

/// Spans, by who made them.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceRequest {
    /// One here.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// What a collector says of them.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceResponse {
    /// Set if it did not take all.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportTracePartialSuccess>,
}

/// What it did not take.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTracePartialSuccess {
    /// How many spans.
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    /// Why.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// Spans of a process.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// The process.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By what made them.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// A process.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// What is known of it.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Spans of a library or a program.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<InstrumentationScope>,
    /// They.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// A library or a program.
#[derive(Clone, PartialEq, Message)]
pub struct InstrumentationScope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// A span.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// What it is about.
    #[prost(string, tag = "5")]
    pub name: String,
    /// 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// Since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// Since 1970.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Set if it failed.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    /// Those of W3C's trace context.
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// 0 not told, 1 well, 2 failed.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// It, by its type.
    #[prost(oneof = "Any", tags = "1, 3, 4")]
    pub value: Option<Any>,
}

/// The types of values that are used here.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Any {
    /// A text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A whole number.
    #[prost(int64, tag = "3")]
    Int(i64),
    /// A number.
    #[prost(double, tag = "4")]
    Double(f64),
}

/// OTLP's JSON: numbers of 64 bits are texts, ids are hexadecimal, enumerations are numbers.
pub fn to_json(request: &ExportTraceServiceRequest) -> Json {
    let attributes = |of: &[KeyValue]| -> Json {
        let value = |value: &Option<AnyValue>| match value.as_ref().and_then(|v| v.value.as_ref()) {
            Some(Any::Text(text)) => json!({ "stringValue": text }),
            Some(Any::Int(number)) => json!({ "intValue": number.to_string() }),
            Some(Any::Double(number)) => json!({ "doubleValue": number }),
            None => json!({}),
        };
        of.iter().map(|pair| json!({ "key": pair.key, "value": value(&pair.value) })).collect()
    };
    let span = |span: &Span| {
        json!({
            "traceId": hex(&span.trace_id),
            "spanId": hex(&span.span_id),
            "parentSpanId": hex(&span.parent_span_id),
            "flags": span.flags,
            "name": span.name,
            "kind": span.kind,
            "startTimeUnixNano": span.start_time_unix_nano.to_string(),
            "endTimeUnixNano": span.end_time_unix_nano.to_string(),
            "attributes": attributes(&span.attributes),
            "status": span.status.as_ref().map_or(json!({}), |status| json!({ "code": status.code })),
        })
    };
    let scope = |scope: &ScopeSpans| {
        let of = scope.scope.clone().unwrap_or_default();
        json!({
            "scope": { "name": of.name, "version": of.version },
            "spans": scope.spans.iter().map(span).collect::<Json>(),
        })
    };
    let resource = |resource: &ResourceSpans| {
        let of = resource.resource.clone().unwrap_or_default();
        json!({
            "resource": { "attributes": attributes(&of.attributes) },
            "scopeSpans": resource.scope_spans.iter().map(scope).collect::<Json>(),
        })
    };
    json!({ "resourceSpans": request.resource_spans.iter().map(resource).collect::<Json>() })
}
