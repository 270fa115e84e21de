//! Which certificate is shown: by name, by kind of key, by address; and to whom none is.

use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;

use super::Edge;
use crate::support::tls::{Authority, Client, VERSIONS, Wanted};
use crate::support::until;

/// The names of the certificate that a client for `name` gets.
async fn shown(edge: &Edge, client: &Client, name: &str) -> String {
    let mut client = client.clone();
    // Whatever is shown is looked at.
    client.config.dangerous().set_certificate_verifier(Arc::new(Anyone));
    let stream = client.connect(edge.address, name).await;
    let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
    let names = weir::wire::Certificate::parse(shown).unwrap().names;
    names.iter().map(weir::wire::SubjectName::text).collect::<Vec<_>>().join("+")
}

/// Believes every certificate.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

async fn open(tls: &str) -> Edge {
    Edge::with(tls, "", |authority, folder| {
        [
            ("shop", &["shop.test", "www.shop.test"][..]),
            ("wild", &["*.shop.test"]),
            ("upper", &["UPPER.test"]),
            ("address", &["127.0.0.1"]),
        ]
        .map(|(file, names)| authority.issue(&Wanted::of(names)).write(folder, file))
        .to_vec()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_has_the_name_that_is_asked_for_else_it_is_the_first() {
    let edge = open("").await;
    let client = Client::new(&edge.authority, &VERSIONS);
    for (name, expected) in [
        ("shop.test", "shop.test+www.shop.test"),
        ("SHOP.test", "shop.test+www.shop.test"),
        ("www.shop.test", "shop.test+www.shop.test"),
        ("a.shop.test", "*.shop.test"),
        ("a.b.shop.test", "shop.test+www.shop.test"),
        ("upper.test", "UPPER.test"),
        ("else.test", "shop.test+www.shop.test"),
        // No name is sent for an address.
        ("127.0.0.1", "127.0.0.1"),
    ] {
        assert_eq!(shown(&edge, &client, name).await, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_name_or_none_is_refused_where_that_is_wanted() {
    let edge = Edge::with("      unknown_name: refuse\n", "", |authority, folder| {
        vec![authority.issue(&Wanted::of(&["shop.test"])).write(folder, "shop")]
    })
    .await;
    for (number, version) in (1..).zip(VERSIONS) {
        let client = Client::new(&edge.authority, &[version]);
        for name in ["else.test", "127.0.0.1"] {
            let error = client.try_connect(edge.address, name).await.unwrap_err();
            assert!(error.to_string().contains("UnrecognisedName"), "{name}: {error}");
        }
        let refused = || async { (edge.refused("server_name").await == f64::from(2 * number)).then_some(()) };
        until("both are counted", refused).await;
        assert!(client.get(edge.address, "shop.test", "/").await.ends_with("one"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_with_one_name_the_client_gets_the_one_that_it_can_verify() {
    let edge = Edge::with("", "", |authority: &Authority, folder| {
        let rsa = Wanted { key: &rcgen::PKCS_RSA_SHA256, ..Wanted::of(&["shop.test"]) };
        let ecdsa = Wanted::of(&["shop.test"]);
        vec![authority.issue(&rsa).write(folder, "rsa"), authority.issue(&ecdsa).write(folder, "ecdsa")]
    })
    .await;
    let of = |wanted: SignatureAlgorithm| {
        let mut provider = provider();
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() || suite.usable_for_signature_algorithm(wanted));
        provider
    };
    for (wanted, versions) in [
        (SignatureAlgorithm::RSA, &VERSIONS[..1]),
        (SignatureAlgorithm::ECDSA, &VERSIONS[..1]),
        (SignatureAlgorithm::ECDSA, &VERSIONS[..]),
    ] {
        let mut client = Client::new(&edge.authority, versions);
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(of(wanted)));
        let builder = builder.with_protocol_versions(versions).unwrap();
        client.config = builder.with_root_certificates(edge.authority.roots()).with_no_client_auth();
        let stream = client.connect(edge.address, "shop.test").await;
        let der = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let is_rsa = std::fs::read_to_string(edge.folder.path().join("rsa.pem")).unwrap()
            == crate::support::tls::pem("CERTIFICATE", &der);
        assert_eq!(is_rsa, wanted == SignatureAlgorithm::RSA, "{wanted:?} {versions:?}");
    }
}
