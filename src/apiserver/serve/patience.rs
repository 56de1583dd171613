//! Clients must not dawdle: neither with the body of a request, nor with reading an answer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

/// The longest pause between two pieces of a body.
const PAUSE: Duration = Duration::from_secs(30);
/// The longest that a whole body may take: Kubernetes gives a request a minute.
const WHOLE: Duration = Duration::from_secs(60);
/// The longest that a client may read nothing of what is to be sent, as one that was stopped or is gone without a word.
const STALL: Duration = Duration::from_secs(60);

/// A body that fails when its client stops sending, or sends by drops. Its size is bounded by who collects it.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    pause: Pin<Box<Sleep>>,
    end: Instant,
    _place: Option<OwnedSemaphorePermit>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { incoming, pause: Box::pin(sleep(PAUSE)), end: Instant::now() + WHOLE, _place: place }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            let until = (Instant::now() + PAUSE).min(self.end);
            self.pause.as_mut().reset(until);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match self.pause.as_mut().poll(cx) {
            Poll::Ready(()) => {
                let message = if Instant::now() < self.end {
                    format!("the client sent nothing for {} seconds", PAUSE.as_secs())
                } else {
                    format!("the client took more than {} seconds for it", WHOLE.as_secs())
                };
                Poll::Ready(Some(Err(message.into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A connection that breaks when its client stops reading.
#[derive(Debug)]
pub(super) struct Impatient<I> {
    io: I,
    stall: Option<Pin<Box<Sleep>>>,
}

impl<I> Impatient<I> {
    pub fn new(io: I) -> Self {
        Self { io, stall: None }
    }

    /// Passes on what a write came to; fails when it waits for too long.
    fn wait<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(STALL)));
        stall.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Impatient<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Impatient<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wait(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.wait(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.wait(closed, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.wait(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
