//! One finished request as one line of JSON. The fields, their order and their units are those of
//! `docs/access-log.md`, which a test holds.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::logic::split::Reason;
use crate::telemetry::labels::{Blame, RetryReason};
use crate::types::Position;

/// The most bytes of a text that a client sends (method, host, path, request id); longer ones are cut.
const LONGEST: usize = 2048;
/// What stands where a text was cut.
const CUT: char = '…';

/// One finished request. Empty text and `None` are left out of the line.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When the request arrived.
    pub time: SystemTime,
    /// The request's id, as the upstream got it.
    pub request_id: &'a [u8],
    /// The client's address: the peer's, or what a trusted peer says of it.
    pub client_ip: IpAddr,
    /// The listener's name.
    pub listener: &'a str,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// The request's method.
    pub method: &'a [u8],
    /// The request's host.
    pub host: &'a [u8],
    /// The request's path without its query: queries carry secrets.
    pub path: &'a [u8],
    /// The status that the client got.
    pub status: u16,
    /// The gRPC status that the client got, where it asked by gRPC.
    pub grpc_status: Option<&'static str>,
    /// The route's name.
    pub route: &'a str,
    /// The split's name.
    pub split: &'a str,
    /// The name of the variant that served.
    pub variant: &'a str,
    /// Why that variant.
    pub reason: Option<Reason>,
    /// The name of the rule that decided.
    pub rule: &'a str,
    /// The unit's position.
    pub position: Option<Position>,
    /// The unit key; left out by a log that was opened without `unit_key`.
    pub unit: Option<&'a [u8]>,
    /// The upstream's name.
    pub upstream: &'a str,
    /// The endpoint of the last attempt.
    pub endpoint: &'a str,
    /// How many attempts there were; 0 where no upstream was asked.
    pub attempts: u32,
    /// Why there were more than one, in their order.
    pub retried: &'a [RetryReason],
    /// The whole time, as the client saw it.
    pub duration: Duration,
    /// From the request head sent to the response head received, of the last attempt.
    pub upstream_duration: Option<Duration>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// Why the proxy itself answered, or broke the response off.
    pub error: Option<&'static str>,
    /// Who is the cause of it.
    pub blame: Option<Blame>,
}

impl Record<'_> {
    /// Appends the line, ended, to `buffer`; an error leaves `buffer` as it was.
    pub(super) fn append_to(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let before = buffer.len();
        let result = self.write(&mut Line { buffer, separator: b'{' });
        match result {
            Ok(()) => buffer.extend_from_slice(b"}\n"),
            Err(_) => buffer.truncate(before),
        }
        result.map_err(io::Error::from)
    }

    fn write(&self, line: &mut Line<'_>) -> serde_json::Result<()> {
        line.put("time", &Shown(format_args!("{:.3}", timestamp(self.time))))?;
        line.text("request_id", self.request_id)?;
        line.put("client_ip", &self.client_ip.to_canonical())?;
        line.name("listener", self.listener)?;
        line.name("protocol", self.protocol)?;
        line.text("method", self.method)?;
        line.text("host", self.host)?;
        line.text("path", self.path)?;
        line.put("status", &self.status)?;
        line.maybe("grpc_status", self.grpc_status)?;
        line.name("route", self.route)?;
        line.name("split", self.split)?;
        line.name("variant", self.variant)?;
        line.maybe("reason", self.reason.map(Reason::as_str))?;
        line.name("rule", self.rule)?;
        // As a string: many readers of JSON keep 53 bits of a number.
        line.maybe("position", self.position.map(Shown))?;
        line.text("unit", self.unit.unwrap_or_default())?;
        line.name("upstream", self.upstream)?;
        line.name("endpoint", self.endpoint)?;
        line.put("attempts", &self.attempts)?;
        if !self.retried.is_empty() {
            let reasons: Vec<_> = self.retried.iter().map(|reason| reason.as_str()).collect();
            line.put("retried", &reasons)?;
        }
        line.put("duration_ms", &milliseconds(self.duration))?;
        line.maybe("upstream_duration_ms", self.upstream_duration.map(milliseconds))?;
        line.put("request_bytes", &self.request_bytes)?;
        line.put("response_bytes", &self.response_bytes)?;
        line.maybe("error", self.error)?;
        line.maybe("blame", self.blame.map(Blame::as_str))?;
        Ok(())
    }
}

