//! Paths that are written to be read in two ways: a route is chosen by what the upstream gets, whoever asks in whichever
//! protocol, and the log has what was asked for.

use crate::support::{Arms, Ask, BOTH, Proxy, until};

/// Listeners by the default, with every knob turned to refuse, and as sent.
const LISTENERS: &str = "workers: 1\naccess_log: { path: access.log }\nlisteners:\n  - { bind: 127.0.0.1:0 }\n  - { bind: \
                         127.0.0.2:0, paths: { dot_segments: refuse, slashes: refuse, hidden_slashes: refuse } }\n  - { \
                         bind: 127.0.0.3:0, paths: { dot_segments: keep, escapes: keep, ambiguous: keep } }\n  - { bind: \
                         127.0.0.4:0, paths: { slashes: merge, hidden_slashes: decode } }\n";

const ROUTES: &str = "routes:\n  - { paths: [/admin/*], upstream: admin }\n  - { paths: [/shop/*], rewrite: { prefix: \
                      /inner }, upstream: shop }\n  - { paths: [/root/*], rewrite: { prefix: / }, upstream: shop }\n  - { \
                      paths: ['~/v[0-9]+/x'], upstream: admin }\n  - { when: [{ value: 'path:2', in: [vip] }], upstream: \
                      vip }\n  - { upstream: rest }\n";

#[tokio::test]
async fn route_is_chosen_by_what_the_upstream_gets() {
    let arms = Arms::start(&["admin", "shop", "vip", "rest"]).await;
    for protocol in ["http1", "http2"] {
        let upstreams = arms.yaml().replace(" }\n", &format!(", protocol: {protocol} }}\n"));
        let proxy = Proxy::start_whole(&format!("{LISTENERS}{upstreams}{ROUTES}")).await;
        let addresses: Vec<_> = proxy.app.addresses().iter().map(crate::support::proxy::tcp).collect();
        let refused = "400 ambiguous_path";
        // What is asked for; by each of the listeners: who answers and what it was sent, or the refusal.
        let rows: &[(&str, [&str; 4])] = &[
            ("/admin/x?a=/../b", ["admin /admin/x?a=/../b"; 4]),
            ("/a.b/.c/..d/e..", ["rest /a.b/.c/..d/e.."; 4]),
            ("/a/../admin/x", ["admin /admin/x", refused, "rest /a/../admin/x", "admin /admin/x"]),
            (
                "/a/%2e%2E/admin/x?q",
                ["admin /admin/x?q", refused, "rest /a/%2e%2E/admin/x?q", "admin /admin/x?q"],
            ),
            ("/admin/../x", ["rest /x", refused, "admin /admin/../x", "rest /x"]),
            ("/admin/..", ["rest /", refused, "admin /admin/..", "rest /"]),
            ("/./admin/.", ["admin /admin/", refused, "rest /./admin/.", "admin /admin/"]),
            ("/..", ["rest /", refused, "rest /..", "rest /"]),
            ("/../../admin", ["admin /admin", refused, "rest /../../admin", "admin /admin"]),
            ("/a;x/../admin", ["admin /admin", refused, "rest /a;x/../admin", "admin /admin"]),
            ("/%61dmin/x", ["admin /admin/x", "admin /admin/x", "rest /%61dmin/x", "admin /admin/x"]),
            ("/a/%76ip", ["vip /a/vip", "vip /a/vip", "vip /a/%76ip", "vip /a/vip"]),
            ("/x/../a/vip", ["vip /a/vip", refused, "rest /x/../a/vip", "vip /a/vip"]),
            ("/v1/../v2/%78", ["admin /v2/x", refused, "rest /v1/../v2/%78", "admin /v2/x"]),
            ("//admin/x", ["rest //admin/x", refused, "rest //admin/x", "admin /admin/x"]),
            ("/a//../admin/x", ["rest /a/admin/x", refused, "rest /a//../admin/x", "admin /admin/x"]),
            ("/admin%2fx", ["rest /admin%2Fx", refused, "rest /admin%2fx", "admin /admin/x"]),
            ("/admin\\x", ["rest /admin\\x", refused, "rest /admin\\x", "admin /admin/x"]),
            ("/admin/..%2fx", [refused, refused, "admin /admin/..%2fx", "rest /x"]),
            ("/admin/..%5cx", [refused, refused, "admin /admin/..%5cx", "rest /x"]),
            ("/admin/..\\x", [refused, refused, "admin /admin/..\\x", "rest /x"]),
            ("/a/..;/admin", [refused, refused, "rest /a/..;/admin", refused]),
            ("/a/%252e%252e/admin", [refused, refused, "rest /a/%252e%252e/admin", refused]),
            ("/a/%c0%ae%c0%ae/admin", [refused, refused, "rest /a/%c0%ae%c0%ae/admin", refused]),
            ("/admin%00", [refused, refused, "rest /admin%00", refused]),
            ("/admin/%u002e./x", [refused, refused, "admin /admin/%u002e./x", refused]),
            // A rewrite makes no dots where there were none.
            ("/shop/a/../b", ["shop /inner/b", refused, "shop /inner/a/../b", "shop /inner/b"]),
            ("/shop/../x", ["rest /x", refused, "shop /inner/../x", "rest /x"]),
            ("/root/\\../x", [refused, refused, refused, "rest /x"]),
            ("/root/\\.x", ["shop /.x", refused, "shop /.x", "shop /.x"]),
        ];
        let mut asked = Vec::new();
        for (target, expected) in rows {
            for (address, expected) in addresses.iter().zip(expected) {
                for via in BOTH {
                    let answer = Ask::get(target).send(via, *address).await;
                    let got = match answer.upstream() {
                        "" => answer.outcome(),
                        name => {
                            let target = arms.last(name).target;
                            format!(
                                "{name} {}",
                                target.split_once("shop.test").map_or(&*target, |(_, path)| path)
                            )
                        }
                    };
                    assert_eq!(got, *expected, "{target} at {address} {via:?} before {protocol}");
                    asked.push(target.split('?').next().unwrap());
                }
            }
        }
        let log = proxy.folder.path().join("access.log");
        let lines = until("all are logged", || async {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            (text.lines().count() == asked.len()).then_some(text)
        })
        .await;
        for (line, asked) in lines.lines().zip(asked) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["path"], asked, "{line}");
        }
    }
}
