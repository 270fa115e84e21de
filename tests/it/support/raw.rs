//! Peers that say exactly what a test wants said, byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::PATIENCE;

/// A client that sends bytes and reads bytes.
pub struct Client(pub TcpStream);

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Sends `bytes`.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the peer closes, or says nothing within `PATIENCE`.
    pub async fn read_to_end(&mut self) -> String {
        let mut read = Vec::new();
        // A reset after the response is an end too.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut read)).await.expect("the peer closes");
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads whatever comes next.
    pub async fn read_some(&mut self) -> Vec<u8> {
        let mut part = [0; 4096];
        let count = timeout(PATIENCE, self.0.read(&mut part)).await.expect("something comes").unwrap();
        part[..count].to_vec()
    }

    /// Reads until `pattern` has come; gives all that was read, which may be more.
    pub async fn read_until(&mut self, pattern: &str) -> String {
        let mut read = Vec::new();
        while find(&read, pattern.as_bytes()).is_none() {
            let mut part = [0; 4096];
            let count = timeout(PATIENCE, self.0.read(&mut part)).await.expect("the peer goes on").unwrap();
            assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&part[..count]);
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads one response: its head, and as much body as `content-length` says.
    pub async fn read_response(&mut self) -> String {
        let mut read = Vec::new();
        loop {
            if let Some(end) = find(&read, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"))
                    .map_or(0, |length| length.trim().parse::<usize>().unwrap());
                if read.len() >= end + 4 + length {
                    return String::from_utf8_lossy(&read).into_owned();
                }
            }
            let mut part = [0; 4096];
            let count = timeout(PATIENCE, self.0.read(&mut part)).await.expect("the peer answers").unwrap();
            assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&part[..count]);
        }
    }

    /// Whether the peer closes within `limit`.
    pub async fn is_closed_within(&mut self, limit: Duration) -> bool {
        let mut part = [0; 1024];
        loop {
            match timeout(limit, self.0.read(&mut part)).await {
                Err(_) => return false,
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(_)) => {}
            }
        }
    }
}

/// Sends `bytes` on a new connection and reads all that comes back.
pub async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut client = Client::connect(address).await;
    client.send(bytes).await;
    client.read_to_end().await
}

/// The status of a raw response; 1xx responses before it do not count.
pub fn status(response: &str) -> u16 {
    if let Some((_, rest)) = response.split_once("\r\n\r\n").filter(|_| response.starts_with("HTTP/1.1 1")) {
        return status(rest);
    }
    let status = response.split(' ').nth(1).and_then(|status| status.get(..3));
    status.and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {response:?}"))
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

/// Reads a request's head, and whatever came with it; `None` when the peer closes before its end.
pub async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while find(&head, b"\r\n\r\n").is_none() {
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => head.extend_from_slice(&part[..count]),
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Reads and throws away until the peer closes; gives how many bytes came, and whether it closed in good order.
pub async fn drain(stream: &mut TcpStream) -> (usize, bool) {
    let (mut total, mut part) = (0, vec![0; 65536]);
    loop {
        match stream.read(&mut part).await {
            Ok(0) => return (total, true),
            Ok(count) => total += count,
            Err(_) => return (total, false),
        }
    }
}

/// An upstream that reads a request's head on each connection and then does what `script` says. It ends when dropped.
pub struct Scripted {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections accepted so far.
    pub connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Does `script` with each connection once a whole head was read; what came with the head is in the text too.
    pub async fn start<F, A>(script: F) -> Self
    where
        F: Fn(TcpStream, String) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let script = Arc::new(script);
        Self::accepting(move |mut stream| {
            let script = Arc::clone(&script);
            async move {
                if let Some(head) = read_head(&mut stream).await {
                    script(stream, head).await;
                }
            }
        })
        .await
    }

    /// Does `script` with each connection from its first byte on.
    pub async fn accepting<F, A>(script: F) -> Self
    where
        F: Fn(TcpStream) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                serving.spawn(script(stream));
            }
        });
        Self { address, connections, task }
    }

    /// How many connections came.
    pub fn count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Sends `bytes` as the answer to each request, then closes.
    pub async fn saying(bytes: &'static str) -> Self {
        Self::start(move |mut stream, _| async move {
            // The proxy may have gone.
            let _ = stream.write_all(bytes.as_bytes()).await;
            let _ = stream.shutdown().await;
        })
        .await
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}
