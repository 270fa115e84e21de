//! What shows an authority that a name is ours: made here, put on the shelf, and shown to the processes that share the
//! folder.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use super::credentials::certified;
use super::keep::Keep;
use super::shelf::{Proof, Proving, Shelf};

/// How the files of proofs are called that are pages, and that are certificates.
const PAGE: &str = "page=";
const CERTIFICATE: &str = "certificate=";

/// The proofs of one order; they are taken away when this is dropped.
#[derive(Debug)]
pub(super) struct Exhibit {
    proving: Proving,
    keep: Keep,
}

impl Exhibit {
    /// No proof yet.
    pub(super) fn new(shelf: &Arc<Shelf>, keep: &Keep) -> Self {
        // What a process left that ended in between.
        keep.clear_proofs();
        Self { proving: shelf.proving(), keep: keep.clone() }
    }

    /// Shows a page (RFC 8555 §8.3).
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn page(&self, token: &str, text: &str) -> Result<(), String> {
        if !is_token(token) {
            return Err("the authority's token is none (RFC 8555 §8.3)".to_owned());
        }
        let shown = self.keep.store_proof(&format!("{PAGE}{token}"), text.as_bytes());
        shown.map_err(|error| format!("the proof cannot be written: {error}"))?;
        self.proving.add(Proof::Page { token: token.into(), text: text.into() });
        Ok(())
    }

    /// Shows a certificate for `name` with the SHA-256 `digest` of what is to be shown (RFC 8737 §3).
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn certificate(&self, name: &str, digest: &[u8]) -> Result<(), String> {
        if digest.len() != 32 {
            return Err("what is to be shown is no SHA-256".to_owned());
        }
        let pem = make(name, digest).map_err(|error| format!("the proof cannot be made: {error}"))?;
        let certified =
            certified(pem.as_bytes()).map_err(|error| format!("the proof cannot be made: {error}"))?;
        let shown = self.keep.store_proof(&format!("{CERTIFICATE}{name}"), pem.as_bytes());
        shown.map_err(|error| format!("the proof cannot be written: {error}"))?;
        self.proving.add(Proof::Certificate { name: name.into(), certified: Arc::new(certified) });
        Ok(())
    }
}

impl Drop for Exhibit {
    fn drop(&mut self) {
        self.keep.clear_proofs();
    }
}

/// The proofs that another process shows.
///
/// # Errors
/// Where they cannot be read.
pub(super) fn of_others(keep: &Keep) -> std::io::Result<Vec<Proof>> {
    let proofs = keep.proofs()?.into_iter().filter_map(|(file, content)| {
        if let Some(token) = file.strip_prefix(PAGE).filter(|token| is_token(token)) {
            return Some(Proof::Page { token: token.into(), text: String::from_utf8(content).ok()?.into() });
        }
        let name = file.strip_prefix(CERTIFICATE)?;
        Some(Proof::Certificate { name: name.into(), certified: Arc::new(certified(&content).ok()?) })
    });
    Ok(proofs.collect())
}

/// Whether it is what a token is: base64url (RFC 8555 §8.3), and so a file's name too.
fn is_token(token: &str) -> bool {
    (1..=128).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A certificate for `name`, and nothing else, that has `digest`, which is of 32 bytes; with its key, in PEM.
fn make(name: &str, digest: &[u8]) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::*;

    #[test]
    fn proof_stands_on_the_shelf_and_is_seen_by_others_until_the_order_is_over() {
        let state = tempfile::tempdir().unwrap();
        let (keep, shelf) = (Keep::open(state.path()).unwrap(), Arc::new(Shelf::default()));
        let exhibit = Exhibit::new(&shelf, &keep);
        exhibit.page("a-token_1", "a-token_1.thumb").unwrap();
        exhibit.certificate("shop.example.com", &[7; 32]).unwrap();
        for wrong in ["", "../x", "a/b", "a.b", "a b"] {
            assert!(exhibit.page(wrong, "x").is_err(), "{wrong:?}");
        }
        assert!(exhibit.certificate("shop.example.com", &[7; 31]).is_err());

        let others = Arc::new(Shelf::default());
        let following = others.proving();
        following.replace(of_others(&keep).unwrap());
        for shelf in [&shelf, &others] {
            assert_eq!(shelf.page("a-token_1").as_deref(), Some("a-token_1.thumb"));
            assert!(shelf.proof("SHOP.example.com").is_some() && shelf.proof("www.example.com").is_none());
        }
        drop(exhibit);
        assert!(shelf.page("a-token_1").is_none() && shelf.proof("shop.example.com").is_none());
        assert_eq!(of_others(&keep).unwrap().len(), 0);
    }

    #[test]
    fn certificate_that_is_a_proof_is_as_the_standard_says() {
        let pem = make("shop.example.com", &[7; 32]).unwrap();
        let certified = certified(pem.as_bytes()).unwrap();
        let (_, certificate) =
            x509_parser::certificate::X509Certificate::from_der(&certified.cert[0]).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(format!("{:?}", names.value.general_names), "[DNSName(\"shop.example.com\")]");
        let oid = x509_parser::der_parser::oid!(1.3.6.1.5.5.7.1.31);
        let identifier = certificate.get_extension_unique(&oid).unwrap().unwrap();
        // RFC 8737 §3: an octet string of 32 bytes, critical.
        assert!(identifier.critical);
        assert_eq!(identifier.value, [&[4, 32][..], &[7; 32][..]].concat());
    }
}
