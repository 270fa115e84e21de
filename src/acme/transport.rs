//! HTTP/1.1 over TLS to an authority: what ACME is spoken on. A connection carries one request: there are a dozen for
//! each order, and orders are rare. What an answer means is [`super::client`]'s.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HOST, HeaderMap, RETRY_AFTER};
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::tls::Authorities;
use crate::upstream::tls::system_roots;

/// How long an answer may take, from the connect on.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer.
const LARGEST: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    /// The authority names a place that is not reached by HTTPS.
    #[error("`{0}` is no URL that begins with `https://`")]
    NotHttps(Uri),
    /// It cannot be reached.
    #[error("{0} cannot be reached: {1}")]
    Connect(String, std::io::Error),
    /// It is not who it should be, or speaks no TLS.
    #[error("no TLS with {0}: {1}")]
    Tls(String, std::io::Error),
    /// It does not speak HTTP, or broke off.
    #[error("{0} gave no answer: {1}")]
    Http(String, hyper::Error),
    /// The answer broke off, or is too large.
    #[error("the answer of {0} cannot be read: {1}")]
    Body(String, Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("{0} has not answered within {1:?}")]
    Slow(String, Duration),
    /// Nobody is trusted.
    #[error(
        "the system has no certificates of authorities: install them (the package is often called `ca-certificates`), or \
         name them in `directory_ca`"
    )]
    NoRoots,
    /// TLS is not to be had.
    #[error("{0}")]
    Setup(#[from] rustls::Error),
}

/// Sends requests to an authority, and remembers what its last refusal said beside ACME.
#[derive(Clone)]
pub(super) struct Transport {
    connector: TlsConnector,
    refusal: Arc<Mutex<Option<Refusal>>>,
}

/// What a refusal said beside ACME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What was asked for.
    pub(super) url: Uri,
    /// Its status.
    pub(super) status: StatusCode,
    /// How long the authority wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl Transport {
    /// One that believes `authorities`; those of the system without.
    pub(super) fn new(authorities: Option<&Authorities>) -> Result<Self, TransportError> {
        let roots = match authorities {
            Some(authorities) => Arc::clone(&authorities.roots),
            None => system_roots().map_err(|_| TransportError::NoRoots)?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), refusal: Arc::default() })
    }

    /// What the last refusal said, and was not asked for before.
    pub(super) fn take_refusal(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send(
        self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, TransportError> {
        let url = request.uri().clone();
        let place = url.authority().map_or_else(String::new, ToString::to_string);
        let response = match timeout(PATIENCE, self.exchange(request)).await {
            Ok(response) => response?,
            Err(_) => return Err(TransportError::Slow(place, PATIENCE)),
        };
        if !response.status().is_success() {
            let retry_after = retry_after(response.headers());
            let refusal = Refusal { url, status: response.status(), retry_after };
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        }
        Ok(response.map(Full::new))
    }

    async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>, TransportError> {
        let (mut parts, body) = request.into_parts();
        let not_https = || TransportError::NotHttps(parts.uri.clone());
        let authority = parts.uri.authority().ok_or_else(not_https)?.clone();
        if parts.uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(not_https());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| not_https())?;
        parts.headers.insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(|_| not_https())?);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse().map_err(|_| not_https())?;
        let place = authority.to_string();

        let connecting = TcpStream::connect((host, authority.port_u16().unwrap_or(443)));
        let stream = connecting.await.map_err(|error| TransportError::Connect(place.clone(), error))?;
        let stream = self.connector.connect(name, stream).await;
        let stream = stream.map_err(|error| TransportError::Tls(place.clone(), error))?;
        let broken = |error| TransportError::Http(place.clone(), error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let asking = async {
            let response = sender.send_request(Request::from_parts(parts, body)).await.map_err(broken)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST).collect().await;
            let body = body.map_err(|error| TransportError::Body(place.clone(), error))?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        let driving = async {
            // How it ended is told to whoever asks.
            let _ = connection.await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            answer = asking => answer,
            never = driving => match never {},
        }
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let sending = self.clone().send(request);
        Box::pin(async move {
            let response = sending.await.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(response))
        })
    }
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    SystemTime::from(at).duration_since(now()).ok()
}

#[expect(clippy::disallowed_methods, reason = "an authority's date is of the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_that_is_asked_for_is_read_in_both_ways() {
        let near = |wait: Option<Duration>, expected: u64| {
            wait.is_some_and(|wait| wait.as_secs().abs_diff(expected) <= 5)
        };
        let date = jiff::Timestamp::try_from(now() + Duration::from_hours(1)).unwrap();
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let rows =
            [("120", Some(120)), (" 0 ", Some(0)), (date.as_str(), Some(3600)), ("soon", None), ("-1", None)];
        for (value, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            let found = retry_after(&headers);
            let is_right = match expected {
                None => found.is_none(),
                Some(expected) => near(found, expected),
            };
            assert!(is_right, "{value}: {found:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
