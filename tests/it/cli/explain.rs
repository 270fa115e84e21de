//! `weir explain`: what it says, and that the proxy does it.

use serde_json::{Value, json};

use super::{Folder, SHOP};
use crate::support::proxy::Proxy;
use crate::support::upstream::Upstream;

fn explain(folder: &Folder, args: &[&str]) -> Value {
    folder.weir(&[&["explain", "--output", "json"], args].concat()).json()
}

#[track_caller]
fn check_page(args: &[&str], expected: &str) {
    let folder = Folder::new(SHOP);
    let page = folder.weir(&[&["explain"], args].concat()).printed(0);
    assert!(page == expected, "{args:?}:\n{page}\ninstead of:\n{expected}");
}

#[test]
fn request_of_a_split_is_told_from_the_route_to_the_headers_that_are_sent() {
    check_page(
        &["-H", "x-user-id: 42", "-H", "x_user_id: 1", "GET", "http://shop.example.com/api/cart?a=b"],
        r#"request    GET /api/cart?a=b of shop.example.com
client     127.0.0.1 by listener web; trusted: identity and forwarding headers count
removed    x_user_id  is another spelling of a header that routing reads
route      cart, the 1st of 6, host shop.example.com, path /api/*
split      checkout
key        header:x-tenant-id  absent
           header:x-user-id    "42"
override   header:x-weir-override  absent
rules      staff      no: header:x-tenant-id in "internal"; it is absent
           free-tier  no: header:x-tier in "free"; it is absent
position   17739231498898832363 (96.1645%)
           = xxh3 of "checkout", 0x00, "42"
shares     of the split
           blue         90%  [ 1660206966633859645, 18262276632972456099)  ←
           green         9%  [                   0,  1660206966633859645)
           canary        1%  [18262276632972456099, 18446744073709551616)
variant    blue, by its share
upstream   blue: 127.0.0.1:1, 127.0.0.1:2
otherwise  503, when no endpoint takes it (up to 2 are tried)
sent       /cart?a=b of shop.example.com
           x-weir-variant: blue
           and forwarded, via, x-forwarded-for, x-forwarded-host, x-forwarded-proto, x-request-id
"#,
    );
}

#[test]
fn path_is_told_as_it_is_read_or_refused() {
    let folder = Folder::new(SHOP);
    let told =
        explain(&folder, &["-H", "x-user-id: 42", "http://shop.example.com/x/%2e./api/%63art?a=/../b"]);
    assert_eq!(told["request"]["target"], "/x/%2e./api/%63art?a=/../b");
    assert_eq!(told["request"]["read_as"], "/api/cart?a=/../b");
    assert_eq!(told["route"]["path"], "/api/*");
    assert_eq!(told["sent"]["target"], "/cart?a=/../b");
    let told = explain(&folder, &["http://shop.example.com/x/..%2fapi"]);
    assert_eq!(told["answer"]["error"], "ambiguous_path");
}

#[test]
fn absolute_target_and_headers_with_an_underscore_are_told_as_the_proxy_takes_them() {
    check_page(
        &[
            "--listener",
            "plain",
            "--absolute",
            "-H",
            "host: other.example.com",
            "-H",
            "x_user_id: 1",
            "-H",
            "x_trace: 2",
            "https://shop.example.com:80/upload",
        ],
        "request    GET /upload of shop.example.com:80
client     127.0.0.1 by listener plain; trusted: identity and forwarding headers count
removed    x_user_id  is another spelling of a header that routing reads
           x_trace    has `_` in its name, and the listener removes such
route      upload, the 4th of 6, host shop.example.com, path /upload
upstream   green: 127.0.0.1:3
otherwise  503, when no endpoint takes it (up to 2 are tried)
sent       /upload of shop.example.com:80
           and forwarded, via, x-forwarded-for, x-forwarded-host, x-forwarded-proto, x-request-id
",
    );
}

#[test]
fn rule_that_decides_is_told_and_nothing_that_was_not_looked_at() {
    check_page(
        &["-H", "x-tenant-id: internal", "http://eu.shop.example.com/api/cart"],
        r#"request    GET /api/cart of eu.shop.example.com
client     127.0.0.1 by listener web; trusted: identity and forwarding headers count
route      cart, the 1st of 6, host *.shop.example.com, path /api/*
split      checkout
key        header:x-tenant-id  "internal"
           header:x-user-id    not looked at
override   header:x-weir-override  absent
rules      staff      yes
           free-tier  not looked at
variant    canary, pinned by the rule staff
upstream   canary: 127.0.0.1:4
otherwise  the baseline, labelled `fallback`, when no endpoint takes it (up to 2 are tried)
sent       /cart of eu.shop.example.com
           x-weir-variant: canary
           and forwarded, via, x-forwarded-for, x-forwarded-host, x-forwarded-proto, x-request-id
"#,
    );
}

#[test]
fn visitor_without_a_key_then_the_arms_are_told_and_none_is_chosen() {
    check_page(
        &["--listener", "open", "http://shop.example.com/session"],
        "request    GET /session of shop.example.com
client     127.0.0.1 by listener open; everybody's identity headers count
route      session, the 2nd of 6, host shop.example.com, path /session
split      session
key        cookie:sid        absent
           cookie:weir-unit  absent
           none: a session id is minted, and set as the cookie `weir-unit`
shares     of the split
           blue        50%  [ 9223372036854775808, 18446744073709551616)  to blue
           green       50%  [                   0,  9223372036854775808)  to green
variant    drawn with the session id, which keeps it from then on
sent       /session of shop.example.com
           x-weir-variant: the variant drawn
           and forwarded, via, x-forwarded-for, x-forwarded-host, x-forwarded-proto, x-request-id
",
    );
}

#[test]
fn request_that_no_route_takes_then_each_route_says_why_not() {
    check_page(
        &["-H", "x-user-id: 1", "--peer", "192.0.2.1", "http://shop.example.com/beta"],
        "request    GET /beta of shop.example.com
client     192.0.2.1 by listener web; not trusted: identity headers are removed
removed    x-user-id  carries identity, and the peer is not trusted
answer     404 no_route: no route takes this request
routes     cart     path /api/*
           session  path /session
           strict   path /strict
           upload   path /upload
           old      path /old/*
           beta     header:x-beta present; it is absent
",
    );
}

#[test]
fn refused_request_is_explained_with_the_status_and_the_code_that_the_client_gets() {
    let folder = Folder::new(SHOP);
    let long = format!("x-user-id: {}", "k".repeat(1025));
    let shop = |path: &str| format!("http://shop.example.com{path}");
    let rows: [(&[&str], &str, u64, &str, &str); 14] = [
        (&["GET"], "http://other.example.com/", 421, "unknown_host", "this host is not served here"),
        (&["GET"], &shop("/nowhere"), 404, "no_route", "no route takes this request"),
        (&["PUT"], &shop("/api/x"), 405, "method_not_allowed", "only GET, HEAD, POST"),
        (&["TRACE"], &shop("/api/x"), 405, "method_refused", "this method is not served"),
        (&["GET"], "*", 400, "bad_target", "not a path"),
        (&["GET"], "/api/x", 400, "bad_host", "exactly one valid host"),
        (&["-H", "host: a", "-H", "host: b"], "/api/x", 400, "bad_host", "exactly one valid host"),
        (
            &["--listener", "public", "--absolute", "-H", "host: b"],
            &shop("/api/x"),
            400,
            "bad_host",
            "exactly one valid host",
        ),
        (
            &["--listener", "public", "--absolute"],
            "https://shop.example.com/api/x",
            421,
            "misdirected",
            "encrypted connection",
        ),
        (
            &["--listener", "public", "-H", "x-a: 1", "-H", "X_A: 1"],
            &shop("/api/x"),
            400,
            "underscore_header",
            "`x_a`",
        ),
        (&["GET"], &shop("/strict"), 400, "missing_key", "the request has none"),
        (&["-H", &long], &shop("/strict"), 400, "key_too_long", "1025 bytes"),
        (
            &["-H", "x-user-id: 1", "-H", "x-user-id: 2"],
            &shop("/strict"),
            400,
            "ambiguous_key",
            "the header `x-user-id` appears more than once",
        ),
        (&["-H", "content-length: 11", "POST"], &shop("/upload"), 413, "body_too_large", "too large"),
    ];
    for (args, url, status, code, part) in rows {
        let told = explain(&folder, &[args, &[url]].concat());
        let answer = &told["answer"];
        assert_eq!(
            (&answer["status"], &answer["error"]),
            (&json!(status), &json!(code)),
            "{args:?} {told:#}"
        );
        assert!(answer["why"].as_str().unwrap().contains(part), "{args:?} {answer}");
        let header = |name: &str| {
            let headers = answer["headers"].as_array().unwrap();
            headers.iter().find(|field| field["name"] == name).map(|field| field["value"].clone())
        };
        assert_eq!(header("x-weir-error"), Some(json!(code)));
        assert_eq!(header("allow").is_some(), status == 405, "{answer}");
        assert_eq!((&told["upstream"], &told["sent"]), (&Value::Null, &Value::Null), "{told:#}");
    }
    let old = explain(&folder, &["https://shop.example.com/old/x?y=z"]);
    let headers =
        json!([{ "name": "location", "value": "https://shop.example.com/new?y=z", "from_client": false }]);
    assert_eq!(old["answer"], json!({ "status": 302, "error": null, "why": null, "headers": headers }));
}

#[test]
fn json_tells_each_step_under_a_stable_name() {
    let folder = Folder::new(SHOP);
    let args = ["-H", "x-user-id: 7", "-H", "x-tier: free", "POST", "http://shop.example.com/api/cart"];
    let mut told = explain(&folder, &args);
    let headers = told["sent"]["headers"].take();
    let expected = json!({
        "request": { "method": "POST", "target": "/api/cart", "read_as": null, "host": "shop.example.com" },
        "client": { "peer": "127.0.0.1", "listener": "web", "trusted": true, "address": "127.0.0.1" },
        "removed": [],
        "route": {
            "name": "cart", "place": 1, "of": 6, "host": "shop.example.com", "path": "/api/*", "action": "split",
        },
        "obstacles": [],
        "rate_limit": null,
        "split": {
            "name": "checkout",
            "sources": [
                { "source": "header:x-tenant-id", "outcome": "absent", "value": null },
                { "source": "header:x-user-id", "outcome": "key", "value": "7" },
            ],
            "key": { "source": "header:x-user-id", "text": "7" },
            "missing": "baseline",
            "mints": null,
            "override": { "place": "header:x-weir-override", "outcome": "absent" },
            "rules": [
                {
                    "name": "staff", "outcome": "fails",
                    "condition": "header:x-tenant-id in \"internal\"", "found": null,
                },
                { "name": "free-tier", "outcome": "matches", "condition": null, "found": null },
            ],
            "hash": { "algorithm": "xxh3", "salt": "checkout" },
            "position": "1811557949067490289",
            "shares": {
                "rule": "free-tier",
                "arms": [
                    {
                        "variant": "blue", "upstream": "blue", "share": "80%", "from": "0",
                        "to": "14757395258967641292", "own": false, "own_position": null, "chosen": true,
                    },
                    {
                        "variant": "green", "upstream": "green", "share": "0%", "from": null, "to": null,
                        "own": false, "own_position": null, "chosen": false,
                    },
                    {
                        "variant": "canary", "upstream": "canary", "share": "20%", "from": "14757395258967641292",
                        "to": "18446744073709551616", "own": false, "own_position": null, "chosen": false,
                    },
                ],
            },
            "variant": "blue",
            "reason": "rule",
            "rule": "free-tier",
            "by_chance": false,
        },
        "upstream": {
            "name": "blue", "protocol": "http1", "endpoints": ["127.0.0.1:1", "127.0.0.1:2"], "attempts": 2,
            "on_unavailable": "error",
        },
        "sent": { "target": "/cart", "host": "shop.example.com", "headers": null },
        "answer": null,
    });
    assert_eq!(told, expected);
    let field = |name: &str| headers.as_array().unwrap().iter().find(|field| field["name"] == name).unwrap();
    assert_eq!(*field("x-user-id"), json!({ "name": "x-user-id", "value": "7", "from_client": true }));
    assert_eq!(
        *field("x-weir-variant"),
        json!({ "name": "x-weir-variant", "value": "blue", "from_client": false })
    );
    assert_eq!(field("x-request-id")["value"], Value::Null, "it is made for each request");
}

#[test]
fn token_of_the_command_is_honoured_for_its_unit_and_from_trusted_peers() {
    let folder = Folder::new(SHOP);
    let token = folder.weir(&["token", "-s", "checkout", "-v", "canary", "-u", "42", "-e", "8h"]).printed(0);
    let header = format!("x-weir-override: {}", token.trim_end());
    let url = "http://shop.example.com/api/cart";
    for (args, outcome, variant, reason) in [
        (&["-H", "x-user-id: 42", "-H", &header][..], json!("honoured"), "canary", "override"),
        (&["-H", "x-user-id: 43", "-H", &header], json!("other_unit"), "blue", "weights"),
        (
            &["-H", "x-user-id: 42", "-H", "x-weir-override: canary"],
            json!("bare_not_allowed"),
            "blue",
            "weights",
        ),
        (&["-H", "x-user-id: 42", "-H", &header, "--peer", "192.0.2.1"], json!("absent"), "blue", "missing"),
    ] {
        let told = explain(&folder, &[args, &[url]].concat());
        let split = &told["split"];
        assert_eq!(split["override"]["outcome"], outcome, "{args:?}");
        assert_eq!((&split["variant"], &split["reason"]), (&json!(variant), &json!(reason)), "{args:?}");
        let sent = told["sent"]["headers"].to_string();
        assert!(!sent.contains("x-weir-override"), "an override is not for the upstream: {sent}");
    }
}

/// A method, a path, and headers.
type Asked<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>);

#[tokio::test]
async fn explanation_is_what_the_proxy_does() {
    let (blue, green) = (Upstream::named("blue").await, Upstream::named("green").await);
    let canary = Upstream::named("canary").await;
    let text = SHOP
        .replace("[127.0.0.1:1, 127.0.0.1:2]", &format!("['{}']", blue.address))
        .replace("[127.0.0.1:3]", &format!("['{}']", green.address))
        .replace("[127.0.0.1:4]", &format!("['{}']", canary.address));
    let folder = Folder::new(&text);
    let shared = text.replace("override.key", folder.path().join("override.key").to_str().unwrap());
    let proxy = Proxy::start_whole(&shared).await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let token = folder.weir(&["token", "-s", "checkout", "-v", "green"]).printed(0);
    let forced = ("x-weir-override", token.trim_end());
    let mut requests: Vec<Asked<'_>> = vec![
        ("GET", "/api/cart", vec![]),
        ("GET", "/api/cart", vec![("x-tenant-id", "internal")]),
        ("GET", "/api/cart", vec![("x-user-id", "1"), ("x-user-id", "2")]),
        ("GET", "/api/cart", vec![("x-user-id", "1"), forced]),
        ("GET", "/api/cart", vec![("x-user-id", "1"), ("connection", "x-user-id")]),
        ("GET", "/api/cart", vec![("x-user-id", "1"), ("x-weir-variant", "canary"), ("x_tenant_id", "2")]),
        (
            "GET",
            "/api/cart",
            vec![("x-user-id", "1"), ("x-forwarded-for", "192.0.2.1"), ("x-request-id", "a-1")],
        ),
        ("PUT", "/api/cart", vec![]),
        ("HEAD", "/api/cart?x", vec![("x-user-id", "3")]),
        ("TRACE", "/api/cart", vec![]),
        ("GET", "/strict", vec![]),
        ("GET", "/session", vec![("cookie", "a=b; sid=77")]),
        ("GET", "/beta", vec![]),
        ("GET", "/beta", vec![("x-beta", "")]),
        ("GET", "/old/a?b", vec![]),
        ("GET", "/old/a?b", vec![("x-forwarded-proto", "https")]),
        ("GET", "/nowhere", vec![]),
    ];
    let users: Vec<String> = (0..40).map(|user| format!("user-{user}")).collect();
    for user in &users {
        requests.push(("GET", "/api/cart", vec![("x-user-id", user), ("x-tier", "free")]));
        requests.push(("GET", "/session", vec![("cookie", user), ("x-user-id", user)]));
    }
    for (method, path, headers) in requests {
        let url = format!("http://shop.example.com{path}");
        let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let mut args: Vec<&str> = lines.iter().flat_map(|line| ["-H", line]).collect();
        args.extend([method, &url]);
        let told = explain(&folder, &args);

        let mut request =
            client.request(method.parse().unwrap(), proxy.url(path)).header("host", "shop.example.com");
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let got = |name: &str| response.headers().get(name).map(|value| json!(value.to_str().unwrap()));
        if told["answer"].is_null() {
            let asked = got("x-upstream").unwrap_or_else(|| panic!("{args:?}: {response:?}"));
            let upstreams = [("blue", &blue), ("green", &green), ("canary", &canary)];
            let (_, upstream) = upstreams.into_iter().find(|(name, _)| asked == *name).unwrap();
            if told["split"]["by_chance"] == json!(true) {
                assert!(got("set-cookie").is_some(), "{args:?}");
                continue;
            }
            assert_eq!(told["upstream"]["name"], asked, "{args:?}");
            check_sent(&told["sent"], &upstream.last());
        } else {
            assert_eq!(told["answer"]["status"], json!(response.status().as_u16()), "{args:?}");
            assert_eq!(
                Some(&told["answer"]["error"]),
                got("x-weir-error").or(Some(Value::Null)).as_ref(),
                "{args:?}"
            );
            for name in ["location", "allow", "content-type"] {
                let fields = told["answer"]["headers"].as_array().unwrap();
                let field =
                    fields.iter().find(|field| field["name"] == name).map(|field| field["value"].clone());
                assert_eq!(field, got(name), "{args:?} {name}");
            }
        }
    }
}

/// Whether an upstream saw what the explanation says, to the last header.
#[track_caller]
fn check_sent(told: &Value, seen: &crate::support::upstream::Seen) {
    assert!(seen.target.ends_with(told["target"].as_str().unwrap()), "{} {told}", seen.target);
    let mut expected: Vec<_> = told["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["name"].as_str().unwrap().to_owned(), field["value"].as_str().map(str::to_owned)))
        .collect();
    let mut saw: Vec<_> = seen
        .headers
        .iter()
        // The client adds `accept`; the host stands elsewhere.
        .filter(|(name, _)| !["host", "accept"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), Some(value.to_str().unwrap().to_owned())))
        .collect();
    expected.sort();
    saw.sort();
    assert_eq!(saw.len(), expected.len(), "{saw:?} {expected:?}");
    for (saw, expected) in saw.iter().zip(&expected) {
        assert_eq!(saw.0, expected.0);
        assert!(expected.1.is_none() || saw.1 == expected.1, "{saw:?} {expected:?}");
    }
}

#[test]
fn rate_limit_is_explained_with_the_unit_that_it_counts() {
    let folder = Folder::new(
        "listeners: [{ bind: 127.0.0.1:8080 }]\nupstreams: { one: { endpoints: [127.0.0.1:1] } }\nroutes: [{ upstream: one, \
         rate_limit: { key: [header:x-tenant-id, path:1], per_minute: 2.5 } }]\n",
    );
    let tenant = ["-H", "x-tenant-id: 7", "http://a/b"];
    assert_eq!(
        explain(&folder, &tenant)["rate_limit"],
        json!({ "requests": "2.5", "seconds": 60, "burst": 1, "source": "header:x-tenant-id", "unit": "7" })
    );
    for (args, line) in [
        (&tenant[..], "limit      2.5 a minute, 1 at once, of header:x-tenant-id \"7\"\n"),
        (&["http://a/b"], "limit      2.5 a minute, 1 at once, of path:1 \"b\"\n"),
        (&["http://a/"], "limit      2.5 a minute, 1 at once, of all requests without a unit\n"),
        (&["-H", "x-tenant-id: 8", "-H", "x-tenant-id: 7", "http://a/"], "ambiguous_key"),
    ] {
        let page = folder.weir(&[&["explain"], args].concat()).printed(0);
        assert!(page.contains(line), "{args:?}: {page}");
    }
}
