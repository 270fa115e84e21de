//! The load and the upstreams of `make bench-peers`: `peers-load upstream`, or `peers-load closed|open|idle name=value…`.
//!
//! Each is one thread over epoll, so that it costs much less than the proxy in between. A load prints one line of JSON
//! and judges nothing. Reading order: `job` (what is asked for), `request` and `response` (its bytes), `http1` and `http2`
//! with `hpack` and `huffman` (what is said on a connection), `stream` and `tls` (how it is carried), `client` (the
//! connections), `run` (when requests are sent), `tally` (what came of them), `upstream`.

mod client;
mod hpack;
mod http1;
mod http2;
mod huffman;
mod job;
mod request;
mod response;
mod run;
mod stream;
mod tally;
mod tls;
mod upstream;

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match command(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: &[String]) -> io::Result<()> {
    let Some((command, settings)) = arguments.split_first() else {
        return Err(io::Error::other("the first argument is upstream, closed, open or idle"));
    };
    if command == "upstream" {
        return upstream::serve();
    }
    let job = job::Job::read(settings).map_err(io::Error::other)?;
    match command.as_str() {
        "closed" => run::closed(&job),
        "open" => run::open(&job),
        "idle" => run::idle(&job),
        other => {
            Err(io::Error::other(format!("{other} is no command; they are upstream, closed, open and idle")))
        }
    }
}
