//! Many clients and an endpoint of many moods, for a few seconds, from a seed: whatever happens to a request, a whole
//! answer is the answer to it, byte for byte, and in the end nothing is left and everything is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::client::Connection;
use crate::support::raw::Scripted;
use crate::support::{PATIENCE, Stage};

const TIME: Duration = Duration::from_secs(5);

/// How the endpoint frames its answer, and when it gives it.
const CALM: [&str; 2] = ["length", "chunked"];
const WILD: [&str; 6] = ["length", "chunked", "close", "early", "early-close", "abort"];

#[derive(Debug, Clone)]
struct Asked {
    id: u64,
    mood: &'static str,
    length: usize,
    is_chunked: bool,
}

#[derive(Debug, Default)]
struct Counts {
    calm: AtomicUsize,
    wild_sent: AtomicUsize,
    wild_whole: AtomicUsize,
}

/// The bytes that belong to a request, and to no other.
fn bytes_of(id: u64, length: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(id);
    (0..length).map(|_| rng.u8(..)).collect()
}

fn some_length(rng: &mut fastrand::Rng) -> usize {
    let limit = [1, 100, 5000, 20_000, 300_000][rng.usize(..5)];
    rng.usize(..limit)
}

/// Writes `bytes` in pieces of any size.
async fn write_cut(
    to: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    rng: &mut fastrand::Rng,
) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let at_once = [3, 1000, 100_000, usize::MAX][rng.usize(..4)];
        let (now, later) = bytes.split_at(at_once.min(bytes.len()));
        to.write_all(now).await?;
        bytes = later;
        if rng.u8(..) < 64 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

