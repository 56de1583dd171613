//! API servers behind the gate: the clusters' and Kina's own.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kina::runtime::watches;
use kube::client::Body;

use super::effect::{Effect, Fault};
use super::gate::{Failure, Life};
use super::plan::{Point, number};

/// How late everything comes in a late watch.
const LATE: Duration = Duration::from_secs(7);
/// Latency of a request to Kina's own API, at most; a cluster's has its own.
const LATENCY_MICROS: u64 = 3000;
type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Frames = StreamBody<BoxStream<'static, Result<Frame<Bytes>, BoxError>>>;

/// Whose API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Cluster,
    Own,
}

/// A client behind the gate.
#[derive(Clone)]
pub struct Gated {
    life: Life,
    side: Side,
    inner: kube::Client,
}

impl Gated {
    pub fn client(life: Life, side: Side, inner: kube::Client) -> kube::Client {
        kube::Client::new(Self { life, side, inner }, "default")
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Frames>, BoxError> {
        if self.life.is_dead() {
            return std::future::pending().await;
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| io::Error::other(error.to_string()))?.to_bytes();
        let effect = self.effect(&head);
        let object = format!("{} {}", head.method, head.uri.path());
        if self.side == Side::Own {
            let point = Point { effect, object: object.clone(), nth: self.life.gate.milliseconds() };
            tokio::time::sleep(Duration::from_micros(number(7, &point) % LATENCY_MICROS)).await;
        }
        if matches!(effect, Effect::ApiWatch | Effect::ClusterWatch) {
            return self.watch(effect, &object, head, body).await;
        }
        let act = || {
            let request = Request::from_parts(head.clone(), Body::from(body.to_vec()));
            let client = self.inner.clone();
            async move { Ok(frames(client.send(request).await?)) }.boxed()
        };
        self.life.perform(effect, &object, failed, None, act).await
    }

    async fn watch(
        &self,
        effect: Effect,
        object: &str,
        head: http::request::Parts,
        body: Bytes,
    ) -> Result<Response<Frames>, BoxError> {
        let (fault, _) = self.life.decide(effect, object);
        let send = async {
            let request = Request::from_parts(head, Body::from(body.to_vec()));
            Ok::<_, BoxError>(frames(self.inner.send(request).await?))
        };
        match fault {
            Some(Fault::FailBefore) => Err(failed(Failure::Refused)),
            Some(Fault::Timeout) => {
                tokio::time::sleep(effect.limit()).await;
                Err(failed(Failure::TimedOut))
            }
            Some(Fault::Slow) => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                send.await
            }
            Some(Fault::CrashBefore) => {
                self.life.kill();
                std::future::pending().await
            }
            // A watch that stays open and silent.
            Some(Fault::Hang) => {
                let (head, _) = send.await?.into_parts();
                Ok(Response::from_parts(head, StreamBody::new(futures::stream::pending().boxed())))
            }
            Some(Fault::Cut) => {
                let (head, body) = send.await?.into_parts();
                let cut = futures::stream::once(async { Err(failed(Failure::Lost)) });
                Ok(Response::from_parts(head, StreamBody::new(body.take(1).chain(cut).boxed())))
            }
            Some(Fault::Expired) => {
                let (head, body) = send.await?.into_parts();
                let expired = futures::stream::once(async { Ok(Frame::data(Bytes::from_static(EXPIRED))) });
                Ok(Response::from_parts(head, StreamBody::new(body.take(1).chain(expired).boxed())))
            }
            Some(Fault::Late) => {
                let (head, body) = send.await?.into_parts();
                let late = body.then(|frame| async {
                    tokio::time::sleep(LATE).await;
                    frame
                });
                Ok(Response::from_parts(head, StreamBody::new(late.boxed())))
            }
            _ => send.await,
        }
    }

    fn effect(&self, head: &http::request::Parts) -> Effect {
        let reads = head.method == Method::GET;
        match (self.side, watches(&head.uri), reads) {
            (Side::Cluster, true, _) => Effect::ClusterWatch,
            (Side::Cluster, false, true) => Effect::ClusterRead,
            (Side::Cluster, false, false) => Effect::ClusterWrite,
            (Side::Own, true, _) => Effect::ApiWatch,
            (Side::Own, false, true) => Effect::ApiRead,
            (Side::Own, false, false) => Effect::ApiWrite,
        }
    }
}

/// What a server says to a watch whose revision it has forgotten.
const EXPIRED: &[u8] = b"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n";

fn failed(failure: Failure) -> BoxError {
    let kind = match failure {
        Failure::Refused => io::ErrorKind::ConnectionRefused,
        Failure::TimedOut => io::ErrorKind::TimedOut,
        Failure::Lost | Failure::Dead | Failure::Full => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, format!("injected: {failure:?}")).into()
}

fn frames(response: Response<Body>) -> Response<Frames> {
    response.map(|body| {
        let stream = http_body_util::BodyStream::new(body).map(|frame| frame.map_err(Into::into));
        StreamBody::new(stream.boxed())
    })
}

impl tower::Service<Request<Body>> for Gated {
    type Response = Response<Frames>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Frames>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.clone().answer(request).boxed()
    }
}