/// A line under way. Field names are our own, so they are written as they are; values are the library's business.
struct Line<'b> {
    buffer: &'b mut Vec<u8>,
    separator: u8,
}

impl Line<'_> {
    fn put(&mut self, field: &'static str, value: &(impl Serialize + ?Sized)) -> serde_json::Result<()> {
        self.buffer.extend_from_slice(&[self.separator, b'"']);
        self.buffer.extend_from_slice(field.as_bytes());
        self.buffer.extend_from_slice(b"\":");
        self.separator = b',';
        serde_json::to_writer(&mut *self.buffer, value)
    }

    fn maybe(&mut self, field: &'static str, value: Option<impl Serialize>) -> serde_json::Result<()> {
        value.map_or(Ok(()), |value| self.put(field, &value))
    }

    /// One of our own names.
    fn name(&mut self, field: &'static str, name: &str) -> serde_json::Result<()> {
        if name.is_empty() { Ok(()) } else { self.put(field, name) }
    }

    /// What a client sent.
    fn text(&mut self, field: &'static str, bytes: &[u8]) -> serde_json::Result<()> {
        if bytes.is_empty() { Ok(()) } else { self.put(field, &*readable(bytes)) }
    }
}

/// A string of what it displays.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The time for display: RFC 3339 in UTC, cut to the digits that are shown and not rounded, so that no time lies after
/// the moment it names. It ends with the year 9999.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

/// Milliseconds with three decimal places at most.
fn milliseconds(duration: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 years of microseconds")]
    let microseconds = duration.as_micros() as f64;
    microseconds / 1000.0
}

