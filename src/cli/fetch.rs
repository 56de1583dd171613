//! `-f https://…`: a manifest from a web server, with a bound on everything that it may take; and what is larger, piece by
//! piece.
//!
//! Plain `http` is read from this host alone, and no redirect leads to it: who sits in between could otherwise say what
//! runs here.

use std::fmt;
use std::io;
use std::time::Duration;

use futures::StreamExt;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, BodyStream, LengthLimitError, Limited};
use kube::client::Body;
use kube::{Client, Config};

use super::error::CliError;
use super::exit::Exit;
use crate::node_image::supply::Pieces;
use crate::sources::manifest::FILE_BYTES_MAX;

/// The longest that all of it may take, redirects and all: a manifest is some kilobytes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most redirects that are followed; web servers with a reason need one or two.
const REDIRECTS_MAX: usize = 5;

/// An address from which manifests may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    /// Whether a text is meant as an address of the web, and not as a path.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    }

    /// Reads one.
    ///
    /// # Errors
    /// A usage error where it is none, or one from which nothing may be read.
    pub fn parse(text: &str) -> Result<Self, CliError> {
        let refused = |message: &str| CliError::new(Exit::Usage, format!("cannot read `{text}`: {message}"));
        let uri: Uri = text.parse().map_err(|error| refused("it is not a URL").because(error))?;
        let url = Self(uri);
        if !matches!(url.0.scheme_str(), Some("http" | "https")) {
            return Err(refused("only `https` is read"));
        }
        if url.0.host().unwrap_or_default().is_empty() {
            return Err(refused("it names no host"));
        }
        if url.0.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            // It would end up in logs and in the history of the shell.
            return Err(refused("it carries a user's name or password")
                .hint("fetch it yourself: `curl -u USER URL` keeps those to itself"));
        }
        if url.is_encrypted() || url.is_of_this_host() {
            return Ok(url);
        }
        Err(refused("what comes over plain `http` may be anybody's")
            .hint("`https://`, or fetch it yourself and `-f FILE`"))
    }

    fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    fn is_of_this_host(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        is_loopback || host.eq_ignore_ascii_case("localhost")
    }

    /// Where a redirect leads.
    fn follow(&self, location: &str) -> Result<Self, CliError> {
        let scheme = self.0.scheme_str().unwrap_or("https");
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        let target = if location.contains("://") {
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{scheme}://{rest}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else {
            let directory = self.0.path().rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{scheme}://{authority}{directory}/{location}")
        };
        let next = Self::parse(&target)?;
        if self.is_encrypted() && !next.is_encrypted() {
            let message = format!("cannot read `{next}`: `{self}` redirects from `https` to plain `http`");
            return Err(CliError::new(Exit::Refused, message));
        }
        Ok(next)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Reads what is at an address.
///
/// # Errors
/// Where nothing is there, too much, or a web page; each names the address.
pub async fn fetch(url: &Url) -> Result<Vec<u8>, CliError> {
    let fetched = tokio::time::timeout(TIMEOUT, follow(url.clone())).await;
    fetched.unwrap_or_else(|_| {
        let message = format!("cannot read `{url}`: it took longer than {} s", TIMEOUT.as_secs());
        Err(CliError::new(Exit::Failure, message))
    })
}

/// Opens what is at an address and may be of any length, to be read piece by piece: the answer, and its length, where the
/// server tells it. Of the pieces each has to come in time.
///
/// # Errors
/// Where nothing is there; each names the address.
pub async fn open(url: &Url) -> Result<(Pieces, Option<u64>), CliError> {
    let opened = tokio::time::timeout(TIMEOUT, answer(url.clone())).await;
    let (url, response) = opened.unwrap_or_else(|_| {
        let message = format!("cannot read `{url}`: no answer within {} s", TIMEOUT.as_secs());
        Err(CliError::new(Exit::Failure, message))
    })?;
    refuse_failure(&url, response.status())?;
    let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let pieces = BodyStream::new(response.into_body()).filter_map(|frame| async move {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(io::Error::other(error))),
        }
    });
    Ok((pieces.boxed(), length))
}

async fn follow(url: Url) -> Result<Vec<u8>, CliError> {
    let (url, response) = answer(url).await?;
    body(&url, response).await
}

/// The answer at the end of all redirects, and where that is.
async fn answer(mut url: Url) -> Result<(Url, Response<Body>), CliError> {
    let first = url.clone();
    for _ in 0..=REDIRECTS_MAX {
        let response = get(&url).await?;
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        match location.filter(|_| response.status().is_redirection()) {
            Some(location) => url = url.follow(location)?,
            None => return Ok((url, response)),
        }
    }
    Err(CliError::new(Exit::Failure, format!("cannot read `{first}`: more than {REDIRECTS_MAX} redirects")))
}

async fn get(url: &Url) -> Result<Response<Body>, CliError> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        CliError::new(Exit::Failure, format!("cannot read `{url}`")).because_of(error)
    };
    let origin = Uri::builder()
        .scheme(url.0.scheme_str().unwrap_or("https"))
        .authority(url.0.authority().map_or("", |authority| authority.as_str()))
        .path_and_query("/")
        .build();
    // The client of the API is a client of the web as well: the same TLS, and the certificates that this host trusts.
    let client =
        Client::try_from(Config::new(origin.map_err(|error| failed(&error))?)).map_err(|error| failed(&error))?;
    let path = url.0.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(USER_AGENT, concat!("kina/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/yaml, application/json, text/plain;q=0.9, */*;q=0.8")
        .body(Body::empty())
        .map_err(|error| failed(&error))?;
    client.send(request).await.map_err(|error| failed(&error))
}

