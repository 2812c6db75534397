//! What stands before every route: who calls, whether they may, how often, how long, and the counts.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tidemill_types::trace::TRACEPARENT;
use tonic::Code;

use super::access::{Caller, Role};
use super::listener::Certificate;
use super::protocol::Failure;
use super::routes::{Shared, role_of};
use crate::observe::traces;

/// Whether a request is a gRPC call, whose failures have a form of their own.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The status of a call for that of a request.
pub(super) fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 | 413 | 415 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        405 => Code::Unimplemented,
        429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        408 | 504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

fn refuse(failure: Failure, grpc: bool) -> Response {
    if grpc {
        return tonic::Status::new(code_of(failure.status), failure.message).into_http();
    }
    failure.into_response()
}

/// The body of a request, which says whether somebody waits for more of it: then the client is slow, and not
/// the answer.
struct Telling {
    body: Body,
    comes: Arc<AtomicBool>,
}

impl HttpBody for Telling {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.comes.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The request, and whether more of its body is waited for.
fn body_that_tells(request: Request) -> (Request, Arc<AtomicBool>) {
    let comes = Arc::new(AtomicBool::new(false));
    let telling = Arc::clone(&comes);
    (request.map(|body| Body::new(Telling { body, comes: telling })), comes)
}

/// Finds the caller, refuses what they may not, bounds the time of a request and counts it, under the
/// template of its route: what is counted must not grow with what clients send.
pub(super) async fn guard(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unknown", MatchedPath::as_str);
    let grpc = is_grpc(request.headers());
    let traced = traces::tracer().and_then(|tracer| {
        let header = request.headers().get(TRACEPARENT)?;
        Some((tracer, tracer.request(header.as_bytes())?, request.method().clone()))
    });
    let response = match admit(&shared, &request, route, grpc) {
        Err(failure) => refuse(failure, grpc),
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let (request, comes) = body_that_tells(request);
            match tokio::time::timeout(shared.timeout, next.run(request)).await {
                Ok(response) => response,
                Err(_) if comes.load(Ordering::Relaxed) => {
                    let limit = shared.timeout;
                    let message = format!("the body of the request was not whole within {limit:?}");
                    refuse(Failure::new(StatusCode::REQUEST_TIMEOUT, message), grpc)
                }
                Err(_) => {
                    let message = format!("there was no answer within {:?}", shared.timeout);
                    refuse(Failure::new(StatusCode::GATEWAY_TIMEOUT, message), grpc)
                }
            }
        }
    };
    if let Some((tracer, request, method)) = traced {
        tracer.answered(request, method.as_str(), route, response.status().as_u16(), grpc);
    }
    shared.metrics.request(route, response.status().as_u16(), begun.elapsed().as_secs_f64());
    response
}

/// The caller, where the route wants one.
fn admit(
    shared: &Shared,
    request: &Request,
    route: &str,
    grpc: bool,
) -> Result<Option<Caller>, Failure> {
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let certificate = request.extensions().get::<Certificate>();
    let certificate = certificate.map(|certificate| &*certificate.0);
    let Some(role) = role_of(route) else { return Ok(None) };
    let Some(caller) = shared.callers.caller(authorization, certificate) else {
        let why = "who calls is not known: send `Authorization: Bearer TOKEN` with a token of the \
                   tokens file, or a client certificate that is named there";
        return Err(Failure::new(StatusCode::UNAUTHORIZED, why));
    };
    if let Some(rates) = &shared.rates
        && let Err(wait) = rates.pass(&caller.tenant, Instant::now())
    {
        let wait = wait.as_secs_f64().ceil();
        let why = format!("tenant `{}` calls too often: wait {wait} s", caller.tenant);
        return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, why));
    }
    if caller.role < role {
        let what = format!("{} {route}", if grpc { "gRPC" } else { request.method().as_str() });
        let why = format!("the role of `{}` is {}; this needs {role}", caller.name, caller.role);
        shared.audit.record(&caller.name, what, &why, false);
        return Err(Failure::new(StatusCode::FORBIDDEN, why));
    }
    Ok(Some(caller))
}

/// Records what a caller does; what cannot be recorded is not done.
pub(super) fn recorded(shared: &Shared, caller: &Caller, what: String) -> Result<(), Failure> {
    match shared.audit.record(&caller.name, what, "", true) {
        true => Ok(()),
        false => Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the access journal does not keep up, and nothing is done that is not recorded",
        )),
    }
}

/// Refuses what changes something and was sent by a page from elsewhere, in the browser of whoever is on this machine.
pub(super) fn refuse_foreign(caller: &Caller, headers: &HeaderMap) -> Result<(), Failure> {
    match is_own(caller, headers) {
        true => Ok(()),
        false => Err(Failure::new(StatusCode::FORBIDDEN, "orders of other pages are not taken")),
    }
}

/// Whether a request is no page's, or that of a page that this server gave. Whoever shows no token is known
/// by the address alone, which a name of a foreign page may point to: it must be this machine's own.
fn is_own(caller: &Caller, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let of_origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let same = of_origin.is_some_and(|(_, of_origin)| Some(of_origin) == host);
    same && (&*caller.name != "anonymous" || is_local(origin.as_bytes()))
}

/// Whether the origin of a page is this machine.
pub(super) fn is_local(origin: &[u8]) -> bool {
    let host = std::str::from_utf8(origin).ok().and_then(|text| text.split_once("://"));
    let host = host.map(|(_, rest)| rest.rsplit_once(':').map_or(rest, |(host, _)| host));
    matches!(host, Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// The role that is needed where a route is not on the list.
pub(super) const STRICTEST: Role = Role::Admin;
