//! What TLS to the endpoints of an upstream is made with: whom we trust, who we are, which protocols are offered. Made
//! once for an upstream, before it serves; see [`super::handshake`] for its use.

use std::sync::{Arc, LazyLock, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{
    ALL_VERSIONS, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::config::model::{Protocol, UpstreamTls};
use crate::config::tls::TlsVersion;
use crate::wire::Certificate;

/// The protocols' names in ALPN.
pub(super) const HTTP1: &[u8] = b"http/1.1";
pub(super) const HTTP2: &[u8] = b"h2";

/// How many sessions of an upstream may wait to be resumed.
const SESSIONS: usize = 256;

/// Why TLS to an upstream cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The system names nobody whom we could trust.
    #[error(
        "the system has no certificates of authorities{0}: install them (the package is often called \
         `ca-certificates`), name them in SSL_CERT_FILE, or set `tls.ca`"
    )]
    NoSystemRoots(String),
    /// The authorities cannot be used.
    #[error("the authorities in `tls.ca` cannot be used")]
    Authorities(#[from] VerifierBuilderError),
    /// The versions cannot be had.
    #[error("these versions of TLS cannot be spoken")]
    Versions(#[source] rustls::Error),
}

/// What TLS is spoken with to the endpoints of an upstream with these settings.
///
/// # Errors
/// [`TlsSetupError`]; the system's authorities are read here, once for the process, where they are needed.
pub fn client(settings: &UpstreamTls, protocol: Protocol) -> Result<Arc<ClientConfig>, TlsSetupError> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    let versions = match settings.min_version {
        TlsVersion::Tls12 => ALL_VERSIONS,
        TlsVersion::Tls13 => &[&TLS13],
    };
    let verifier: Arc<dyn ServerCertVerifier> = if settings.verify {
        let roots = match &settings.authorities {
            Some(authorities) => Arc::clone(&authorities.roots),
            None => system_roots()?,
        };
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&PROVIDER));
        Arc::new(Verified { chain: builder.build()?, roots })
    } else {
        Arc::new(Unverified(Arc::clone(&PROVIDER)))
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)
        .map_err(TlsSetupError::Versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &settings.credentials {
        Some(credentials) => {
            let own = SingleCertAndKey::from(Arc::clone(&credentials.certified));
            builder.with_client_cert_resolver(Arc::new(own))
        }
        None => builder.with_no_client_auth(),
    };
    let offered: &[&[u8]] = match protocol {
        Protocol::Http1 => &[HTTP1],
        Protocol::Http2 => &[HTTP2],
        Protocol::Auto => &[HTTP2, HTTP1],
    };
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(config))
}

/// Whom the system trusts: read at the first need, and kept.
///
/// # Errors
/// [`TlsSetupError::NoSystemRoots`].
pub fn system_roots() -> Result<Arc<RootCertStore>, TlsSetupError> {
    static FOUND: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(Arc::clone(found));
    }
    let read = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(read.certs);
    if added == 0 {
        let errors: Vec<_> = read.errors.iter().map(|error| format!(" ({error})")).collect();
        return Err(TlsSetupError::NoSystemRoots(errors.concat()));
    }
    tracing::info!(authorities = added, ignored, "the system's authorities are trusted");
    Ok(Arc::clone(FOUND.get_or_init(|| Arc::new(roots))))
}

/// Believes certificates that the authorities have issued, and an authority's own.
///
/// A certificate that somebody has signed for himself is an authority's as most tools make it, and is named in `tls.ca`
/// to say that it is trusted: who has its key could issue any other. Its name and its time are looked at as of all.
#[derive(Debug)]
struct Verified {
    chain: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
}

impl Verified {
    /// Whether this is an authority's own certificate.
    fn is_root(&self, certificate: &CertificateDer<'_>) -> bool {
        let mut own = RootCertStore::empty();
        own.add(certificate.clone().into_owned()).is_ok()
            && own.roots.iter().all(|own| self.roots.roots.contains(own))
    }
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let is_of_authority = |error: &rustls::Error| {
            matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                && self.is_root(end_entity)
        };
        match verified {
            Err(error) if is_of_authority(&error) => {
                in_time(end_entity, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let read = Certificate::parse(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < read.not_before {
        return Err(CertificateError::NotValidYet);
    }
    if seconds > read.not_after {
        return Err(CertificateError::Expired);
    }
    Ok(())
}

/// Believes every certificate, as `insecure_skip_verify` says. That the endpoint has the certificate's key is still
/// looked at; that it is the right endpoint is not.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
