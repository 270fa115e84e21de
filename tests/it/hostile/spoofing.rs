//! Strangers who say of themselves what only others may say: who the unit is, whence the request came, which variant it
//! has. Whatever way they say it, nothing of it reaches the upstream, and it decides nothing.

use tokio::io::AsyncWriteExt;

use super::http2::{drain_answer, frame, greeting};
use super::smuggling::{Seen, Strict, block};
use crate::support::proxy::tcp;
use crate::support::raw::{exchange, status};
use crate::support::tls::{Authority, Wanted};
use crate::support::{Proxy, until};

/// What is in every value that a stranger may not set.
const FORGED: &str = "forged";

/// Names that are settled by others, or by us.
const NAMES: [&str; 12] = [
    "x-tenant-id",
    "x_tenant_id",
    "x-tenant_id",
    "x-tier",
    "x-force",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x_forwarded_for",
    "forwarded",
    "x-forwarded-client-cert",
    "x-weir-variant",
];

/// What a stranger says: fields of the head, and trailers.
type Said = (Vec<(String, String)>, Vec<(String, String)>);

fn tricks() -> Vec<(String, Said)> {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut tricks = Vec::new();
    for name in NAMES {
        tricks.push((format!("{name} once"), (vec![field(name, FORGED)], vec![])));
        tricks
            .push((format!("{name} twice"), (vec![field(name, FORGED), field(name, "forged too")], vec![])));
        let around = vec![field(name, ""), field("x-other", "b"), field(name, FORGED)];
        tricks.push((format!("{name} behind an empty one"), (around, vec![])));
        tricks
            .push((format!("{name} in trailers"), (vec![field("trailer", name)], vec![field(name, FORGED)])));
    }
    let all: Vec<_> = NAMES.iter().map(|name| field(name, FORGED)).collect();
    tricks.push(("all at once, before and behind".to_owned(), (all.clone(), all)));
    tricks
}

/// A proxy whose listeners trust nobody: in the clear, and with HTTP/3.
async fn serving(upstream: &Strict, folder: &std::path::Path, authority: &Authority) -> Proxy {
    let leaf = authority.issue(&Wanted::of(&["shop.test"])).write(folder, "shop");
    let http3 = if cfg!(feature = "http3") { "http3: true, " } else { "" };
    let endpoint = upstream.upstream.address;
    Proxy::start_whole(&format!(
        "workers: 1\nlisteners:\n  - {{ bind: 127.0.0.1:0, trust: [] }}\n  - {{ bind: 127.0.0.1:0, trust: [], {http3}tls: {{ \
         certificates: [{leaf}] }} }}\nupstreams: {{ blue: {{ endpoints: ['{endpoint}'] }}, gold: {{ endpoints: ['{endpoint}'] }} \
         }}\nsplits:\n  s:\n    key: [header:x-tenant-id]\n    override: {{ header: x-force, bare_from: [127.0.0.0/8] }}\n    \
         variants: [{{ name: blue }}, {{ name: gold }}]\n    rules: [{{ when: [{{ value: header:x-tier, present: true }}], \
         variant: gold }}, {{ when: [{{ value: header:x-tenant-id, present: true }}], variant: gold }}]\nroutes:\n  - {{ when: [{{ \
         value: client_ip, cidr: [192.0.2.0/24] }}], respond: {{ status: 418 }} }}\n  - {{ split: s }}\n"
    ))
    .await
}

