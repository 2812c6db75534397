//! Connections: accepted, watched for idleness, and let go at the end.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// Serves until told to stop, then at most for `grace`.
pub(super) async fn serve(
    listener: StdListener,
    idle_timeout: Duration,
    router: Router,
    stopped: watch::Receiver<bool>,
    grace: Duration,
) -> io::Result<()> {
    let listener = Impatient { inner: TcpListener::from_std(listener)?, idle_timeout };
    let (mut first, mut second) = (stopped.clone(), stopped);
    // An error of the channel means that the server's handle is gone, which is a stop too.
    let told = async move { _ = first.wait_for(|stop| *stop).await };
    let overdue = async move {
        _ = second.wait_for(|stop| *stop).await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        done = async { axum::serve(listener, router).with_graceful_shutdown(told).await } => done,
        () = overdue => Ok(()),
    }
}

/// A listener whose connections are closed when nothing moves on them: a client that sends its headers
/// byte by byte, or never reads its answer, holds a connection only so long.
struct Impatient {
    inner: TcpListener,
    idle_timeout: Duration,
}

impl Listener for Impatient {
    type Io = Watched;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Watched, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.inner).await;
        // Small answers should not wait for more; without it they are only slower.
        _ = stream.set_nodelay(true);
        let deadline = Box::pin(tokio::time::sleep(self.idle_timeout));
        (Watched { stream, idle_timeout: self.idle_timeout, deadline }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection with a deadline that every byte moves on.
struct Watched {
    stream: TcpStream,
    idle_timeout: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl Watched {
    /// Moves the deadline on if something moved, else fails once it has passed.
    fn watch<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.deadline.as_mut().reset(Instant::now() + self.idle_timeout);
            return polled;
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch(polled, cx)
    }
}

impl AsyncWrite for Watched {
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
