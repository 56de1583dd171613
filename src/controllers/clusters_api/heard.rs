//! When a cluster's API server last said anything: every piece of an answer counts, and so do the bookmarks of watches,
//! of which a watcher itself tells nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use kube::client::Body;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::runtime::connect::{ApiBody, ApiService, BoxError};

/// The moment. Cloning is cheap; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Heard(Arc<Mutex<Instant>>);

impl Heard {
    /// A client that notes the moment of all that comes through it, beginning with now.
    pub fn through(service: ApiService) -> (kube::Client, Self) {
        let heard = Self(Arc::new(Mutex::new(Instant::now())));
        (kube::Client::new(Listening { service, heard: heard.clone() }, "default"), heard)
    }

    /// The last moment.
    pub fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

#[derive(Clone)]
struct Listening {
    service: ApiService,
    heard: Heard,
}

impl tower::Service<Request<Body>> for Listening {
    type Response = Response<Heeded>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Heeded>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { service, heard } = self.clone();
        Box::pin(async move {
            let answer = service.oneshot(request).await?;
            if !answer.status().is_server_error() {
                heard.now();
            }
            Ok(answer.map(|body| Heeded { body, heard }))
        })
    }
}

/// A body of whose every piece the moment is noted.
struct Heeded {
    body: ApiBody,
    heard: Heard,
}

impl http_body::Body for Heeded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = frame {
            self.heard.now();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
