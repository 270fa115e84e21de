//! TLS to one endpoint: the handshake, and what its failures mean for a person. What it is made with is an upstream's,
//! see [`super::tls`].

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Connection};
use tokio_rustls::TlsConnector;

use super::connect::Spoken;
use super::tls::{HTTP1, HTTP2};
use crate::net::{Io, Socket, Tls};

/// Why TLS was not made with an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of both refused: the endpoint's certificate, our own, the versions.
    #[error("{0}{remedy}", remedy = remedy(.0))]
    Refused(rustls::Error),
    /// The connection broke in the handshake.
    #[error("the connection broke in the handshake")]
    Broke(#[source] io::Error),
    /// HTTP/2 was asked for, and the endpoint did not choose it.
    #[error("the endpoint did not choose HTTP/2 by ALPN: write `protocol: http1` or `protocol: auto`")]
    NotHttp2,
}

/// What is needed to speak TLS to an endpoint.
#[derive(Debug)]
pub struct Handshake {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl Handshake {
    /// The handshake with an endpoint that is to prove that it is `server_name`.
    pub fn new(config: Arc<ClientConfig>, server_name: ServerName<'static>) -> Self {
        Self { config, server_name }
    }

    /// The same, with which an endpoint chooses nothing but HTTP/1.1.
    pub(super) fn for_http1(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![HTTP1.to_vec()];
        Self { config: Arc::new(config), server_name: self.server_name.clone() }
    }

    /// The same for a check: nothing is resumed, so that the endpoint shows its certificate each time; and where `only`
    /// one protocol will do, nothing else is offered.
    pub(super) fn for_check(&self, only: Option<Spoken>) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::disabled();
        if let Some(only) = only {
            let name = match only {
                Spoken::Http1 => HTTP1,
                Spoken::Http2 => HTTP2,
            };
            config.alpn_protocols = vec![name.to_vec()];
        }
        Self { config: Arc::new(config), server_name: self.server_name.clone() }
    }

    /// Makes it on `socket`; which protocol the endpoint has chosen.
    pub(super) async fn make(&self, socket: Socket) -> Result<(Io, Spoken), TlsError> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let made = connector.connect(self.server_name.clone(), socket).await;
        let (socket, session) = made.map_err(TlsError::from_io)?.into_inner();
        let spoken = match session.alpn_protocol() {
            Some(HTTP2) => Spoken::Http2,
            Some(HTTP1) => Spoken::Http1,
            // One that knows no ALPN is asked in HTTP/1.1 (RFC 9113 §3.2).
            _ if self.config.alpn_protocols.iter().any(|offered| offered == HTTP1) => Spoken::Http1,
            _ => return Err(TlsError::NotHttp2),
        };
        Ok((Io::Tls(Box::new(Tls::new(socket, Connection::Client(session)))), spoken))
    }
}

impl TlsError {
    fn from_io(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(error) => Self::Refused(error),
            Err(error) => Self::Broke(error),
        }
    }

    /// The failure that `error`, of a connection on which nothing was read yet, comes from: in TLS 1.3 an endpoint that
    /// does not take our certificate says so when the handshake is over for us, and before it has read any request.
    pub(super) fn of_late_alert(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        if let Some(error) = inner.downcast_ref::<rustls::Error>() {
            let is_late = |alert: &&AlertDescription| *error == rustls::Error::AlertReceived(**alert);
            return ABOUT_CLIENT.iter().find(is_late).map(|_| Self::Refused(error.clone()));
        }
        // The library of HTTP/2 keeps the words only.
        let words = inner.to_string();
        let mut alerts = ABOUT_CLIENT.iter().map(|alert| rustls::Error::AlertReceived(*alert));
        alerts.find(|error| error.to_string() == words).map(Self::Refused)
    }
}

/// What a peer says when it does not like our certificate, or that we have none.
const ABOUT_CLIENT: [AlertDescription; 9] = [
    AlertDescription::CertificateRequired,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::HandshakeFailure,
];

/// What is to be done about `error`, as the rest of a sentence.
fn remedy(error: &rustls::Error) -> &'static str {
    use AlertDescription as Alert;
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage, PeerIncompatible};
    match error {
        InvalidCertificate(CertificateError::UnknownIssuer) => {
            ": name in `tls.ca` the certificates of those who issued it"
        }
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ": write in `tls.server_name` a name that the certificate has",
        InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            ": the endpoint needs a new certificate"
        }
        InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            ": one of the clocks is wrong, or the certificate is for later"
        }
        InvalidCertificate(CertificateError::Other(_)) => {
            ": name in `tls.ca` this certificate itself, or give the endpoint one that is no authority's"
        }
        InvalidMessage(_) => ": perhaps it speaks no TLS, then write `http://`",
        AlertReceived(Alert::ProtocolVersion) | PeerIncompatible(_) => {
            ": the endpoint and `tls.min_version` have no version in common, or no cipher"
        }
        AlertReceived(Alert::NoApplicationProtocol) => {
            ": the endpoint does not speak the upstream's `protocol`"
        }
        AlertReceived(Alert::UnrecognisedName) => {
            ": write in `tls.server_name` a name that the endpoint knows"
        }
        AlertReceived(alert) if ABOUT_CLIENT.contains(alert) => {
            ": perhaps the endpoint asks for another client certificate, see `tls.certificate`"
        }
        _ => "",
    }
}
