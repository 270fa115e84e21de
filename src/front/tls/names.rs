//! Which certificates have a name: exact names before wildcards, of one label each (RFC 6125 §6.4.3).

use std::collections::HashMap;
use std::net::IpAddr;

use rustls::SignatureAlgorithm;

use crate::config::tls::Credentials;
use crate::wire::SubjectName;

/// Certificates by name; they are told by their index.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Those of the exact name, then those of the wildcard that covers it.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what stands behind `*.`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
    addresses: HashMap<IpAddr, Vec<usize>>,
    nobody: Vec<usize>,
}

impl Names {
    /// The names in `certificates`, and in one more that is got by ACME and has the names `issued`, if there are any.
    pub(super) fn of(certificates: &[Credentials], issued: &[SubjectName]) -> Self {
        let mut names = Self::default();
        let in_file = certificates.iter().map(|one| (one.names.as_slice(), rank(one)));
        // What is got by ACME has an ECDSA key.
        let issued = Some((issued, 0)).filter(|(names, _)| !names.is_empty());
        let all: Vec<_> = in_file.chain(issued).collect();
        // What costs a client and us least comes first.
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by_key(|index| all.get(*index).map(|(_, rank)| *rank));
        for (index, (own, _)) in order.iter().filter_map(|index| Some((*index, all.get(*index)?))) {
            for name in *own {
                let known = match name {
                    SubjectName::Address(address) => names.addresses.entry(*address).or_default(),
                    SubjectName::Dns(name) => {
                        let name = normal(name);
                        match name.strip_prefix("*.") {
                            Some(parent) if !parent.contains('*') => {
                                names.wildcard.entry(parent.into()).or_default()
                            }
                            None if !name.contains('*') => names.exact.entry(name.into()).or_default(),
                            // No client takes it for anything.
                            _ => continue,
                        }
                    }
                    SubjectName::Uri(_) | SubjectName::Email(_) => continue,
                };
                if !known.contains(&index) {
                    known.push(index);
                }
            }
        }
        // A client that no certificate of the exact name suits may have one of the wildcard.
        for (name, known) in &mut names.exact {
            let wildcard = name.split_once('.').and_then(|(_, parent)| names.wildcard.get(parent));
            for index in wildcard.into_iter().flatten() {
                if !known.contains(index) {
                    known.push(*index);
                }
            }
        }
        // The first, and those that are the same for another kind of client.
        let first = all.first().map(|(names, _)| *names);
        names.nobody = order;
        names.nobody.retain(|index| all.get(*index).map(|(names, _)| *names) == first);
        names
    }

    /// Those for a client that asks for the host `name`; the best first.
    pub(super) fn of_host(&self, name: &str) -> &[usize] {
        let name = normal(name);
        let wildcard = || {
            let (label, parent) = name.split_once('.')?;
            self.wildcard.get(parent).filter(|_| !label.is_empty())
        };
        self.exact.get(name.as_str()).or_else(wildcard).map_or(&[], Vec::as_slice)
    }

    /// Those for a client that asks for no host and came to the address `local`; the best first.
    pub(super) fn of_address(&self, local: IpAddr) -> &[usize] {
        self.addresses.get(&local.to_canonical()).map_or(&[], Vec::as_slice)
    }

    /// Those for a client that asks for a name which none has.
    pub(super) fn of_nobody(&self) -> &[usize] {
        &self.nobody
    }
}

fn rank(credentials: &Credentials) -> u8 {
    match credentials.certified.key.algorithm() {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::RSA => 2,
        _ => 1,
    }
}

/// `name` in lower case, without a dot at its end.
fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
