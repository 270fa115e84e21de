//! Heads that are large in one way or another, in each version of HTTP: they are refused or served, and the proxy has time
//! for others meanwhile.

use http::{HeaderValue, Request};

use crate::support::client::{Connection, empty};
use crate::support::raw::exchange;
use crate::support::stage::Settings;
use crate::support::{Stage, Upstream};

/// What a bomb is, its fields, and what comes of it over HTTP/1.1 and over HTTP/2.
type Row = (&'static str, Vec<(&'static str, String)>, [u16; 2]);

fn rows() -> Vec<Row> {
    let many = |count: usize, name, value: &str| (0..count).map(|_| (name, value.to_owned())).collect();
    let cookies =
        |count: usize| (0..count).map(|number| format!("c{number}=v; ")).collect::<Vec<_>>().concat();
    vec![
        ("one huge field", vec![("x-a", "b".repeat(100_000))], [431, 431]),
        ("one field that fits", vec![("x-a", "b".repeat(60_000))], [200, 200]),
        ("many small fields", many(1000, "x-a", "b"), [431, 431]),
        ("as many fields as fit", many(100, "x-a", "b"), [200, 200]),
        ("4000 cookies in a field", vec![("cookie", cookies(4000) + "id=1")], [200, 200]),
        ("10 000 cookies in a field", vec![("cookie", cookies(10_000) + "id=1")], [431, 431]),
        ("10 000 cookies, each in a field", many(10_000, "cookie", "a=b"), [431, 431]),
        ("a field of separators", vec![("cookie", ";".repeat(60_000))], [200, 200]),
        ("a list of nothing", vec![("x-forwarded-for", ",".repeat(60_000))], [200, 200]),
        ("a list of addresses", vec![("x-forwarded-for", "10.0.0.1,".repeat(6000))], [200, 200]),
        ("a connection that names much", vec![("connection", "a,".repeat(20_000))], [200, 0]),
    ]
}

#[tokio::test]
async fn large_heads_are_refused_or_served_and_others_meanwhile() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "trust: [127.0.0.0/8, 10.0.0.0/8]", ..Settings::default() };
    let split = format!(
        "upstreams:\n  one: {{ endpoints: ['{}'] }}\nsplits: {{ s: {{ key: ['cookie:id', client_ip], variants: [{{ name: one }}] }} \
         }}\n",
        upstream.address
    );
    // `upstreams` has to be last, for the stage puts its own behind it.
    let (upstreams, splits) = split.split_at(split.find("splits").unwrap());
    let stage =
        Stage::serving(settings.listener, &format!("{splits}{upstreams}"), "  - { split: s }\n").await;
    let well = "GET /well HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for (what, fields, expected) in rows() {
        let lines = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let lines = lines.collect::<Vec<_>>().concat();
        let bomb = format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}connection: close\r\n\r\n");
        let (bomb, other) =
            tokio::join!(exchange(stage.proxy.address, bomb), exchange(stage.proxy.address, well));
        assert!(other.starts_with("HTTP/1.1 200"), "{what}: {other}");
        // A client that is still sending may lose the answer with the connection.
        assert!(bomb.is_empty() || crate::support::raw::status(&bomb) == expected[0], "{what}: {bomb}");
        assert!(!bomb.is_empty() || expected[0] != 200, "{what}");
        if expected[1] == 0 {
            continue;
        }
        let mut client = Connection::new(stage.proxy.address, true).await;
        let mut request = Request::get("/").body(empty()).unwrap();
        for (name, value) in &fields {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        let (answer, other) = tokio::join!(client.send(request), exchange(stage.proxy.address, well));
        assert!(other.starts_with("HTTP/1.1 200"), "{what}: {other}");
        // Far over the limit the connection ends, and the client's library may know before it has sent all.
        match answer {
            Ok(answer) => assert_eq!(answer.status().as_u16(), expected[1], "{what} over HTTP/2"),
            Err(error) => assert_eq!(expected[1], 431, "{what} over HTTP/2: {error}"),
        }
        drop(client);
        stage.assert_in_order().await;
    }
}
