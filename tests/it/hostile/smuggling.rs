//! Requests that are made to be counted differently by us and by the upstream: what the upstream gets is looked at byte
//! by byte, and not what the client is told alone. The payloads of HTTP/1.1 are those of `tests/corpus`.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http2::{drain_answer, frame, greeting};
use crate::support::raw::{Client, Scripted};
use crate::support::{PATIENCE, Stage};

/// An upstream that takes a request to the letter and nothing else, and notes each.
pub(super) struct Strict {
    pub(super) upstream: Scripted,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What came: in a line for comparison, and whole.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Method, target and body; `broken` before what is no request, `partial` before one that did not end.
    line: String,
    /// The bytes of its head, and of its trailers.
    pub(super) text: String,
}

/// A message's part that ends with an empty line: its lines, each ended by CR and LF alone.
async fn lines(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Result<Vec<String>, String>> {
    let mut from = 0;
    let mut lines = Vec::new();
    loop {
        if let Some(end) = read[from..].windows(2).position(|pair| pair == b"\r\n").map(|at| from + at) {
            let line = String::from_utf8_lossy(&read[from..end]).into_owned();
            from = end + 2;
            if line.is_empty() {
                read.drain(..from);
                return Some(Ok(lines));
            }
            if line.contains(['\r', '\n', '\0']) {
                return Some(Err(line));
            }
            lines.push(line);
        } else {
            more(stream, read).await?;
        }
    }
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    let mut part = [0; 4096];
    let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
    read.extend_from_slice(&part[..count]);
    Some(())
}

async fn exactly(stream: &mut TcpStream, read: &mut Vec<u8>, count: usize) -> Option<String> {
    while read.len() < count {
        more(stream, read).await?;
    }
    Some(String::from_utf8_lossy(&read.drain(..count).collect::<Vec<_>>()).into_owned())
}

/// The body of a request with this head, and its trailers.
async fn body(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
    head: &[String],
) -> Option<Result<(String, Vec<String>), String>> {
    let field = |name: &str| -> Vec<String> {
        let values = head[1..].iter().filter_map(|line| line.split_once(':'));
        let values = values.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value.trim().to_owned()).collect()
    };
    let (lengths, codings) = (field("content-length"), field("transfer-encoding"));
    if field("host").len() != 1 {
        return Some(Err(format!("not one host: {head:?}")));
    }
    match (&lengths[..], &codings[..]) {
        ([], []) => Some(Ok(("-".to_owned(), Vec::new()))),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let body = exactly(stream, read, length.parse().unwrap()).await?;
            Some(Ok((format!("{length}:{body}"), Vec::new())))
        }
        ([], [coding]) if coding == "chunked" => {
            let mut whole = "chunked:".to_owned();
            loop {
                while !read.windows(2).any(|pair| pair == b"\r\n") {
                    more(stream, read).await?;
                }
                let end = read.windows(2).position(|pair| pair == b"\r\n").unwrap();
                let size = String::from_utf8_lossy(&read.drain(..end + 2).collect::<Vec<_>>()).into_owned();
                let Some(length) = Some(size.trim_end())
                    .filter(|size| size.bytes().all(|byte| byte.is_ascii_hexdigit()))
                    .and_then(|size| usize::from_str_radix(size, 16).ok())
                else {
                    return Some(Err(format!("a size {size:?}")));
                };
                if length == 0 {
                    return match lines(stream, read).await? {
                        Ok(trailers) => Some(Ok((whole, trailers))),
                        Err(line) => Some(Err(line)),
                    };
                }
                whole += &exactly(stream, read, length).await?;
                let end = exactly(stream, read, 2).await?;
                if end != "\r\n" {
                    return Some(Err(format!("{end:?} behind data")));
                }
            }
        }
        _ => Some(Err(format!("framed by {lengths:?} and {codings:?}"))),
    }
}