async fn one(strict: &Strict, proxy: &Proxy) -> Seen {
    let none = || async { (proxy.metric("weir_upstream_requests_active", &[]).await == 0.0).then_some(()) };
    until("the request has ended", none).await;
    let mut seen = strict.take();
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

fn check(what: &str, seen: &Seen, proto: &str) {
    let text = seen.text.to_ascii_lowercase();
    assert!(!text.contains(FORGED), "{what}: {text}");
    for line in ["x-forwarded-for: 127.0.0.1", &format!("x-forwarded-proto: {proto}"), "x-weir-variant: blue"]
    {
        assert_eq!(text.lines().filter(|known| known == &line).count(), 1, "{what}, {line}: {text}");
    }
    for name in ["x-forwarded-host", "forwarded", "x-request-id", "host"] {
        let is_it = |line: &&str| line.split(':').next() == Some(name);
        assert_eq!(text.lines().filter(is_it).count(), 1, "{what}, {name}: {text}");
    }
}

fn lines(fields: &[(String, String)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<Vec<_>>().concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_stranger_says_of_himself_counts_or_is_passed_on() {
    let strict = Strict::start().await;
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("servers"));
    let proxy = serving(&strict, folder.path(), &authority).await;
    for (what, (head, trailers)) in tricks() {
        // HTTP/1.1, in the case that upper-cased names may slip through by, too.
        for is_upper in [false, true] {
            let names = |text: String| {
                if is_upper { text.to_ascii_uppercase().replace("FORGED", FORGED) } else { text }
            };
            let head = names(lines(&head));
            let bytes = format!(
                "POST / HTTP/1.1\r\nhost: shop.test\r\n{head}connection: close\r\ntransfer-encoding: \
                 chunked\r\n\r\n2\r\nhi\r\n0\r\n{}\r\n",
                names(lines(&trailers))
            );
            let answer = exchange(proxy.address, bytes).await;
            assert_eq!(status(&answer), 200, "{what}: {answer}");
            check(&what, &one(&strict, &proxy).await, "http");
        }
        // HTTP/2.
        let mut client = crate::support::raw::Client::connect(proxy.address).await;
        let pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "shop.test"), (":path", "/")];
        let fields = |list: &[(String, String)], pseudo: &[(&str, &str)]| {
            let borrowed = list.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            block(&pseudo.iter().copied().chain(borrowed).collect::<Vec<_>>())
        };
        let mut frames = [greeting(), frame(1, 0x4, 1, &fields(&head, &pseudo))].concat();
        if trailers.is_empty() {
            frames.extend(frame(0, 0x1, 1, b"hi"));
        } else {
            frames.extend(frame(0, 0, 1, b"hi"));
            frames.extend(frame(1, 0x5, 1, &fields(&trailers, &[])));
        }
        client.0.write_all(&frames).await.unwrap();
        drain_answer(&mut client.0, &what).await;
        check(&what, &one(&strict, &proxy).await, "http");
        drop(client);
        #[cfg(feature = "http3")]
        {
            let address = tcp(&proxy.app.addresses()[1]);
            let mut client = crate::support::http3::Client::connect(&authority, address, "shop.test").await;
            let map = |fields: &[(String, String)]| -> http::HeaderMap {
                let mut map = http::HeaderMap::new();
                for (name, value) in fields {
                    let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                    map.append(name, value.parse().unwrap());
                }
                map
            };
            let mut request = http::Request::post("/").body(()).unwrap();
            *request.headers_mut() = map(&head);
            let mut stream = client.begin(request).await.unwrap();
            stream.send_data("hi".into()).await.unwrap();
            if !trailers.is_empty() {
                stream.send_trailers(map(&trailers)).await.unwrap();
            }
            stream.finish().await.unwrap();
            let answer = crate::support::http3::answer(&mut stream).await.unwrap();
            assert_eq!(answer.status(), 200, "{what}");
            check(&what, &one(&strict, &proxy).await, "https");
        }
    }
}

#[tokio::test]
async fn connection_cannot_take_away_what_we_say() {
    let strict = Strict::start().await;
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("servers"));
    let proxy = serving(&strict, folder.path(), &authority).await;
    let named = "x-forwarded-for, x-forwarded-proto, X-Forwarded-Host, forwarded, x-request-id, via, x-weir-variant, host, \
                 cookie2, content-length";
    for connection in [named, "close, x-weir-variant", "x-forwarded-for"] {
        for fields in ["", "x-forwarded-for: forged\r\nx-weir-variant: forged\r\n"] {
            let bytes = format!(
                "POST / HTTP/1.1\r\nhost: shop.test\r\nconnection: {connection}\r\n{fields}content-length: 2\r\n\r\nhiGET /next \
                 HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n"
            );
            let bytes = if connection.starts_with("close") {
                bytes.split("GET /next").next().unwrap().to_owned()
            } else {
                bytes
            };
            let count = bytes.matches(" HTTP/1.1").count();
            let answer = exchange(proxy.address, bytes).await;
            assert_eq!(answer.matches("HTTP/1.1 200").count(), count, "{connection}: {answer}");
            let seen = strict.take();
            assert_eq!(seen.len(), count, "{seen:?}");
            for seen in &seen {
                check(connection, seen, "http");
            }
        }
    }
}
