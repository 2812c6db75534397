//! HTTP and gRPC on one port: health, metrics, scores by the Open Inference Protocol, features by
//! Feast's API, tools for agents by MCP, and a dashboard for people.
//!
//! One file a protocol: [`protocol`] has the words of the Open Inference Protocol, [`tensor`] its tensors,
//! [`rest`] and [`grpc`] its two forms; [`feast`], [`mcp`] and [`dashboard`] are those. `routes` lists what there is and
//! who may take it, `guard` stands before every route, [`access`] knows the callers. What answers is
//! whatever implements [`Scorer`] and [`Watched`]; this folder knows nothing of the dataflow.

pub mod access;
pub mod dashboard;
mod descriptors;
pub mod feast;
pub mod grpc;
mod guard;
mod lanes;
mod listener;
pub mod load;
pub mod mcp;
pub mod orders;
pub mod protocol;
mod rest;
mod routes;
pub mod scorer;
pub mod signals;
pub mod tensor;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener as StdListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tidemill_types::Error;
use tokio::sync::watch;

use self::access::tls::Files;
use self::access::{Audit, Callers, Role};
use self::lanes::Lanes;
use crate::observe::Metrics;
pub use dashboard::Watched;
pub use feast::json_of;
pub use scorer::{Answer, Features, ModelInfo, Question, Refusal, Scorer};

/// Threads that answer requests, at most: they share the machine with the pipeline.
const MOST_LANES: usize = 8;

/// Where the server listens and what it bears.
#[derive(Clone)]
pub struct Options {
    /// Address and port; port 0 takes any free one.
    pub address: SocketAddr,
    /// A longer request body is refused with 413.
    pub body_bytes: usize,
    /// A request that takes longer is answered with 504; one whose body has not come by then with 408.
    pub timeout: Duration,
    /// A connection that sends or takes nothing for so long is closed.
    pub idle_timeout: Duration,
    /// So many requests score at a time; others wait, within their timeout.
    pub concurrency: usize,
    /// How long running requests may still take at the end.
    pub grace: Duration,
    /// So many connections are open at a time; others wait to be accepted.
    pub connections: usize,
    /// Who may call.
    pub callers: Arc<Callers>,
    /// Requests a second to a tenant; no limit without.
    pub rate: Option<u32>,
    /// Where what callers do is recorded.
    pub audit: Arc<Audit>,
    /// TLS; plain without.
    pub tls: Option<Files>,
}

impl Default for Options {
    /// Loopback only, port 8080, 8 MiB, 10 s; 75 s idle; 64 at a time; 5 s of grace; whoever calls may do
    /// everything, and nothing is recorded.
    fn default() -> Options {
        Options {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            body_bytes: 8 << 20,
            timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            concurrency: 64,
            grace: Duration::from_secs(5),
            connections: 16_384,
            callers: Arc::new(Callers::anonymous(Some(Role::Admin))),
            rate: None,
            audit: Arc::new(Audit::nowhere()),
            tls: None,
        }
    }
}

/// A running server. It has a thread and a runtime of its own, so that the caller needs none; dropping
/// it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds the address and starts to answer. Fails if the address cannot be bound.
    pub fn start(
        options: Options,
        scorer: Arc<dyn Scorer>,
        watched: Arc<dyn Watched>,
        metrics: Arc<Metrics>,
    ) -> Result<Server, Error> {
        let listener = StdListener::bind(options.address).map_err(|e| {
            Error::external(format!("cannot listen on {}: {e}", options.address))
                .help("choose another port with `--serve HOST:PORT`; port 0 takes any free one")
        })?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let limits = listener::Limits {
            idle: options.idle_timeout,
            connections: descriptors::for_connections(options.connections),
            grace: options.grace,
        };
        let tls = options.tls.as_ref().map(access::tls::acceptor).transpose()?;
        let secure = tls.is_some();
        let router = routes::router(&options, scorer, watched, metrics);
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        // Whoever gives an order finds a thread, however many score.
        let blocking = options.concurrency.max(1) + routes::ORDERS;
        let lanes = Lanes::start(cores.min(MOST_LANES), blocking)?;
        let serving = listener::serve(listener, tls, limits, router, stopped, lanes.all());
        let thread = std::thread::Builder::new().name("tidemill-http".into()).spawn(move || {
            if let Err(error) = lanes.run(serving) {
                tracing::error!(%error, "the HTTP server stopped");
            }
        })?;
        tracing::info!(secure, %address, "HTTP is served");
        Ok(Server { address, stop, thread: Some(thread) })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets running requests end within the grace, and waits for that.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the HTTP thread panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}