/// The text, with U+FFFD for what is not UTF-8, cut when it is too long.
fn readable(bytes: &[u8]) -> Cow<'_, str> {
    let Some(mut kept) = bytes.get(..=LONGEST).and_then(<[u8]>::split_last).map(|(_, kept)| kept) else {
        // The usual case first: looking for what is not UTF-8 costs more than seeing that nothing is.
        return std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    };
    // Not inside a character: at most three bytes that continue one, and the one that begins it.
    if let Some(back) = kept.iter().rev().take(4).position(|byte| byte & 0xC0 != 0x80)
        && let Some((whole, last)) = kept.split_at_checked(kept.len() - back - 1)
        && std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none())
    {
        kept = whole;
    }
    let mut text = String::from_utf8_lossy(kept).into_owned();
    text.push(CUT);
    text.into()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// A record with something in every field.
    pub(in super::super) fn full() -> Record<'static> {
        Record {
            time: UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_987),
            request_id: b"0198-abc",
            client_ip: "::ffff:192.0.2.7".parse().unwrap(),
            listener: "web",
            protocol: "HTTP/1.1",
            method: b"GET",
            host: b"shop.example.com",
            path: b"/api/cart",
            status: 200,
            grpc_status: Some("OK"),
            route: "shop",
            split: "checkout",
            variant: "canary",
            reason: Some(Reason::Rule),
            rule: "staff",
            position: Some(Position(u64::MAX)),
            unit: Some(b"tenant-42"),
            upstream: "canary-eu",
            endpoint: "10.0.2.1:8080",
            attempts: 2,
            retried: &[RetryReason::Connect],
            duration: Duration::from_micros(12_345),
            upstream_duration: Some(Duration::from_millis(11)),
            request_bytes: 17,
            response_bytes: 1 << 40,
            error: Some("response_timeout"),
            blame: Some(Blame::Upstream),
        }
    }

    /// A record with nothing that may be absent.
    fn bare() -> Record<'static> {
        Record {
            time: UNIX_EPOCH,
            request_id: b"",
            client_ip: "2001:db8::1".parse().unwrap(),
            listener: "",
            protocol: "",
            method: b"",
            host: b"",
            path: b"",
            status: 400,
            grpc_status: None,
            route: "",
            split: "",
            variant: "",
            reason: None,
            rule: "",
            position: None,
            unit: None,
            upstream: "",
            endpoint: "",
            attempts: 0,
            retried: &[],
            duration: Duration::ZERO,
            upstream_duration: None,
            request_bytes: 0,
            response_bytes: 0,
            error: None,
            blame: None,
        }
    }

    /// The only line that the record makes, parsed.
    fn line(record: &Record<'_>) -> Value {
        let mut buffer = b"before\n".to_vec();
        record.append_to(&mut buffer).unwrap();
        let text = String::from_utf8(buffer).unwrap();
        let line = text.strip_prefix("before\n").unwrap().strip_suffix('\n').unwrap();
        assert!(!line.contains(|c: char| c < ' '), "{line:?}");
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn full_record_then_every_field_is_in_the_line() {
        let expected = json!({
            "time": "2023-11-14T22:13:20.123Z", "request_id": "0198-abc", "client_ip": "192.0.2.7",
            "listener": "web", "protocol": "HTTP/1.1", "method": "GET", "host": "shop.example.com",
            "path": "/api/cart", "status": 200, "grpc_status": "OK", "route": "shop", "split": "checkout", "variant": "canary",
            "reason": "rule", "rule": "staff", "position": "18446744073709551615", "unit": "tenant-42",
            "upstream": "canary-eu", "endpoint": "10.0.2.1:8080", "attempts": 2, "retried": ["connect"], "duration_ms": 12.345,
            "upstream_duration_ms": 11.0, "request_bytes": 17, "response_bytes": 1_099_511_627_776_u64,
            "error": "response_timeout", "blame": "upstream",
        });
        assert_eq!(line(&full()), expected);
    }

    #[test]
    fn bare_record_then_absent_things_are_left_out() {
        let expected = json!({
            "time": "1970-01-01T00:00:00.000Z", "client_ip": "2001:db8::1", "status": 400, "attempts": 0,
            "duration_ms": 0.0, "request_bytes": 0, "response_bytes": 0,
        });
        assert_eq!(line(&bare()), expected);
    }

    #[test]
    fn documentation_names_every_field_and_no_other() {
        let page = include_str!("../../../docs/access-log.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let documented: Vec<_> = rows.map(|(name, _)| name).collect();
        let mut buffer = Vec::new();
        full().append_to(&mut buffer).unwrap();
        let text = String::from_utf8(buffer).unwrap();
        let line: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        let mut in_line: Vec<_> = line.keys().map(String::as_str).collect();
        in_line.sort_by_key(|key| text.find(&format!("\"{key}\":")));
        assert_eq!(documented, in_line, "the same fields in the same order");
    }

    #[test]
    fn text_of_a_client_then_it_is_readable_and_bounded() {
        let (long, wide) = ("a".repeat(5000), "ç".repeat(3000));
        let rows: &[(&[u8], String)] = &[
            (b"/a\"b\\c", "/a\"b\\c".into()),
            (b"/\r\n\t\x00\x1b[31m\x7f", "/\r\n\t\0\u{1b}[31m\u{7f}".into()),
            (b"/\xff\xfe", "/\u{fffd}\u{fffd}".into()),
            (b"/caf\xc3", "/caf\u{fffd}".into()),
            ("/ça\u{2028}".as_bytes(), "/ça\u{2028}".into()),
            (&long.as_bytes()[..LONGEST], "a".repeat(LONGEST)),
            (long.as_bytes(), "a".repeat(LONGEST) + "…"),
            (wide.as_bytes(), "ç".repeat(LONGEST / 2) + "…"),
            (&wide.as_bytes()[1..], "\u{fffd}".to_owned() + &"ç".repeat(LONGEST / 2 - 1) + "…"),
        ];
        for (bytes, expected) in rows {
            assert_eq!(readable(bytes), *expected, "{:?}", bytes.get(..20));
        }
    }

    #[test]
    fn time_then_it_is_cut_to_the_millisecond_and_never_fails() {
        let rows = [
            (Duration::from_nanos(999_999_999), "1970-01-01T00:00:00.999Z"),
            (Duration::from_secs(951_782_401), "2000-02-29T00:00:01.000Z"),
            (Duration::from_secs(4_107_542_399), "2100-02-28T23:59:59.000Z"),
            (Duration::from_secs(1 << 40), "9999-12-30T22:00:00.999Z"),
        ];
        for (since, expected) in rows {
            assert_eq!(line(&Record { time: UNIX_EPOCH + since, ..bare() })["time"], expected, "{since:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_then_exactly_one_line(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), times in 1_usize..60,
        ) {
            let bytes = bytes.repeat(times);
            let hostile = Record {
                request_id: &bytes, method: &bytes, host: &bytes, path: &bytes, unit: Some(&bytes), ..full()
            };
            let line = line(&hostile);
            for field in ["request_id", "method", "host", "path", "unit"] {
                let read = line.get(field).and_then(Value::as_str).unwrap_or_default();
                prop_assert_eq!(read, &*readable(&bytes));
            }
        }
    }
}