/// Reads one request; `false` where there is no other.
async fn serve(stream: &mut TcpStream, read: &mut Vec<u8>, seen: &Mutex<Vec<Seen>>) -> bool {
    let note = |line: String, text: String| seen.lock().unwrap().push(Seen { line, text });
    let head = match lines(stream, read).await {
        Some(Ok(head)) if !head.is_empty() => head,
        None if read.is_empty() => return false,
        None => {
            note("partial head".to_owned(), String::from_utf8_lossy(read).into_owned());
            return false;
        }
        Some(broken) => {
            note(format!("broken head {broken:?}"), String::new());
            return false;
        }
    };
    let text = head.join("\n");
    let words: Vec<_> = head[0].split(' ').collect();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let are_fields = head[1..].iter().all(|line| {
        line.split_once(':').is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(is_token))
    });
    let [method, target, "HTTP/1.1"] = words[..] else {
        note(format!("broken line {:?}", head[0]), text);
        return false;
    };
    if !are_fields {
        note(format!("broken fields {text:?}"), text);
        return false;
    }
    let asked = format!("{method} {target}");
    let answer: &[u8] = if method == "HEAD" {
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    } else {
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    };
    let is_early = target == "/early";
    if is_early && stream.write_all(answer).await.is_err() {
        return false;
    }
    match body(stream, read, &head).await {
        None => {
            note(format!("partial {asked}"), text);
            return false;
        }
        Some(Err(broken)) => {
            note(format!("broken body of {asked}: {broken}"), text);
            return false;
        }
        Some(Ok((body, trailers))) => {
            let upgrade = if text.to_ascii_lowercase().contains("\nupgrade:") { " upgrade" } else { "" };
            note(format!("{asked}{upgrade} {body}"), format!("{text}\n{}", trailers.join("\n")));
        }
    }
    is_early || stream.write_all(answer).await.is_ok()
}

impl Strict {
    pub(super) async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let upstream = Scripted::accepting(move |mut stream| {
            let log = Arc::clone(&log);
            async move {
                let mut read = Vec::new();
                while serve(&mut stream, &mut read, &log).await {}
            }
        })
        .await;
        Self { upstream, seen }
    }

    /// What came since it was last asked, once the proxy has no connection to it any more.
    pub(super) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn take_lines(&self) -> Vec<String> {
        self.take().into_iter().map(|seen| seen.line).collect()
    }
}

/// Sends `bytes` and reads what comes back until there are `count` final answers, or the proxy closes; then ends.
async fn statuses(stage: &Stage, bytes: &[u8], count: usize) -> Vec<u16> {
    let mut client = Client::connect(stage.proxy.address).await;
    let (mut read, mut write) = client.0.split();
    let mut answers = Vec::new();
    let exchange = async {
        // The proxy may close before it has read all.
        let _ = write.write_all(bytes).await;
        let mut part = [0; 4096];
        while found(&answers).len() < count {
            match read.read(&mut part).await {
                Ok(0) | Err(_) => break,
                Ok(length) => answers.extend_from_slice(&part[..length]),
            }
        }
        let _ = write.shutdown().await;
        let _ = read.read_to_end(&mut answers).await;
    };
    let ended = tokio::time::timeout(PATIENCE, exchange).await;
    assert!(ended.is_ok(), "{}: no end after {}", bytes.escape_ascii(), answers.escape_ascii());
    found(&answers)
}

/// The statuses of the whole responses in `bytes`, without informational ones.
fn found(mut bytes: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 "), "{head}");
        let status = head[9..12].parse::<u16>().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
        if bytes.len() < end + 4 + length {
            break;
        }
        bytes = &bytes[end + 4 + length..];
        if status >= 200 {
            statuses.push(status);
        }
    }
    statuses
}

