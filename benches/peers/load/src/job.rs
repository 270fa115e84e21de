//! What a load is asked to do, as the command line tells it.

use std::net::SocketAddr;
use std::path::PathBuf;

/// How many users there are; requests go round them.
pub(crate) const USERS: usize = 10_000;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A load, from `name=value` arguments.
#[derive(Debug)]
pub(crate) struct Job {
    /// Where the proxy listens.
    pub(crate) target: SocketAddr,
    /// The `Host` of every request.
    pub(crate) host: String,
    /// The length of the body that is asked for, and that each response must have.
    pub(crate) bytes: usize,
    /// How many headers a request has, at least: `Host` and `x-user-id` are two of them.
    pub(crate) headers: usize,
    /// How many connections are held.
    pub(crate) connections: usize,
    /// How many requests are made.
    pub(crate) count: usize,
    /// Requests in a second, of an open loop.
    pub(crate) rate: u32,
    /// Whether users may change their upstream during the load: weights change then.
    pub(crate) moving: bool,
    /// The file with the certificate that the proxy must have; without one there is no TLS.
    pub(crate) tls: Option<PathBuf>,
    pub(crate) protocol: Protocol,
    /// Requests under way at once on a connection of HTTP/2.
    pub(crate) streams: usize,
    /// Whether each request has a connection of its own.
    pub(crate) close: bool,
    /// Whether a new connection goes on with the TLS session of an earlier one.
    pub(crate) resume: bool,
}

impl Job {
    /// The job that `settings` spell.
    ///
    /// # Errors
    /// A name that is not known, a value that is not of its kind, or no `target`.
    pub(crate) fn read(settings: &[String]) -> Result<Self, String> {
        let mut job = Self {
            target: SocketAddr::from(([127, 0, 0, 1], 0)),
            host: "shop.example".to_owned(),
            bytes: 128,
            headers: 2,
            connections: 32,
            count: 0,
            rate: 1000,
            moving: false,
            tls: None,
            protocol: Protocol::Http1,
            streams: 1,
            close: false,
            resume: false,
        };
        for setting in settings {
            let (name, value) =
                setting.split_once('=').ok_or_else(|| format!("{setting} is not name=value"))?;
            match name {
                "target" => job.target = parsed(name, value)?,
                "host" => value.clone_into(&mut job.host),
                "bytes" => job.bytes = parsed(name, value)?,
                "headers" => job.headers = parsed(name, value)?,
                "connections" => job.connections = parsed(name, value)?,
                "count" => job.count = parsed(name, value)?,
                "rate" => job.rate = parsed(name, value)?,
                "moving" => job.moving = parsed(name, value)?,
                "tls" => job.tls = Some(value.into()),
                "protocol" => {
                    job.protocol = match value {
                        "h1" => Protocol::Http1,
                        "h2" => Protocol::Http2,
                        _ => return Err(format!("protocol={value} is neither h1 nor h2")),
                    }
                }
                "streams" => job.streams = parsed(name, value)?,
                "close" => job.close = parsed(name, value)?,
                "resume" => job.resume = parsed(name, value)?,
                _ => return Err(format!("{name} is no setting of a load")),
            }
        }
        if job.target.port() == 0 || job.connections == 0 || job.rate == 0 || job.streams == 0 {
            return Err("target, and more than none for connections, streams and rate, are needed".to_owned());
        }
        if job.protocol == Protocol::Http1 && job.streams > 1 {
            return Err("streams are of protocol=h2".to_owned());
        }
        if job.protocol == Protocol::Http2 && job.close {
            return Err("close is of protocol=h1".to_owned());
        }
        Ok(job)
    }
}

fn parsed<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}={value} cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_what_is_wrong_is_named() {
        let read = |text: &str| {
            Job::read(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
                .map(|job| (job.target.port(), job.bytes, job.moving))
        };
        assert_eq!(read("target=127.0.0.1:80 bytes=5 moving=true"), Ok((80, 5, true)));
        for wrong in [
            "",
            "target=127.0.0.1:80 bytes=x",
            "target=127.0.0.1:80 size=1",
            "target",
            "target=a:1",
            "target=127.0.0.1:80 streams=8",
            "target=127.0.0.1:80 protocol=h3",
            "target=127.0.0.1:80 protocol=h2 close=true",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
