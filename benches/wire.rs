//! What reading and writing HTTP/1 costs: heads as browsers and services send them, and bodies in chunks.
//!
//! `cargo bench --bench wire`. It prints and asserts nothing.
#![expect(clippy::unwrap_used, reason = "the messages are fixed, and a benchmark has nobody to report to")]

use std::fmt::Write;
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir::wire::chunked::{last_chunk, size_line};
use weir::wire::{Chunked, RequestHead, ResponseHead};

/// What a service sends; a browser adds the others.
const FIELDS: &[(&str, &str)] = &[
    ("Host", "shop.example.com"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("X-User-Id", "user-4711"),
    ("Connection", "keep-alive"),
    ("Accept-Language", "en-GB,en;q=0.7,de;q=0.3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "https://shop.example.com/catalogue/shoes?page=3&sort=price"),
    ("Cookie", "session=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; theme=dark"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-User", "?1"),
    ("Priority", "u=0, i"),
    ("Pragma", "no-cache"),
    ("Cache-Control", "no-cache"),
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-Proto", "https"),
    ("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
];

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: upstream/1.2\r\n\
    Date: Tue, 14 Jul 2026 09:26:53 GMT\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 128\r\n\
    Cache-Control: private, max-age=0\r\n\
    ETag: \"5d8c72a5edda8d6a\"\r\n\
    Vary: Accept-Encoding\r\n\
    Connection: keep-alive\r\n\r\n";

/// The size of a body, and of each of its chunks.
const BODY: usize = 64 * 1024;
const CHUNK: usize = 16 * 1024;

fn request(fields: usize) -> Vec<u8> {
    let mut text = String::from("GET /catalogue/shoes/42?colour=red&size=43 HTTP/1.1\r\n");
    for (name, value) in &FIELDS[..fields] {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire/parse_request");
    for fields in [5, 20] {
        let text = request(fields);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{fields}_fields")), |bench| {
            bench.iter(|| RequestHead::parse(black_box(&text)));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("wire/write_request");
    for fields in [5, 20] {
        let text = request(fields);
        let (mut head, _) = RequestHead::parse(&text).unwrap().unwrap();
        // As a proxy does: what is between two hops goes, something is added.
        head.fields.remove("connection");
        head.fields.append("via", b"1.1 weir");
        let mut out = Vec::with_capacity(4096);
        group.bench_function(BenchmarkId::from_parameter(format!("{fields}_fields")), |bench| {
            bench.iter(|| {
                out.clear();
                head.write(black_box(head.path_and_query()), &mut out);
                black_box(out.len())
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("parse_response/8_fields", |bench| {
        bench.iter(|| ResponseHead::parse(black_box(RESPONSE)));
    });
    let (mut head, _) = ResponseHead::parse(RESPONSE).unwrap().unwrap();
    head.fields.remove("connection");
    head.fields.append("via", b"1.1 weir");
    let mut out = Vec::with_capacity(4096);
    group.bench_function("write_response/8_fields", |bench| {
        bench.iter(|| {
            out.clear();
            black_box(&head).write(&mut out);
            black_box(out.len())
        });
    });
    group.finish();
}

fn chunks(criterion: &mut Criterion) {
    let mut body = Vec::new();
    for _ in 0..BODY / CHUNK {
        size_line(CHUNK, &mut body);
        body.resize(body.len() + CHUNK, b'x');
        body.extend_from_slice(b"\r\n");
    }
    last_chunk(None, &mut body);
    let mut group = criterion.benchmark_group("wire/decode_chunked");
    group.throughput(Throughput::Bytes(BODY as u64));
    group.bench_function("64KiB_in_16KiB", |bench| {
        bench.iter_batched_ref(
            || body.clone(),
            |body| Chunked::default().read(black_box(body)),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, heads, chunks);
criterion_main!(benches);