fn framed(body: &[u8], is_chunked: bool, rng: &mut fastrand::Rng) -> Vec<u8> {
    if !is_chunked {
        return [format!("content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
    }
    let mut out = b"transfer-encoding: chunked\r\n\r\n".to_vec();
    let mut rest = body;
    while !rest.is_empty() {
        let limit = [10, 3000, 200_000][rng.usize(..3)].min(rest.len());
        // Not too many of them.
        let (chunk, later) = rest.split_at(rng.usize(1..=limit).max(rest.len() / 100).max(1));
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = later;
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

struct Message {
    first: String,
    fields: Vec<(String, String)>,
}

impl Message {
    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// Reads a head; `None` at the end of the connection.
async fn read_head<R: tokio::io::AsyncBufRead + Unpin>(from: &mut R) -> Option<Message> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).await.ok()? == 0 || !line.ends_with("\r\n") {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut lines = lines.into_iter();
    let first = lines.next()?;
    let field =
        |line: String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Some(Message { first, fields: lines.filter_map(field).collect() })
}

/// Reads a body; `None` where it breaks off.
async fn read_body<R: tokio::io::AsyncBufRead + Unpin>(
    from: &mut R,
    head: &Message,
    is_answer: bool,
) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = head.get("content-length") {
        body.resize(length.parse().unwrap(), 0);
        from.read_exact(&mut body).await.ok()?;
    } else if head.get("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            from.read_line(&mut line).await.ok()?;
            let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
            let start = body.len();
            body.resize(start + length + 2, 0);
            from.read_exact(&mut body[start..]).await.ok()?;
            assert!(body.ends_with(b"\r\n"));
            body.truncate(start + length);
            if length == 0 {
                break;
            }
        }
    } else if is_answer {
        from.read_to_end(&mut body).await.ok()?;
    }
    Some(body)
}

/// Answers with the request's own body, or with bytes of its id where it does not wait for the body.
async fn endpoint(mut stream: TcpStream) {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    while let Some(head) = read_head(&mut read).await {
        let id: u64 = head.get("x-id").unwrap().parse().unwrap();
        let mood = head.get("x-mood").unwrap();
        let mut rng = fastrand::Rng::with_seed(!id);
        let is_early = mood.starts_with("early");
        let body = if is_early {
            bytes_of(!id, 3000)
        } else {
            let Some(body) = read_body(&mut read, &head, false).await else { return };
            body
        };
        let mut answer = format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\n").into_bytes();
        match mood {
            "early-close" => {
                // Who closes says so: a request with a body is not sent again.
                answer.extend_from_slice(b"connection: close\r\n");
                answer.extend(framed(&body, rng.bool(), &mut rng));
            }
            "close" => {
                answer.extend_from_slice(b"connection: close\r\n\r\n");
                answer.extend_from_slice(&body);
            }
            "abort" => {
                answer.extend(framed(&body, rng.bool(), &mut rng));
                answer.truncate(rng.usize(..answer.len()));
            }
            mood => answer.extend(framed(&body, mood == "chunked" || rng.bool(), &mut rng)),
        }
        if write_cut(&mut write, &answer, &mut rng).await.is_err()
            || matches!(mood, "close" | "early-close" | "abort")
        {
            return;
        }
        if is_early && read_body(&mut read, &head, false).await.is_none() {
            return;
        }
    }
}

fn request(asked: &Asked, path: &str, rng: &mut fastrand::Rng) -> Vec<u8> {
    let Asked { id, mood, length, is_chunked } = asked;
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\nx-id: {id}\r\nx-mood: {mood}\r\n");
    [head.into_bytes(), framed(&bytes_of(*id, *length), *is_chunked, rng)].concat()
}

/// Reads the answers to `asked`, in their order; how many were whole.
async fn read_answers(from: OwnedReadHalf, asked: &[Asked], is_calm: bool) -> usize {
    let mut from = BufReader::new(from);
    for (index, asked) in asked.iter().enumerate() {
        let Some(head) = timeout(PATIENCE, read_head(&mut from)).await.expect("an answer") else {
            return index;
        };
        let body = timeout(PATIENCE, read_body(&mut from, &head, true)).await.expect("its body");
        if head.get("x-weir-error").is_some() {
            assert!(!is_calm, "{asked:?}: {}", head.first);
            // Early answers may be lost in the reset of an endpoint that did not read.
            assert!(["abort", "early-close"].contains(&asked.mood), "{asked:?}: {}", head.first);
            continue;
        }
        assert_eq!(head.get("x-id"), Some(&*asked.id.to_string()), "{asked:?}: {}", head.first);
        let Some(body) = body else {
            assert!(["abort", "early", "early-close"].contains(&asked.mood), "{asked:?} broke off");
            return index;
        };
        let is_early = asked.mood.starts_with("early");
        let expected = if is_early { bytes_of(!asked.id, 3000) } else { bytes_of(asked.id, asked.length) };
        assert!(body == expected, "{asked:?}: {} bytes of {}", body.len(), expected.len());
    }
    asked.len()
}

async fn http1_client(
    address: SocketAddr,
    mut rng: fastrand::Rng,
    is_calm: bool,
    until: Instant,
    counts: &Counts,
) {
    let path = if is_calm { "/calm" } else { "/wild" };
    let moods: &[&str] = if is_calm { &CALM } else { &WILD };
    while Instant::now() < until {
        let mut next = || Asked {
            id: rng.u64(..),
            mood: moods[rng.usize(..moods.len())],
            length: some_length(&mut rng),
            is_chunked: rng.bool(),
        };
        let asked: Vec<Asked> = (0..4).map(|_| next()).collect();
        let asked = &asked[..rng.usize(1..=4)];
        let mut sent: Vec<u8> = asked.iter().flat_map(|asked| request(asked, path, &mut rng)).collect();
        let is_cut = !is_calm && rng.u8(..) < 50;
        if is_cut {
            sent.truncate(rng.usize(..sent.len()));
        }
        let stream = TcpStream::connect(address).await.unwrap();
        if is_cut && rng.bool() {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        let (read, mut write) = stream.into_split();
        if is_cut {
            // What was sent of it may be answered, or not.
            counts.wild_sent.fetch_add(asked.len(), Ordering::Relaxed);
            let _ = write_cut(&mut write, &sent, &mut rng).await;
            drop((read, write));
            continue;
        }
        let writing = async {
            let sent = write_cut(&mut write, &sent, &mut rng).await;
            assert!(sent.is_ok() || !is_calm);
        };
        let ((), whole) = tokio::join!(writing, read_answers(read, asked, is_calm));
        if is_calm {
            assert_eq!(whole, asked.len());
            counts.calm.fetch_add(whole, Ordering::Relaxed);
        } else {
            counts.wild_sent.fetch_add(asked.len(), Ordering::Relaxed);
            counts.wild_whole.fetch_add(whole, Ordering::Relaxed);
        }
    }
}

async fn http2_client(address: SocketAddr, mut rng: fastrand::Rng, until: Instant, counts: &Counts) {
    let mut client = Connection::new(address, true).await;
    while Instant::now() < until {
        let (id, length) = (rng.u64(..), some_length(&mut rng));
        let body = Bytes::from(bytes_of(id, length));
        let request = http::Request::post("/calm")
            .header("x-id", id.to_string())
            .header("x-mood", CALM[rng.usize(..CALM.len())])
            .body(Full::new(body.clone()).boxed())
            .unwrap();
        let (head, answer, _) = timeout(PATIENCE, client.exchange(request)).await.expect("an answer");
        assert_eq!(head.headers()["x-id"], id.to_string());
        assert!(answer == body, "{id}: {} bytes of {length}", answer.len());
        counts.calm.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_answers_are_those_to_their_requests_whatever_else_happens() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let endpoint = Scripted::accepting(endpoint).await;
    let address = endpoint.address;
    let sections = format!(
        "upstreams:\n  calm: {{ endpoints: ['{address}'] }}\n  wild: {{ endpoints: ['{address}'] }}\n"
    );
    let routes = "  - { paths: [/calm], upstream: calm }\n  - { paths: [/wild], upstream: wild }\n";
    let stage = Stage::serving("", &sections, routes).await;
    let counts = Arc::new(Counts::default());
    let until = Instant::now() + TIME;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let (counts, rng, address) = (Arc::clone(&counts), rng.fork(), stage.proxy.address);
        clients.spawn(async move {
            match client {
                0 => http2_client(address, rng, until, &counts).await,
                client => http1_client(address, rng, client < 4, until, &counts).await,
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    stage.assert_in_order().await;
    let served = async |name: &str| {
        stage.proxy.metric("weir_upstream_requests_total", &[&format!("upstream=\"{name}\"")]).await
    };
    let count = |count: &AtomicUsize| f64::from(u32::try_from(count.load(Ordering::Relaxed)).unwrap());
    assert!(count(&counts.calm) > 0.0 && count(&counts.wild_whole) > 0.0);
    assert_eq!(served("calm").await, count(&counts.calm), "seed {seed}");
    let wild = served("wild").await;
    assert!(
        count(&counts.wild_whole) <= wild && wild <= count(&counts.wild_sent),
        "seed {seed}: {wild} of {counts:?}"
    );
    println!("{counts:?}, {} connections to the endpoint", endpoint.count());
}