/// The payloads of the corpus: what each is, how many requests are accepted, whether the last of them is whole, and the
/// bytes.
fn corpus() -> Vec<(String, usize, bool, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/http1");
    let mut payloads: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let mut lines = text.lines();
            let what = format!("{}: {}", path.file_name().unwrap().display(), lines.next().unwrap());
            let (count, end) = lines.next().unwrap().split_once(' ').unwrap();
            let bytes = lines.map(crate::support::unescaped).collect::<Vec<_>>().concat();
            (what, count.parse().unwrap(), !matches!(end, "waits" | "body"), bytes)
        })
        .collect();
    payloads.sort();
    assert!(payloads.len() > 150, "{} payloads", payloads.len());
    payloads
}

#[tokio::test]
async fn upstream_gets_no_request_that_was_not_accepted_and_each_to_the_letter() {
    let strict = Strict::start().await;
    let stage = Stage::before(strict.upstream.address).await;
    for (what, count, is_whole, bytes) in corpus() {
        let mut client = Client::connect(stage.proxy.address).await;
        // The proxy may close before it has read all.
        let _ = client.0.write_all(&bytes).await;
        let _ = client.0.shutdown().await;
        client.read_to_end().await;
        drop(client);
        stage.assert_in_order().await;
        let seen = strict.take_lines();
        let whole = seen.iter().filter(|line| !line.starts_with("partial")).count();
        assert!(!seen.iter().any(|line| line.starts_with("broken")), "{what}: {seen:?}");
        let most = if is_whole { count } else { count.saturating_sub(1) };
        // One that did not end may not look as if it had.
        assert!(whole <= most && seen.len() <= count, "{what}: {seen:?}");
    }
}

/// What is sent behind what hides it.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: b\r\n\r\n";

const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

