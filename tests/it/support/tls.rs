//! Certificates of a test's own authority, and clients that speak TLS exactly as a test wants it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::PATIENCE;

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Leaf {
    /// The certificate.
    pub cert: CertificateDer<'static>,
    key: Vec<u8>,
}

/// What stands in a certificate.
#[derive(Clone)]
pub struct Wanted<'a> {
    /// DNS names and addresses.
    pub names: &'a [&'a str],
    /// Other names.
    pub uris: &'a [&'a str],
    /// The common name.
    pub common_name: Option<&'a str>,
    /// The kind of key.
    pub key: &'static SignatureAlgorithm,
    /// From which day to which day it holds, counted from now.
    pub days: (i64, i64),
}

impl<'a> Wanted<'a> {
    /// A certificate with an ECDSA key for `names`.
    pub fn of(names: &'a [&'a str]) -> Self {
        Self { names, uris: &[], common_name: None, key: &rcgen::PKCS_ECDSA_P256_SHA256, days: (-1, 30) }
    }
}

/// `der` in PEM.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// A certificate.
    pub fn issue(&self, wanted: &Wanted<'_>) -> Leaf {
        let key = KeyPair::generate_for(wanted.key).unwrap();
        let names: Vec<_> = wanted.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let uris = wanted.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = wanted.common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let now = std::time::SystemTime::now();
        let day = |days: i64| {
            let second = 86_400 * days.unsigned_abs();
            let off = std::time::Duration::from_secs(second);
            if days < 0 { now - off } else { now + off }
        };
        params.not_before = day(wanted.days.0).into();
        params.not_after = day(wanted.days.1).into();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Leaf { cert: cert.der().clone(), key: key.serialize_der() }
    }

    /// A store that believes it alone.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

impl Leaf {
    /// The certificate in PEM.
    pub fn cert_pem(&self) -> String {
        pem("CERTIFICATE", &self.cert)
    }

    /// The key in PEM.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// Writes `NAME.pem` and `NAME.key` into `folder`; gives the item of `certificates` that names them.
    pub fn write(&self, folder: &Path, name: &str) -> String {
        std::fs::write(folder.join(format!("{name}.pem")), self.cert_pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), self.key_pem()).unwrap();
        let path = |end| PathBuf::from(folder).join(format!("{name}.{end}"));
        format!("{{ cert: '{}', key: '{}' }}", path("pem").display(), path("key").display())
    }

    /// SHA-256 of the certificate in lower-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        use sha2::Digest;
        let digest = u128_pair(&sha2::Sha256::digest(&self.cert));
        format!("{:032x}{:032x}", digest.0, digest.1)
    }
}

fn u128_pair(digest: &[u8]) -> (u128, u128) {
    let half = |at: usize| u128::from_be_bytes(digest[at..at + 16].try_into().unwrap());
    (half(0), half(16))
}

/// How a client speaks TLS.
#[derive(Clone)]
pub struct Client {
    /// rustls' settings, to be changed as a test wants.
    pub config: ClientConfig,
}

/// Both versions of TLS.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

impl Client {
    /// One that believes `authority` and speaks `versions`, without a certificate.
    pub fn new(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> Self {
        Self::with(authority, versions, None)
    }

    /// One that shows `leaf`, where there is one.
    pub fn with(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        leaf: Option<&Leaf>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(authority.roots());
        let config = match leaf {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let key = PrivateKeyDer::try_from(leaf.key.clone()).unwrap();
                builder.with_client_auth_cert(vec![leaf.cert.clone()], key).unwrap()
            }
        };
        Self { config }
    }

    /// The same with these protocols in ALPN.
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Connects to `address` for `name`, or says why not.
    pub async fn try_connect(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        timeout(PATIENCE, connector.connect(name, stream)).await.expect("a handshake ends")
    }

    /// Connects to `address` for `name`.
    pub async fn connect(&self, address: SocketAddr, name: &str) -> TlsStream<TcpStream> {
        self.try_connect(address, name).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Sends `request` on a new connection and reads until the end, which must be an orderly one.
    pub async fn try_exchange(
        &self,
        address: SocketAddr,
        name: &str,
        request: &str,
    ) -> std::io::Result<String> {
        let mut stream = self.try_connect(address, name).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut read = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("an answer ends")?;
        Ok(String::from_utf8_lossy(&read).into_owned())
    }

    /// GET of `path` for `name` on a new connection: the whole answer.
    pub async fn get(&self, address: SocketAddr, name: &str, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
        let answer = self.try_exchange(address, name, &request).await;
        answer.unwrap_or_else(|error| panic!("{name}{path}: {error}"))
    }
}
