//! What was issued or is kept, checked before anybody serves it.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::config::tls::{Credentials, Digest};
use crate::wire::{Certificate, SubjectName};

/// The key and the chain in `pem`; whether they fit together is not looked at, for a proof has a critical
/// extension that only authorities know.
///
/// # Errors
/// What is wrong, in words; nothing of the text, which has a key.
pub(super) fn certified(pem: &[u8]) -> Result<CertifiedKey, &'static str> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or("there is no certificate in it")?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "there is no private key in it")?;
    let key = any_supported_type(&key).map_err(|_| "its key is of no kind that can be used")?;
    Ok(CertifiedKey::new(chain, key))
}

/// The certificate with its key in `pem`, if it has all of `domains`.
///
/// # Errors
/// What is wrong, in words; nothing of the text, which has a key.
pub(super) fn credentials(pem: &[u8], domains: &[String]) -> Result<Credentials, &'static str> {
    let certified = certified(pem)?;
    certified.keys_match().map_err(|_| "the key does not belong to the certificate")?;
    let leaf = certified.cert.first().ok_or("there is no certificate in it")?;
    let leaf = Certificate::parse(leaf).map_err(|_| "the certificate is not X.509")?;
    let has = |domain: &String| {
        let is_it =
            |name: &SubjectName| matches!(name, SubjectName::Dns(name) if name.eq_ignore_ascii_case(domain));
        leaf.names.iter().any(is_it)
    };
    if !domains.iter().all(has) {
        return Err("the certificate does not have all the names");
    }
    let valid = leaf.not_before..=leaf.not_after;
    Ok(Credentials::new(Arc::new(certified), leaf.names, valid, Digest::of(&[pem])))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pem(names: &[&str], key: &KeyPair) -> String {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateParams::new(names).unwrap().self_signed(key).unwrap().pem()
    }

    #[test]
    fn only_what_has_its_key_and_all_names_is_taken() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let both = pem(&["a.example", "B.example"], &key);
        let key_pem = key.serialize_pem();
        let wanted = ["a.example".to_owned(), "b.example".to_owned()];
        let rows = [
            (format!("{key_pem}{both}"), None),
            (format!("{both}{key_pem}"), None),
            (key_pem.clone(), Some("no certificate")),
            (both.clone(), Some("no private key")),
            (format!("{}{both}", other.serialize_pem()), Some("does not belong")),
            (format!("{key_pem}{}", pem(&["a.example"], &key)), Some("all the names")),
            (String::new(), Some("no certificate")),
            (format!("{key_pem}{}", &both[..both.len() / 2]), Some("no certificate")),
        ];
        for (text, wrong) in rows {
            let result = credentials(text.as_bytes(), &wanted);
            match wrong {
                None => assert_eq!(result.unwrap().names.len(), 2),
                Some(wrong) => assert!(result.as_ref().is_err_and(|said| said.contains(wrong)), "{result:?}"),
            }
        }
    }
}
