//! A request for the tests of `logic`: built field by field, holding any bytes.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderName, Method};

use super::{ClientCertificate, RequestView};

/// `GET http://localhost/` from 127.0.0.1, until it is told otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    host: String,
    path: String,
    query: Option<String>,
    pub(crate) fields: Vec<(HeaderName, Vec<u8>)>,
    client_ip: IpAddr,
    certificate: Option<ClientCertificate>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            host: "localhost".to_owned(),
            path: "/".to_owned(),
            query: None,
            fields: Vec::new(),
            client_ip: Ipv4Addr::LOCALHOST.into(),
            certificate: None,
        }
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        self.header_bytes(name, value.as_bytes())
    }

    pub(crate) fn header_bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.fields.push((name.parse().unwrap(), value.to_owned()));
        self
    }

    pub(crate) fn host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    pub(crate) fn path(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    pub(crate) fn query(self, query: &str) -> Self {
        Self { query: Some(query.to_owned()), ..self }
    }

    pub(crate) fn certificate(self, names: &[&str], common_name: Option<&str>, fingerprint: &str) -> Self {
        let certificate = ClientCertificate {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            common_name: common_name.map(str::to_owned),
            fingerprint: fingerprint.to_owned(),
        };
        Self { certificate: Some(certificate), ..self }
    }

    pub(crate) fn client_ip(self, ip: &str) -> Self {
        Self { client_ip: ip.parse().unwrap(), ..self }
    }
}

impl RequestView for Fake {
    fn method(&self) -> &Method {
        &Method::GET
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn port(&self) -> Option<u16> {
        None
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn header<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    fn client_ip(&self) -> IpAddr {
        self.client_ip
    }

    fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
    }
}
