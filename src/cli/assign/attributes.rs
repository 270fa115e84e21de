//! What a line says of a request, for the rules of the split: a request that nobody sent.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, Method, header};
use ipnet::IpNet;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::logic::condition::certificate::Part;
use crate::logic::condition::{ClientCertificate, RequestView, Source};
use crate::proxy::authority::Authority;

/// `GET /` of nobody, until it is told otherwise.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    method: Method,
    authority: Option<Authority>,
    /// Empty is `/`.
    path: String,
    query: Option<String>,
    fields: Vec<(HeaderName, Vec<u8>)>,
    client_ip: Option<IpAddr>,
    certificate: Option<ClientCertificate>,
    /// Where [`Attributes::carry`] wrote: the index of a field.
    carried: Option<usize>,
}

/// A line of `--input json`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    unit: Option<String>,
    unit_base64: Option<String>,
    method: Option<String>,
    host: Option<String>,
    path: Option<String>,
    query: Map<String, Value>,
    headers: Map<String, Value>,
    cookies: Map<String, Value>,
    client_ip: Option<IpAddr>,
    tls: Option<RawTls>,
}

/// What the client's certificate says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    #[serde(default)]
    san: Value,
    cn: Option<String>,
    #[serde(default)]
    fingerprint: String,
}

/// The attributes in a line of `--input json`, and the unit when it is given.
///
/// # Errors
/// A sentence that says what is wrong with the line.
pub(super) fn read(line: &[u8]) -> Result<(Attributes, Option<Vec<u8>>), String> {
    let raw: Raw = serde_json::from_slice(line).map_err(|error| unreadable(&error))?;
    let unit = match (raw.unit, raw.unit_base64) {
        (Some(_), Some(_)) => return Err("`unit` and `unit_base64` say the same thing, give one".to_owned()),
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(text)) => {
            Some(STANDARD.decode(text).map_err(|error| format!("`unit_base64` cannot be read: {error}"))?)
        }
        (None, None) => None,
    };
    let mut attributes = Attributes { client_ip: raw.client_ip, ..Attributes::default() };
    if let Some(method) = raw.method {
        attributes.method = method.parse().map_err(|_| format!("`method`: {method:?} is not a method"))?;
    }
    if let Some(host) = raw.host {
        let authority = Authority::parse(&host).map_err(|_| format!("`host`: {host:?} is not a host"))?;
        attributes.authority = Some(authority);
    }
    if let Some(path) = raw.path {
        if !path.starts_with('/') {
            return Err(format!("`path`: {path:?} does not begin with `/`"));
        }
        let (path, query) = path.split_once('?').map_or((&*path, None), |(path, query)| (path, Some(query)));
        path.clone_into(&mut attributes.path);
        attributes.query = query.map(str::to_owned);
    }
    for (name, values) in &raw.query {
        for value in texts("query", name, values)? {
            attributes.add_parameter(name, value.as_bytes());
        }
    }
    for (name, values) in &raw.headers {
        let field: HeaderName =
            name.parse().map_err(|_| format!("`headers`: {name:?} is not a header name"))?;
        for value in texts("headers", name, values)? {
            attributes.fields.push((field.clone(), value.as_bytes().to_owned()));
        }
    }
    for (name, values) in &raw.cookies {
        for value in texts("cookies", name, values)? {
            if name.contains(['=', ';']) || value.contains(';') {
                return Err(format!("`cookies`: no request can carry {name:?} with the value {value:?}"));
            }
            attributes.fields.push((header::COOKIE, cookie(name, value.as_bytes())));
        }
    }
    if let Some(RawTls { san, cn, fingerprint }) = raw.tls {
        let names = if san.is_null() { Vec::new() } else { texts("tls", "san", &san)? };
        let names = names.into_iter().map(str::to_owned).collect();
        attributes.certificate = Some(ClientCertificate { names, common_name: cn, fingerprint });
    }
    Ok((attributes, unit))
}

