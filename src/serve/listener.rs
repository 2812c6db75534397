//! Connections: accepted, told apart (TLS or not, HTTP/1 or 2), watched for idleness, and let go at
//! the end.

use std::io;
use std::net::TcpListener as StdListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::access::callers::hash;
use super::lanes::Lane;

/// What a connection may take.
#[derive(Clone)]
pub(super) struct Limits {
    /// A connection on which nothing moves for so long is closed; headers that are not whole by then,
    /// however many bytes came of them, close it too.
    pub(super) idle: Duration,
    /// So many are open at a time; others wait to be accepted.
    pub(super) connections: usize,
    /// How long requests under way may take at the end.
    pub(super) grace: Duration,
}

/// SHA-256 of the certificate by which a connection was made.
#[derive(Clone)]
pub(super) struct Certificate(pub(super) Arc<str>);

/// HTTP/2 calls of one connection at a time.
const STREAMS: u32 = 256;

/// A request's headers may take so much memory.
const HEADER_BYTES: usize = 64 << 10;

/// How long to wait when the system gives no more connections.
const BREATH: Duration = Duration::from_millis(50);

/// Serves until told to stop, then at most for the grace.
pub(super) async fn serve(
    listener: StdListener,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    lanes: Vec<Lane>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES as u32)
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.idle);
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(limits.connections.max(1)));
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            both = accepted => both,
            // An error of the channel means that the server's handle is gone, which is a stop too.
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let Some((Ok(stream), (lane, seat))) =
            accepted.ok().map(|(stream, _)| stream.into_std()).zip(Lane::choose(&lanes))
        else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        // Small answers should not wait for more; without it they are only slower.
        _ = stream.set_nodelay(true);
        let (builder, router, tls) = (builder.clone(), router.clone(), tls.clone());
        let watcher = graceful.watcher();
        lane.spawn(async move {
            let _held = (permit, seat);
            // From here on it is that lane which is told of what comes.
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            let stream = Watched::new(stream, limits.idle);
            match tls {
                None => connection(stream, None, &builder, router, watcher).await,
                Some(tls) => {
                    let Ok(Ok(stream)) =
                        tokio::time::timeout(limits.idle, tls.accept(stream)).await
                    else {
                        return;
                    };
                    let shown = stream.get_ref().1.peer_certificates();
                    let first = shown.and_then(|all| all.first());
                    let certificate =
                        first.map(|first| Certificate(Arc::from(hash(first.as_ref()))));
                    connection(stream, certificate, &builder, router, watcher).await;
                }
            }
        });
    }
    drop(listener);
    // What is still under way after the grace is cut off with the runtime.
    _ = tokio::time::timeout(limits.grace, graceful.shutdown()).await;
    Ok(())
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    certificate: Option<Certificate>,
    builder: &Builder<TokioExecutor>,
    router: Router,
    watcher: Watcher,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let mut router = router.clone();
        async move { router.call(request).await }
    });
    // A client that went away, or sent what is no HTTP: nothing to be done about it here.
    _ = watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await;
}

/// A connection with a deadline that every byte moves on: a client that never reads its answer, or says
/// nothing, holds it only so long.
struct Watched<S> {
    stream: S,
    idle_timeout: Duration,
    /// When something moved last.
    moved: Instant,
    /// Not later than the moment at which it has been idle for too long.
    deadline: Pin<Box<Sleep>>,
}

impl<S> Watched<S> {
    fn new(stream: S, idle_timeout: Duration) -> Watched<S> {
        let deadline = Box::pin(tokio::time::sleep(idle_timeout));
        Watched { stream, idle_timeout, moved: Instant::now(), deadline }
    }

    /// Notes if something moved, else fails once it has not for too long. The timer is set again only when it is due:
    /// that is once in the timeout, and not for every byte.
    fn watch<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.moved = Instant::now();
            return polled;
        }
        loop {
            ready!(self.deadline.as_mut().poll(cx));
            let due = self.moved + self.idle_timeout;
            if due <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.deadline.as_mut().reset(due);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch(polled, cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