/// What it is, what is sent, what the upstream gets of it, and what the client is told.
type Framed = (&'static str, String, Vec<String>, Vec<u16>);

fn post(fields: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// Bodies that have lengths or chunks where some expect none.
fn framed() -> Vec<Framed> {
    let next = NEXT;
    let length = HIDDEN.len();
    let with_length = post(&format!("Content-Length: {length}\r\n"), HIDDEN);
    let hidden = format!("POST /a {length}:{HIDDEN}");
    let chunks = format!("{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n");
    let chunked = format!("POST /a chunked:{HIDDEN}");
    vec![
        ("CL.0", with_length.clone() + next, vec![hidden.clone(), "GET /next -".into()], vec![200, 200]),
        (
            "CL.0 before an upstream that answers at once",
            with_length.replace("/a", "/early") + next,
            vec![hidden.replace("/a", "/early"), "GET /next -".into()],
            vec![200, 200],
        ),
        (
            "0.CL: a length of a GET",
            with_length.replace("POST", "GET"),
            vec![hidden.replace("POST", "GET")],
            vec![200],
        ),
        ("a body of HEAD", with_length.replace("POST", "HEAD"), vec![hidden.replace("POST", "HEAD")], vec![]),
        (
            "TE.0",
            post("Transfer-Encoding: chunked\r\n", &chunks) + next,
            vec![chunked.clone(), "GET /next -".into()],
            vec![200, 200],
        ),
        (
            "TE.0 of OPTIONS",
            post("Transfer-Encoding: chunked\r\n", &chunks).replace("POST", "OPTIONS"),
            vec![chunked.replace("POST", "OPTIONS")],
            vec![200],
        ),
        (
            "a length that Connection names",
            post(&format!("Connection: Content-Length\r\nContent-Length: {length}\r\n"), HIDDEN) + next,
            vec![hidden.clone(), "GET /next -".into()],
            vec![200, 200],
        ),
        (
            "a coding that Connection names",
            post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", &chunks) + next,
            vec![chunked.clone(), "GET /next -".into()],
            vec![200, 200],
        ),
        (
            "a host that Connection names",
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n".to_owned() + next,
            vec!["GET /a -".into(), "GET /next -".into()],
            vec![200, 200],
        ),
    ]
}

/// Requests that ask for something else than an answer, or say something of their body behind it.
fn negotiated() -> Vec<Framed> {
    let next = NEXT;
    let length = HIDDEN.len();
    let hidden = format!("POST /a {length}:{HIDDEN}");
    vec![
        (
            "an expectation",
            post(&format!("Expect: 100-continue\r\nContent-Length: {length}\r\n"), HIDDEN) + next,
            vec![hidden.clone(), "GET /next -".into()],
            vec![200, 200],
        ),
        (
            "an expectation of a GET with a length",
            post(&format!("Expect: 100-continue\r\nContent-Length: {length}\r\n"), HIDDEN).replace("POST", "GET"),
            vec![hidden.replace("POST", "GET")],
            vec![200],
        ),
        (
            "an expectation without a body",
            "GET /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n".to_owned() + next,
            vec!["GET /a -".into(), "GET /next -".into()],
            vec![200, 200],
        ),
        (
            "an expectation that is hidden",
            post(&format!("Expect: x 100-continue\r\nContent-Length: {length}\r\n"), HIDDEN) + next,
            vec![hidden.clone(), "GET /next -".into()],
            vec![200, 200],
        ),
        (
            "h2c",
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \
             AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
                .to_owned()
                + next,
            vec!["GET /a -".into(), "GET /next -".into()],
            vec![200, 200],
        ),
        (
            "h2c that is hidden in a list",
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo, h2c, HTTP/2.0\r\n\r\n".to_owned(),
            vec!["GET /a upgrade -".into()],
            vec![200],
        ),
        (
            "h2c that Connection does not name",
            "GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n".to_owned(),
            vec!["GET /a -".into()],
            vec![200],
        ),
        (
            "trailers that frame, route and identify",
            post(
                "Transfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nHost: b\r\nConnection: \
                 close\r\nUpgrade: h2c\r\nTrailer: x\r\nExpect: 100-continue\r\n\r\n",
            ) + next,
            vec!["POST /a chunked:hello".into(), "GET /next -".into()],
            vec![200, 200],
        ),
        (
            "extensions, which are not passed on",
            post("Transfer-Encoding: chunked\r\n", "5;a=\"b\";c\r\nhello\r\n000;d\r\n\r\n") + next,
            vec!["POST /a chunked:hello".into(), "GET /next -".into()],
            vec![200, 200],
        ),
        (
            "a target with another host",
            "GET http://b/a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned() + next,
            vec!["GET /a -".into(), "GET /next -".into()],
            vec![200, 200],
        ),
    ]
}

#[tokio::test]
async fn body_ends_for_the_upstream_where_it_ends_for_us() {
    let strict = Strict::start().await;
    let stage = Stage::before(strict.upstream.address).await;
    for (what, bytes, expected, answers) in framed().into_iter().chain(negotiated()) {
        let got = statuses(&stage, bytes.as_bytes(), answers.len()).await;
        stage.assert_in_order().await;
        let seen = strict.take_lines();
        assert_eq!(seen, expected, "{what}");
        // Of HEAD the length is that of what is not sent.
        assert!(got == answers || what == "a body of HEAD", "{what}: {got:?}");
    }
}

/// A length of HPACK with a prefix of 7 bits.
fn length(length: usize) -> Vec<u8> {
    match length.checked_sub(127) {
        None => vec![u8::try_from(length).unwrap()],
        Some(rest) if rest < 128 => vec![127, u8::try_from(rest).unwrap()],
        Some(rest) => vec![127, u8::try_from(rest % 128).unwrap() | 0x80, u8::try_from(rest / 128).unwrap()],
    }
}

pub(super) type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// Fields as HPACK has them without any table.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let literal = |(name, value): &(&str, &str)| {
        [
            vec![0],
            length(name.len()),
            name.as_bytes().to_vec(),
            length(value.len()),
            value.as_bytes().to_vec(),
        ]
        .concat()
    };
    fields.iter().flat_map(literal).collect()
}

