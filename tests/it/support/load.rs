//! Many requests at little cost: an upstream that says its name to every head it reads, and clients that send many
//! requests before they read.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::PATIENCE;

/// Requests that a client sends before it reads their responses.
const BATCH: usize = 32;

/// An upstream for requests without a body. It ends when dropped.
pub struct Plain {
    /// What it says in `x-upstream`.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Plain {
    /// Says `name` in `x-upstream`.
    pub async fn named(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nx-upstream: {name}\r\ncontent-length: 0\r\n\r\n");
        let task = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                serving.spawn(answer_heads(stream, answer.clone()));
            }
        });
        Self { name, address, task }
    }

    /// The section `upstreams` of `all`.
    pub fn yaml(all: &[&Self]) -> String {
        let rows = all.iter().map(|one| format!("  {}: {{ endpoints: ['{}'] }}\n", one.name, one.address));
        format!("upstreams:\n{}", rows.collect::<String>())
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_heads(mut stream: TcpStream, answer: String) {
    stream.set_nodelay(true).unwrap();
    let mut read = Vec::new();
    // The proxy may go at any time.
    while let Ok(1..) = stream.read_buf(&mut read).await {
        let (heads, rest) = complete(&read);
        read.drain(..rest);
        if stream.write_all(answer.repeat(heads).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// How many heads are complete in `bytes`, and where the last of them ends.
fn complete(bytes: &[u8]) -> (usize, usize) {
    let mut found = (0, 0);
    while let Some(end) = bytes[found.1..].windows(4).position(|window| window == b"\r\n\r\n") {
        found = (found.0 + 1, found.1 + end + 4);
    }
    found
}

/// The upstream that answered each of `requests`, sent over `connections` connections at once, many before the first
/// answer is read. Every response must be a 200 without a body.
pub async fn answered_by(address: SocketAddr, connections: usize, requests: Vec<String>) -> Vec<String> {
    let requests = Arc::new(requests);
    let part = requests.len().div_ceil(connections).max(1);
    let mut clients = JoinSet::new();
    for client in 0..connections {
        let requests = Arc::clone(&requests);
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mine = requests.iter().skip(client * part).take(part).collect::<Vec<_>>();
            let mut answers = Vec::with_capacity(mine.len());
            let mut read = Vec::new();
            for batch in mine.chunks(BATCH) {
                let sent: String = batch.iter().map(|request| request.as_str()).collect();
                stream.write_all(sent.as_bytes()).await.unwrap();
                let wanted = answers.len() + batch.len();
                while answers.len() < wanted {
                    let count =
                        timeout(PATIENCE, stream.read_buf(&mut read)).await.expect("an answer").unwrap();
                    assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&read));
                    let (_, end) = complete(&read);
                    let heads = std::str::from_utf8(&read[..end]).unwrap();
                    answers.extend(heads.split_terminator("\r\n\r\n").map(upstream));
                    read.drain(..end);
                }
            }
            (client, answers)
        });
    }
    let mut parts = clients.join_all().await;
    parts.sort_unstable_by_key(|(client, _)| *client);
    parts.into_iter().flat_map(|(_, answers)| answers).collect()
}

fn upstream(head: &str) -> String {
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let value = head.lines().find_map(|line| line.strip_prefix("x-upstream: "));
    value.unwrap_or_else(|| panic!("no upstream answered: {head}")).to_owned()
}

/// A GET of `path` by `unit`, named in `header`.
pub fn get_by(path: &str, header: &str, unit: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\n{header}: {unit}\r\n\r\n")
}