fn refuse_failure(url: &Url, status: StatusCode) -> Result<(), CliError> {
    if status.is_success() {
        return Ok(());
    }
    let exit = if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) { Exit::NotFound } else { Exit::Failure };
    Err(CliError::new(exit, format!("cannot read `{url}`: the server answered {status}")))
}

async fn body(url: &Url, response: Response<Body>) -> Result<Vec<u8>, CliError> {
    refuse_failure(url, response.status())?;
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("text/html") {
        let error = CliError::new(Exit::Invalid, format!("`{url}` is a web page, and no manifest"));
        return Err(error.hint("sites that show files have a link to the file itself, often called `Raw`"));
    }
    let bytes = usize::try_from(FILE_BYTES_MAX).unwrap_or(usize::MAX);
    match Limited::new(response.into_body(), bytes).collect().await {
        Ok(whole) => Ok(whole.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("`{url}` is larger than {} KiB, the most that Kina reads", FILE_BYTES_MAX >> 10);
            Err(CliError::new(Exit::Invalid, message))
        }
        Err(error) => Err(CliError::new(Exit::Failure, format!("cannot read `{url}` whole")).because_of(&*error)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers each path as it is told, and its address.
    async fn serving(answer: impl Fn(&str) -> String + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let answer = answer(head.split(' ').nth(1).unwrap());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}")
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    async fn fetched(address: &str) -> Result<Vec<u8>, String> {
        let told = |error: &CliError| error.lines().iter().map(crate::ui::Line::plain).collect::<Vec<_>>().join("\n");
        match Url::parse(address) {
            Ok(url) => fetch(&url).await.map_err(|error| told(&error)),
            Err(error) => Err(told(&error)),
        }
    }

    #[tokio::test]
    async fn redirects_are_followed_on_their_server_and_not_for_ever() {
        let address = serving(|path| match path {
            "/a/b?x=1" => {
                "HTTP/1.1 302 Found\r\nlocation: c\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
            }
            "/a/c" => "HTTP/1.1 307 Found\r\nlocation: /d\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
            "/d" => ok("kind: Cluster"),
            _ => "HTTP/1.1 302 Found\r\nlocation: /ring\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
        })
        .await;
        assert_eq!(fetched(&format!("{address}/a/b?x=1")).await.unwrap(), b"kind: Cluster");
        let ring = fetched(&format!("{address}/ring")).await.unwrap_err();
        assert!(ring.contains("/ring`: more than 5 redirects"), "{ring}");
    }

    #[tokio::test]
    async fn what_is_no_manifest_is_told_with_its_address() {
        let address = serving(|path| match path {
            "/page" => {
                "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 0\r\n\r\n".to_owned()
            }
            "/large" => ok(&"x".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1)),
            "/cut" => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nabc".to_owned(),
            _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        })
        .await;
        for (path, told) in [
            ("/none", "/none`: the server answered 404 Not Found"),
            ("/page", "is a web page, and no manifest"),
            ("/large", "is larger than 1024 KiB"),
            ("/cut", "/cut` whole"),
        ] {
            let error = fetched(&format!("{address}{path}")).await.unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let nobody = fetched("http://127.0.0.1:1/x").await.unwrap_err();
        assert!(nobody.contains("cannot read `http://127.0.0.1:1/x`") && nobody.contains("refused"), "{nobody}");
    }

    #[tokio::test]
    async fn what_is_large_comes_piece_by_piece_and_one_that_breaks_off_is_an_error() {
        use futures::TryStreamExt;
        let large = "x".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
        let address = serving(move |path| match path {
            "/large" => ok(&large),
            "/cut" => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nabc".to_owned(),
            _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        })
        .await;
        let url = |path: &str| Url::parse(&format!("{address}{path}")).unwrap();
        let (pieces, length) = open(&url("/large")).await.unwrap();
        let bytes: u64 = pieces.try_fold(0, |sum, piece| async move { Ok(sum + piece.len() as u64) }).await.unwrap();
        assert_eq!((length, bytes), (Some(FILE_BYTES_MAX + 1), FILE_BYTES_MAX + 1));
        let (pieces, _) = open(&url("/cut")).await.unwrap();
        assert!(pieces.try_collect::<Vec<_>>().await.is_err());
        let none = open(&url("/none")).await.err().unwrap();
        assert_eq!(none.exit(), Exit::NotFound);
    }

    #[test]
    fn plain_http_is_for_this_host_alone() {
        let refused = |text: &str| Url::parse(text).unwrap_err().exit() == Exit::Usage;
        assert!(refused("http://example.com/x") && refused("https://me:secret@example.com/x") && refused("https:///x"));
        let url = |text: &str| Url::parse(text).unwrap();
        for good in ["http://localhost:8/x", "http://127.0.0.2/x", "http://[::1]:9/x", "https://example.com/a/x"] {
            assert_eq!(url(good).to_string(), good);
        }
        let secure = url("https://example.com/a/x");
        assert_eq!(secure.follow("//other.org/y").unwrap(), url("https://other.org/y"));
        assert_eq!(secure.follow("y?z").unwrap(), url("https://example.com/a/y?z"));
        assert_eq!(secure.follow("http://127.0.0.1/y").unwrap_err().exit(), Exit::Refused);
        assert!(url("http://localhost/x").follow("http://example.com/y").is_err());
        assert!(Url::is_meant("HTTPS://x") && !Url::is_meant("./https:/x") && !Url::is_meant("C:/x"));
        assert!(Url::is_meant("ftp://x/y") && refused("ftp://x/y"));
    }
}
