//! A collector of traces, over OTLP (<https://opentelemetry.io/docs/specs/otlp/>): HTTP with protobuf or JSON, or gRPC.
//!
//! A connection carries one message: messages are half a second apart, and what a collector has closed meanwhile is not found out
//! by the loss of one. HTTP is hyper's, gRPC tonic's, TLS that of rustls, as where this program is asked. The crates of
//! OpenTelemetry bring its whole SDK for the dozen messages that are needed of it.

pub mod messages;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::http::header::{CONTENT_TYPE, HOST};
use hyper::http::uri::PathAndQuery;
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tidemill_config::plan::{TracesPlan, TracesProtocol};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tonic::metadata::MetadataMap;
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::tls::roots;
use messages::{ExportTraceServiceRequest, ExportTraceServiceResponse};

/// How long a collector may take for all of it.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Bytes of an answer, at most: it tells how many spans were refused, and why.
const LONGEST: usize = 64 << 10;

/// The call of gRPC.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Where traces go.
pub struct Collector {
    endpoint: Uri,
    protocol: TracesProtocol,
    headers: HeaderMap,
    tls: Option<TlsConnector>,
    runtime: Runtime,
}

impl Collector {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// Why nothing can be sent there: certificates that cannot be read, for example.
    pub fn new(plan: &TracesPlan) -> Result<Collector, String> {
        let endpoint: Uri = plan.endpoint.parse().map_err(|e| format!("it is no address: {e}"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &plan.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
            headers.insert(name, HeaderValue::from_str(value).map_err(|e| e.to_string())?);
        }
        let tls = match endpoint.scheme_str() {
            Some("https") => {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let mut config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .map_err(|e| e.to_string())?
                    .with_root_certificates(roots(plan.ca.as_deref())?)
                    .with_no_client_auth();
                let spoken: &[u8] = match plan.protocol {
                    TracesProtocol::Grpc => b"h2",
                    _ => b"http/1.1",
                };
                config.alpn_protocols = vec![spoken.to_vec()];
                Some(TlsConnector::from(Arc::new(config)))
            }
            _ => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        Ok(Collector { endpoint, protocol: plan.protocol, headers, tls, runtime })
    }

    /// Sends spans, and waits until they are taken; how many of them were refused.
    ///
    /// # Errors
    /// Why none was taken.
    pub fn send(&self, spans: &ExportTraceServiceRequest) -> Result<u64, String> {
        let sent = async {
            let late = |_| format!("no answer in {} s", ANSWER.as_secs());
            tokio::time::timeout(ANSWER, self.exchange(spans)).await.map_err(late)?
        };
        self.runtime.block_on(sent).map_err(|why| format!("{}: {why}", self.endpoint))
    }

    async fn exchange(&self, spans: &ExportTraceServiceRequest) -> Result<u64, String> {
        let host = self.endpoint.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.endpoint.port_u16().unwrap_or(match (self.protocol, &self.tls) {
            (TracesProtocol::Grpc, _) => 4317,
            (_, None) => 80,
            (_, Some(_)) => 443,
        });
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect((host, port))).await;
        let stream = connected.map_err(|_| "nobody answers".to_string())?;
        let stream = stream.map_err(|e| e.to_string())?;
        match &self.tls {
            None => self.over(stream, spans).await,
            Some(tls) => {
                let name = ServerName::try_from(host.to_string()).map_err(|e| e.to_string())?;
                let stream = tls.connect(name, stream).await.map_err(|e| format!("no TLS: {e}"))?;
                self.over(stream, spans).await
            }
        }
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        spans: &ExportTraceServiceRequest,
    ) -> Result<u64, String> {
        let io = TokioIo::new(stream);
        if self.protocol == TracesProtocol::Grpc {
            let shaken = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = shaken.map_err(|e| explain(&e))?;
            let driven = tokio::spawn(connection);
            let called = self.call(Sender(sender), spans).await;
            driven.abort();
            return called;
        }
        let (mut sender, connection) = http1::handshake(io).await.map_err(|e| explain(&e))?;
        let driven = tokio::spawn(connection);
        let request = self.post(spans)?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(|e| explain(&e))?;
            self.read(answer).await
        };
        let answer = answer.await;
        driven.abort();
        answer
    }

    /// Over gRPC.
    async fn call(&self, sender: Sender, spans: &ExportTraceServiceRequest) -> Result<u64, String> {
        let mut client = tonic::client::Grpc::with_origin(sender, self.endpoint.clone())
            .max_decoding_message_size(LONGEST);
        client.ready().await.map_err(|e| explain(&e))?;
        let mut request = tonic::Request::new(spans.clone());
        *request.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
        let codec: ProstCodec<_, ExportTraceServiceResponse> = ProstCodec::default();
        let called = client.unary(request, PathAndQuery::from_static(EXPORT), codec).await;
        let answer =
            called.map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
        Ok(refused(answer.get_ref()))
    }

    /// The request over HTTP.
    fn post(&self, spans: &ExportTraceServiceRequest) -> Result<Request<Full<Bytes>>, String> {
        let (kind, body) = match self.protocol {
            TracesProtocol::HttpJson => {
                ("application/json", messages::to_json(spans).to_string().into_bytes())
            }
            _ => ("application/x-protobuf", spans.encode_to_vec()),
        };
        let path = format!("{}/v1/traces", self.endpoint.path().trim_end_matches('/'));
        let mut request =
            Request::post(path).body(Full::new(Bytes::from(body))).map_err(|e| e.to_string())?;
        *request.headers_mut() = self.headers.clone();
        let authority = self.endpoint.authority().map_or("", |authority| authority.as_str());
        let authority = HeaderValue::from_str(authority).map_err(|e| e.to_string())?;
        request.headers_mut().insert(HOST, authority);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(request)
    }

    /// The answer over HTTP.
    async fn read(&self, answer: Response<Incoming>) -> Result<u64, String> {
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("status {status}"));
        }
        // It has taken them: an answer that cannot be read says nothing else.
        let Ok(body) = Limited::new(answer.into_body(), LONGEST).collect().await else {
            return Ok(0);
        };
        let body = body.to_bytes();
        if self.protocol == TracesProtocol::HttpJson {
            let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let rejected = &answer["partialSuccess"]["rejectedSpans"];
            let text = rejected.as_str().and_then(|text| text.parse().ok());
            return Ok(text.or_else(|| rejected.as_u64()).unwrap_or(0));
        }
        Ok(ExportTraceServiceResponse::decode(body).map_or(0, |answer| refused(&answer)))
    }
}

fn refused(answer: &ExportTraceServiceResponse) -> u64 {
    let partial = answer.partial_success.as_ref();
    partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0))
}

/// An error and what is behind it: hyper's own text says little.
fn explain(error: &dyn std::error::Error) -> String {
    let behind = error.source().map_or(String::new(), |source| format!(": {source}"));
    format!("{error}{behind}")
}

/// A connection of HTTP/2, as tonic wants it.
struct Sender(http2::SendRequest<tonic::body::Body>);

impl Service<Request<tonic::body::Body>> for Sender {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