/// What is wrong with the JSON of a line, and where; that it is the first line of its own text is no help.
fn unreadable(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    format!("it cannot be read: {what} at column {}", error.column())
}

/// The texts of an attribute: one, or a list of those that come one behind the other.
fn texts<'a>(member: &str, name: &str, values: &'a Value) -> Result<Vec<&'a str>, String> {
    let text = |value: &'a Value| {
        value
            .as_str()
            .ok_or_else(|| format!("`{member}`: {name:?} is {value}, write a text such as \"{value}\""))
    };
    match values {
        Value::Array(values) => values.iter().map(text).collect(),
        value => Ok(vec![text(value)?]),
    }
}

fn cookie(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b"=", value].concat()
}

impl Attributes {
    /// Puts `unit` where `source` reads it, unless something stands there: the request is then one that this unit would
    /// send, so that rules on the source of the key see it. What an earlier call put there is replaced.
    pub(super) fn carry(&mut self, source: &Source, unit: &[u8]) {
        if let Some((_, value)) = self.carried.and_then(|index| self.fields.get_mut(index)) {
            // A header, or a cookie behind its name.
            value.truncate(if let Source::Cookie(name) = source { name.len() + 1 } else { 0 });
            value.extend_from_slice(unit);
            return;
        }
        let encoded = || percent_encode(unit, NON_ALPHANUMERIC);
        match source {
            _ if self.has(source) => {}
            Source::Header(name) => {
                self.carried = Some(self.fields.len());
                self.fields.push((name.clone(), unit.to_owned()));
            }
            Source::Cookie(name) => {
                self.carried = Some(self.fields.len());
                self.fields.push((header::COOKIE, cookie(name, unit)));
            }
            Source::Query(name) => self.add_parameter(name, unit),
            Source::Path(number) if self.path.is_empty() => {
                self.path = "/".repeat(number.get());
                self.path.extend(encoded());
            }
            Source::Path(_) => {}
            Source::Host => {
                let text = std::str::from_utf8(unit).ok();
                self.authority = text.and_then(|text| Authority::parse(text).ok());
            }
            Source::Tls(part) => {
                let text = String::from_utf8_lossy(unit).into_owned();
                let certificate = self.certificate.get_or_insert_default();
                match part {
                    Part::San => certificate.names.push(text),
                    Part::CommonName => certificate.common_name = Some(text),
                    Part::Fingerprint => certificate.fingerprint = text,
                }
            }
            Source::ClientIp { .. } => {
                let text = std::str::from_utf8(unit).ok();
                let network = text.and_then(|text| text.parse::<IpNet>().ok()).map(|network| network.addr());
                self.client_ip = text.and_then(|text| text.parse().ok()).or(network);
            }
        }
    }

    /// Whether [`Attributes::carry`] can be called again for the next unit.
    pub(super) fn carries_again(&self) -> bool {
        self.carried.is_some()
    }

    /// Whether the line says who the client is, so that `client_ip` means something.
    pub(super) fn has_client_ip(&self) -> bool {
        self.client_ip.is_some()
    }

    fn has(&self, source: &Source) -> bool {
        match source {
            Source::ClientIp { .. } => self.has_client_ip(),
            source => source.value(self).is_some_and(|value| !value.is_empty()),
        }
    }

    fn add_parameter(&mut self, name: &str, value: &[u8]) {
        let query = self.query.get_or_insert_default();
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(percent_encode(name.as_bytes(), NON_ALPHANUMERIC));
        query.push('=');
        query.extend(percent_encode(value, NON_ALPHANUMERIC));
    }
}

impl RequestView for Attributes {
    fn method(&self) -> &Method {
        &self.method
    }

    fn host(&self) -> &str {
        self.authority.as_ref().map_or("", Authority::host)
    }

    fn port(&self) -> Option<u16> {
        self.authority.as_ref().and_then(Authority::port)
    }

    fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn header<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_slice())
    }

    fn client_ip(&self) -> IpAddr {
        self.client_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
    }
}