/// A request by POST for `/a`, with these fields in place of its own or behind them.
fn fields<'a>(changed: &[(&'a str, &'a str)]) -> Pairs<'a> {
    let mut fields: Pairs<'a> =
        vec![(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/a")];
    for (name, value) in changed {
        match fields.iter_mut().find(|(known, _)| known == name && name.starts_with(':')) {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
    }
    fields
}

#[tokio::test]
async fn what_http2_may_say_and_http1_may_not_reaches_no_upstream() {
    let strict = Strict::start().await;
    let stage = Stage::before(strict.upstream.address).await;
    let refused: &[&str] = &[];
    let trick = format!(" HTTP/1.1\r\nHost: a\r\n\r\n{HIDDEN}");
    let broken =
        [format!("/a{trick}"), format!("GET /a{trick}"), format!("a{trick}"), format!("b\r\n\r\n{HIDDEN}")];
    let rows: Vec<(&str, Pairs<'_>, &str, &[&str])> = vec![
        ("no length", fields(&[]), "hello", &["POST /a chunked:hello"]),
        ("a length", fields(&[("content-length", "5")]), "hello", &["POST /a 5:hello"]),
        ("h2.CL: no length, and data", fields(&[("content-length", "0")]), HIDDEN, &["POST /a 0:"]),
        ("h2.CL: a shorter length", fields(&[("content-length", "5")]), HIDDEN, &["partial POST /a"]),
        ("h2.CL: a longer length", fields(&[("content-length", "500")]), HIDDEN, &["partial POST /a"]),
        ("h2.CL: two lengths", fields(&[("content-length", "5"), ("content-length", "0")]), "hello", refused),
        ("h2.CL: a list", fields(&[("content-length", "5, 5")]), "hello", refused),
        ("h2.CL: a sign", fields(&[("content-length", "+5")]), "hello", refused),
        ("h2.TE", fields(&[("transfer-encoding", "chunked")]), "0\r\n\r\n", refused),
        (
            "h2.TE and a length",
            fields(&[("transfer-encoding", "chunked"), ("content-length", "5")]),
            "0\r\n\r\n",
            refused,
        ),
        ("h2.TE in a name", fields(&[("transfer-encoding: chunked\r\nx", "b")]), "0\r\n\r\n", refused),
        ("h2.TE in a value", fields(&[("x", "b\r\ntransfer-encoding: chunked")]), "0\r\n\r\n", refused),
        ("h2.TE behind a bare LF", fields(&[("x", "b\ntransfer-encoding: chunked")]), "0\r\n\r\n", refused),
        ("h2.TE behind a bare CR", fields(&[("x", "b\rtransfer-encoding: chunked")]), "0\r\n\r\n", refused),
        ("h2.TE with a space", fields(&[("transfer-encoding ", "chunked")]), "0\r\n\r\n", refused),
        ("h2.TE with NUL", fields(&[("transfer-encoding\0", "chunked")]), "0\r\n\r\n", refused),
        ("a request in a path", fields(&[(":path", &broken[0])]), "", refused),
        ("a request in a method", fields(&[(":method", &broken[1])]), "", refused),
        ("a request in an authority", fields(&[(":authority", &broken[2])]), "", refused),
        ("a request in a value", fields(&[("x", &broken[3])]), "", refused),
        ("a request in a scheme", fields(&[(":scheme", &broken[2])]), "", refused),
        ("a space in a path", fields(&[(":path", "/a b")]), "", refused),
        ("a tab in a path", fields(&[(":path", "/a\tb")]), "", refused),
        ("NUL in a path", fields(&[(":path", "/a\0b")]), "", refused),
        ("no slash", fields(&[(":path", "a")]), "", refused),
        ("a whole URL", fields(&[(":path", "http://b/a")]), "", refused),
        ("an empty path", fields(&[(":path", "")]), "", refused),
        ("an asterisk", fields(&[(":path", "*")]), "", refused),
        ("a space in a method", fields(&[(":method", "GET /b")]), "", refused),
        ("an empty method", fields(&[(":method", "")]), "", refused),
        ("a user", fields(&[(":authority", "b@a")]), "", refused),
        ("a path in an authority", fields(&[(":authority", "a/b")]), "", refused),
        ("two hosts", fields(&[("host", "a"), ("host", "b")]), "", refused),
        ("a protocol", fields(&[(":protocol", "h2c")]), "", refused),
        ("an upgrade", fields(&[("upgrade", "h2c")]), "", refused),
        ("connection", fields(&[("connection", "x-forwarded-for")]), "", refused),
        ("keep-alive", fields(&[("keep-alive", "1")]), "", refused),
        ("proxy-connection", fields(&[("proxy-connection", "keep-alive")]), "", refused),
        ("te", fields(&[("te", "chunked")]), "", refused),
        ("no name", fields(&[("", "b")]), "", refused),
        ("a colon before a name", fields(&[(":x", "b")]), "", refused),
        ("a bare pseudo-field behind fields", fields(&[("x", "b"), (":method2", "GET")]), "", refused),
        ("a line of HTTP/1.1 as a name", fields(&[("get / http/1.1", "b")]), "", refused),
        ("an expectation", fields(&[("expect", "100-continue")]), "hello", &["POST /a chunked:hello"]),
        ("crumbs of a cookie", fields(&[("cookie", "a=b"), ("cookie", "c=d")]), "", &["POST /a 0:"]),
    ];
    for (what, fields, body, expected) in rows {
        let mut client = Client::connect(stage.proxy.address).await;
        let head = frame(1, if body.is_empty() { 0x5 } else { 0x4 }, 1, &block(&fields));
        let data = if body.is_empty() { Vec::new() } else { frame(0, 0x1, 1, body.as_bytes()) };
        // The proxy may close before it has read all.
        let _ = client.0.write_all(&[greeting(), head, data].concat()).await;
        drain_answer(&mut client.0, what).await;
        drop(client);
        stage.assert_in_order().await;
        let seen = strict.take();
        let lines: Vec<_> = seen.iter().map(|seen| seen.line.as_str()).collect();
        // What breaks off may do so before anything is sent.
        let may_be_nothing = expected.iter().all(|line| line.starts_with("partial"));
        assert!(lines == expected || (may_be_nothing && lines.is_empty()), "{what}: {lines:?}");
        let cookies =
            seen.iter().flat_map(|seen| seen.text.lines()).filter(|line| line.starts_with("cookie:"));
        assert!(cookies.count() <= 1, "{what}: {seen:?}");
    }
}

#[tokio::test]
async fn trailers_of_http2_frame_nothing() {
    let strict = Strict::start().await;
    let stage = Stage::before(strict.upstream.address).await;
    for trailers in [
        &[("content-length", "3")][..],
        &[("host", "b"), ("trailer", "x"), ("expect", "100-continue"), ("authorization", "x")],
        &[("transfer-encoding", "chunked")],
        &[("connection", "close")],
        &[(":path", "/hidden")],
        &[("x", "b\r\n\r\nGET /hidden HTTP/1.1")],
    ] {
        let mut client = Client::connect(stage.proxy.address).await;
        let frames = [
            greeting(),
            frame(1, 0x4, 1, &block(&fields(&[]))),
            frame(0, 0, 1, b"hello"),
            frame(1, 0x5, 1, &block(trailers)),
        ];
        let _ = client.0.write_all(&frames.concat()).await;
        drain_answer(&mut client.0, "trailers").await;
        drop(client);
        stage.assert_in_order().await;
        for seen in strict.take() {
            assert!(["POST /a chunked:hello", "partial POST /a"].contains(&seen.line.as_str()), "{seen:?}");
            let text = seen.text.to_ascii_lowercase();
            assert!(
                !["content-length", "hidden", "host: b", "expect", "authorization"]
                    .iter()
                    .any(|part| text.contains(part)),
                "{seen:?}"
            );
        }
    }
}
