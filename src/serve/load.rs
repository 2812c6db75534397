//! Open-loop load: requests are due at times that are fixed beforehand, whatever the server does.
//!
//! The n-th request is due n / rate seconds after the start, and its latency is counted from then, not
//! from when it could be sent: a server that stands still for a second is charged with every request
//! that was due meanwhile. Counting from the sending instead is the "coordinated omission" of closed
//! loops, in which the client waits politely and asks less of a slow server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant};

use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use tidemill_types::Error;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// What is asked, how often, how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// The path.
    pub uri: Uri,
    /// Bodies, in turn.
    pub bodies: Arc<Vec<Bytes>>,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<String>,
    /// Requests a second.
    pub rate: f64,
    /// How long requests are due.
    pub duration: Duration,
    /// How long before that, uncounted.
    pub warm_up: Duration,
    /// Connections; one has one request under way.
    pub connections: usize,
}

impl Plan {
    /// Requests that are due before the end. One that is due at the end but for the last bits of a product is not.
    fn requests(&self) -> u64 {
        let requests = self.rate * (self.warm_up + self.duration).as_secs_f64();
        (requests * (1.0 - 1e-12)).ceil() as u64
    }
}

/// What came of it. Latencies are microseconds.
pub struct Measured {
    /// From when a request was due to the end of its answer.
    pub latency: Histogram<u64>,
    /// Answers by status; 0 where there was none.
    pub statuses: BTreeMap<u16, u64>,
    /// From the first request that counts to the last answer.
    pub took: Duration,
    /// Requests that were due so long before a connection was free that they were sent a millisecond
    /// late or more.
    pub late: u64,
}

/// An hour, in microseconds: the longest latency that is told apart.
const LONGEST: u64 = 3_600_000_000;

impl Measured {
    fn new() -> Result<Measured, Error> {
        let latency = Histogram::new_with_bounds(1, LONGEST, 3)
            .map_err(|e| Error::internal(format!("no histogram: {e}")))?;
        Ok(Measured { latency, statuses: BTreeMap::new(), took: Duration::ZERO, late: 0 })
    }

    fn merge(&mut self, other: Measured) {
        // Of the same bounds, so that it always fits.
        _ = self.latency.add(other.latency);
        for (status, n) in other.statuses {
            *self.statuses.entry(status).or_default() += n;
        }
        self.took = self.took.max(other.took);
        self.late += other.late;
    }

    /// Answers that were what was asked for.
    pub fn good(&self) -> u64 {
        self.statuses.range(200..300).map(|(_, n)| n).sum()
    }
}

/// Sends the load and waits for its end.
///
/// # Errors
/// A server that cannot be reached at the start.
pub fn run(plan: Plan) -> Result<Measured, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::external(format!("no runtime: {e}")))?;
    runtime.block_on(all(plan))
}

async fn all(plan: Plan) -> Result<Measured, Error> {
    // Every connection is there before the first request is due.
    let mut senders = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        senders.push(connect(plan.address).await?);
    }
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now() + Duration::from_millis(10);
    let plan = Arc::new(plan);
    let due = Arc::new(Semaphore::new(0));
    let clock = keep_time(&plan, start.into_std(), Arc::clone(&due))?;
    let tasks: Vec<_> = senders
        .into_iter()
        .map(|sender| {
            let (plan, next, due) = (Arc::clone(&plan), Arc::clone(&next), Arc::clone(&due));
            tokio::spawn(async move { one(&plan, sender, &next, &due, start).await })
        })
        .collect();
    let mut measured = Measured::new()?;
    for task in tasks {
        let part = task.await.map_err(|e| Error::internal(format!("a connection ended: {e}")))?;
        measured.merge(part?);
    }
    clock.join().map_err(|_| Error::internal("the clock of the load ended"))?;
    Ok(measured)
}

/// A thread that lets a request go whenever one is due. The timers of tokio have steps of a millisecond: ten requests of
/// 10,000 a second would come in one burst, late by half a millisecond in the mean.
fn keep_time(plan: &Plan, start: StdInstant, due: Arc<Semaphore>) -> Result<JoinHandle<()>, Error> {
    let (rate, requests, connections) = (plan.rate, plan.requests(), plan.connections);
    let keep = move || {
        let mut gone = 0;
        while gone < requests {
            let next = start + Duration::from_secs_f64(gone as f64 / rate);
            std::thread::sleep(next.saturating_duration_since(StdInstant::now()));
            let now_due = (start.elapsed().as_secs_f64() * rate) as u64 + 1;
            let now_due = now_due.clamp(gone + 1, requests);
            due.add_permits((now_due - gone) as usize);
            gone = now_due;
        }
        // For each connection one more, at which it ends.
        due.add_permits(connections);
    };
    let thread = std::thread::Builder::new().name("clock".to_string());
    thread.spawn(keep).map_err(|e| Error::external(format!("no thread for the clock: {e}")))
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Error> {
    let failed = |why: String| {
        Error::external(format!("cannot reach {address}: {why}"))
            .help("start the server with `tidemill run FILE --serve HOST:PORT --linger`")
    };
    let stream = TcpStream::connect(address).await.map_err(|e| failed(e.to_string()))?;
    stream.set_nodelay(true).map_err(|e| failed(e.to_string()))?;
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|e| failed(e.to_string()))?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One connection: takes the next request that is due, as long as there are any.
async fn one(
    plan: &Plan,
    mut sender: SendRequest<Full<Bytes>>,
    next: &AtomicU64,
    due: &Semaphore,
    start: Instant,
) -> Result<Measured, Error> {
    let mut measured = Measured::new()?;
    let counted = start + plan.warm_up;
    loop {
        let gone =
            due.acquire().await.map_err(|_| Error::internal("the clock of the load ended"))?;
        gone.forget();
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= plan.requests() {
            return Ok(measured);
        }
        let due = start + Duration::from_secs_f64(n as f64 / plan.rate);
        let late = due.elapsed() >= Duration::from_millis(1);
        // A server that is away for a while is part of what is measured.
        if sender.is_closed()
            && let Ok(again) = connect(plan.address).await
        {
            sender = again;
        }
        let status = ask(plan, &mut sender, n).await.unwrap_or(0);
        if due < counted {
            continue;
        }
        let latency = u64::try_from(due.elapsed().as_micros()).unwrap_or(LONGEST);
        measured.latency.saturating_record(latency.max(1));
        *measured.statuses.entry(status).or_default() += 1;
        measured.took = counted.elapsed();
        measured.late += u64::from(late);
    }
}

async fn ask(
    plan: &Plan,
    sender: &mut SendRequest<Full<Bytes>>,
    n: u64,
) -> Result<u16, hyper::Error> {
    sender.ready().await?;
    let body = plan.bodies[n as usize % plan.bodies.len()].clone();
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = hyper::Method::POST;
    *request.uri_mut() = plan.uri.clone();
    let headers = request.headers_mut();
    headers.insert(header::HOST, header::HeaderValue::from_static("tidemill"));
    let json = header::HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    if let Some(token) = &plan.token
        && let Ok(value) = header::HeaderValue::from_str(&format!("Bearer {token}"))
    {
        headers.insert(header::AUTHORIZATION, value);
    }
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    answer.into_body().collect().await?;
    Ok(status)
}
