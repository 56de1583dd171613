//! Kina's own API on a socket of loopback, for everybody outside this process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Objects;
use super::inside::{Asked, Inside};
use crate::api::users;
use crate::apiserver::body::Body;
use crate::apiserver::serve::{self, Limits, PkiError, RequestBody, TlsError};
use crate::apiserver::status::ApiError;
use crate::apiserver::user::User;
use crate::backup::STORE_PATH;
use crate::home::Home;
use crate::world::World;

/// Name of the context in the home's kubeconfig.
const CONTEXT: &str = "kina";
/// The certificates are made anew at every start; nothing serves a home for longer than this without one.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The API could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// No port of loopback could be had.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The certificates could not be made.
    #[error("could not make the API's certificates")]
    Pki(#[source] PkiError),
    /// The certificates could not be used.
    #[error("could not use the API's certificates")]
    Tls(#[source] TlsError),
    /// The kubeconfig could not be written.
    #[error("could not write {path}")]
    Kubeconfig {
        /// Path of the kubeconfig.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A listening API whose kubeconfig is written; it answers once `run` is polled.
#[derive(Debug)]
pub struct Serving {
    listener: TcpListener,
    tls: std::sync::Arc<rustls::ServerConfig>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Serving {
    /// Takes a port, makes fresh certificates, and tells clients by the home's kubeconfig (0600).
    ///
    /// # Errors
    /// [`ServingError`].
    pub async fn open(home: &Home, world: &World) -> Result<Self, ServingError> {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listen = |source| ServingError::Listen { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let user = User { name: users::ADMIN.to_owned(), groups: vec!["system:masters".to_owned()] };
        let credentials = serve::credentials(&user, world.clock.now(), CERTIFICATE_LIFE).map_err(ServingError::Pki)?;
        let authority = &credentials.authority.pair.certificate;
        let server = &credentials.server;
        let tls = serve::server_config(authority, &server.certificate, &server.key).map_err(ServingError::Tls)?;
        let text = serve::kubeconfig(CONTEXT, &format!("https://{address}"), authority, &credentials.client);
        let path = home.kubeconfig();
        world.files.write(&path, text.as_bytes(), 0o600).map_err(|source| ServingError::Kubeconfig { path, source })?;
        Ok(Self { listener, tls, address })
    }

    /// Answers for a tenant until `shutdown`; streams are ended by the server's own shutdown.
    pub async fn run(self, objects: Objects, inside: Inside, shutdown: CancellationToken) {
        let answer = move |user: User, request: http::Request<RequestBody>| {
            let (objects, inside) = (objects.clone(), inside.clone());
            async move {
                if let Some(asked) = Asked::of(request.uri().path()) {
                    return Ok(inside.answer(asked, &user, request).await);
                }
                if request.uri().path() == STORE_PATH {
                    return Ok(store(objects, &user, request.method()).await);
                }
                tower::Service::call(&mut objects.tenant.service(user), request).await
            }
        };
        serve::serve(self.listener, self.tls, answer, Limits::default(), shutdown.cancelled_owned()).await;
    }
}

/// The contents of the store for `kina store backup`, as of one commit: for administrators, past the kinds.
async fn store(objects: Objects, user: &User, method: &Method) -> Response<Body> {
    let is_administrator = user.groups.iter().any(|group| group == "system:masters");
    let result = match (method, is_administrator) {
        (&Method::GET, true) => contents(objects).await,
        (&Method::GET, false) => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            format!("user \"{}\" may not read the store", user.name),
        )),
        _ => Err(ApiError::method_not_allowed()),
    };
    let (code, media_type, body) = match result {
        Ok(lines) => (StatusCode::OK, "application/jsonl", lines.into_bytes()),
        Err(error) => (error.status_code(), "application/json", error.to_body().into_bytes()),
    };
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

async fn contents(objects: Objects) -> Result<String, ApiError> {
    // Reading all of it takes a while: not on a thread that answers others.
    let lines = tokio::task::spawn_blocking(move || {
        let contents = objects.server.contents()?;
        contents.to_lines().map_err(ApiError::internal)
    });
    lines.await.map_err(ApiError::internal)?
}
