//! Shares: exact for each unit, right in all, and moved by an edit only where they must.

use std::fmt::Write as _;

use super::{Library, assert_share, count, one_split, units, variants_yaml};
use crate::support::load::{Plain, answered_by, get_by};
use crate::support::proxy::{HEAD, tcp};
use crate::support::{Ask, BOTH, Proxy, Via};

const CONNECTIONS: usize = 8;

/// Three upstreams and a split of 90, 9 and 1 percent.
const SHOP: [(&str, &str); 3] = [("blue", "90%"), ("green", "9%"), ("canary", "1%")];

/// A variant and its share.
type Arm = (&'static str, &'static str);

async fn shop() -> [Plain; 3] {
    [Plain::named("blue").await, Plain::named("green").await, Plain::named("canary").await]
}

fn yaml(arms: &[Plain]) -> String {
    Plain::yaml(&arms.iter().collect::<Vec<_>>())
}

/// Who answered each of `units`.
async fn variants_of(proxy: &Proxy, path: &str, units: &[String]) -> Vec<String> {
    let requests = units.iter().map(|unit| get_by(path, "x-user-id", unit)).collect();
    answered_by(proxy.address, CONNECTIONS, requests).await
}

/// The numbers of the units that are in `variant`.
fn members(answers: &[String], variant: &str) -> Vec<usize> {
    answers.iter().enumerate().filter(|(_, answer)| *answer == variant).map(|(unit, _)| unit).collect()
}

fn is_big() -> bool {
    std::env::var_os("WEIR_BIG").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_units_gets_the_variant_that_the_library_gives_and_shares_are_right() {
    let arms = shop().await;
    let split = format!("key: [header:x-user-id], {}", variants_yaml(&SHOP));
    let proxy = one_split(&yaml(&arms), &split).await;
    let units = units(200_000);
    let answers = variants_of(&proxy, "/", &units).await;
    assert_eq!(answers.len(), units.len());
    let expected = Library::new("checkout", &SHOP).all(&units);
    let wrong = answers.iter().zip(&expected).filter(|(answer, expected)| answer != expected).count();
    assert_eq!(wrong, 0, "units that another variant got");
    for (name, share) in [("blue", 0.90), ("green", 0.09), ("canary", 0.01)] {
        assert_share(count(&answers, name), units.len(), share, name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ramp_by_editing_the_file_moves_exactly_the_expected_units_and_none_out_of_canary() {
    let arms = shop().await;
    let with = |canary: &str| {
        let variants = variants_yaml(&[SHOP[0], SHOP[1], ("canary", canary)]);
        format!(
            "{HEAD}{}splits: {{ checkout: {{ key: [header:x-user-id], {variants} }} }}\nroutes: [{{ split: checkout \
             }}]\n",
            yaml(&arms)
        )
    };
    let units = units(if is_big() { 200_000 } else { 8_000 });
    let proxy = Proxy::start_whole(&with("0%")).await;
    let mut before: Vec<String> = Library::new("checkout", &[SHOP[0], SHOP[1]]).all(&units);
    for (step, share) in [("0%", 0.0), ("1%", 0.01), ("5%", 0.05), ("25%", 0.25), ("91%", 0.91)] {
        if step != "0%" {
            proxy.replace(&with(step)).await;
        }
        let answers = variants_of(&proxy, "/", &units).await;
        let expected = Library::new("checkout", &[SHOP[0], SHOP[1], ("canary", step)]).all(&units);
        assert!(answers == expected, "at {step} some unit got another variant than the library gives");
        let canary = members(&answers, "canary");
        assert_share(canary.len(), units.len(), share, step);
        for (unit, (was, is)) in before.iter().zip(&answers).enumerate() {
            let kept = was == is || (was == "blue" && is == "canary");
            assert!(kept, "{} went from {was} to {is} at {step}", units[unit]);
        }
        before = answers;
    }
    proxy.replace(&with("5%")).await;
    let back = variants_of(&proxy, "/", &units).await;
    let expected = Library::new("checkout", &[SHOP[0], SHOP[1], ("canary", "5%")]).all(&units);
    assert!(back == expected, "the way back is not the way there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn share_of_nothing_takes_nobody_and_of_everything_takes_everybody() {
    let arms = shop().await;
    let rows = [
        ([("blue", ""), ("green", "0%"), ("canary", "0%")], "blue"),
        ([("blue", ""), ("green", "100%"), ("canary", "0%")], "green"),
        ([("blue", ""), ("green", "0%"), ("canary", "100%")], "canary"),
    ];
    for (variants, everybody) in rows {
        let split = format!("key: [header:x-user-id], {}", variants_yaml(&variants));
        let proxy = one_split(&yaml(&arms), &split).await;
        let answers = variants_of(&proxy, "/", &units(1_500)).await;
        assert_eq!(count(&answers, everybody), 1_500, "{variants:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_share_their_cohorts_by_salt_and_by_chance_only_without() {
    let arms = shop().await;
    let variants = variants_yaml(&[("blue", ""), ("canary", "20%")]);
    let proxy = Proxy::start(&format!(
        "{}splits:\n  a: {{ key: [header:x-user-id], {variants} }}\n  b: {{ key: [header:x-user-id], {variants} }}\n  \
         c: {{ key: [header:x-user-id], hash: {{ xxh3: {{ salt: a }} }}, {variants} }}\n  d: {{ key: \
         [header:x-user-id], hash: {{ xxh3: {{ salt: '' }} }}, {variants} }}\nroutes:\n  - {{ paths: [/a], split: a }}\n  \
         - {{ paths: [/b], split: b }}\n  - {{ paths: [/c], split: c }}\n  - {{ paths: [/d], split: d }}\n",
        yaml(&arms)
    ))
    .await;
    let units = units(4_000);
    let mut answers = Vec::new();
    for (path, salt) in [("/a", "a"), ("/b", "b"), ("/c", "a"), ("/d", "")] {
        let got = variants_of(&proxy, path, &units).await;
        assert!(got == Library::new(salt, &[("blue", ""), ("canary", "20%")]).all(&units), "{path}");
        assert_share(count(&got, "canary"), units.len(), 0.2, path);
        answers.push(got);
    }
    assert!(answers[0] == answers[2], "one salt, one cohort");
    let both = |one: &[String], other: &[String]| {
        one.iter().zip(other).filter(|(one, other)| *one == "canary" && *other == "canary").count()
    };
    for (one, other) in [(0, 1), (0, 3), (1, 3)] {
        assert_share(both(&answers[one], &answers[other]), units.len(), 0.04, "in canary twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unit_has_one_variant_on_every_route_listener_proxy_protocol_and_after_a_restart() {
    let arms = shop().await;
    let variants = [("blue", ""), ("green", "30%"), ("canary", "30%")];
    let text = format!(
        "workers: 2\nlisteners: [{{ bind: 127.0.0.1:0 }}, {{ bind: 127.0.0.2:0 }}]\n{}splits: {{ checkout: {{ key: \
         [header:x-user-id], {} }} }}\nroutes:\n  - {{ hosts: [a.test], split: checkout }}\n  - {{ paths: [/b/*], \
         split: checkout, rewrite: {{ prefix: / }} }}\n  - {{ split: checkout }}\n",
        yaml(&arms),
        variants_yaml(&variants)
    );
    let library = Library::new("checkout", &variants);
    let units = units(60);
    for run in ["first", "restarted"] {
        let (proxy, other) = (Proxy::start_whole(&text).await, Proxy::start_whole(&text).await);
        let second = tcp(&proxy.app.addresses()[1]);
        assert_ne!(second, proxy.address);
        for (index, unit) in units.iter().enumerate() {
            let places = [
                (proxy.address, "/", "shop.test"),
                (proxy.address, "/", "a.test"),
                (proxy.address, "/b/c", "shop.test"),
                (second, "/", "shop.test"),
                (other.address, "/", "shop.test"),
            ];
            // Each place with each protocol, but not each unit with each of them.
            for (number, (address, path, host)) in places.into_iter().enumerate() {
                let via = BOTH[(index + number) % 2];
                let ask = Ask::get(path).with("host", host).with("x-user-id", unit);
                let answer = ask.send(via, address).await;
                let row = format!("{run} {unit} {via:?} {address} {host}{path}");
                assert_eq!(answer.upstream(), library.variant(unit), "{row}");
            }
        }
        assert!(proxy.app.shutdown(crate::support::PATIENCE).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_and_names_move_only_the_units_that_they_must() {
    let arms = [
        Plain::named("base").await,
        Plain::named("one").await,
        Plain::named("two").await,
        Plain::named("three").await,
        Plain::named("four").await,
    ];
    let start = [("base", ""), ("one", "20%"), ("two", "20%"), ("three", "20%"), ("four", "20%")];
    // What stands in the file; which variants keep exactly their units.
    let rows: [(&str, [Arm; 5], &[&str]); 4] = [
        ("as it was", start, &["base", "one", "two", "three", "four"]),
        (
            "one is renamed",
            [start[0], ("uno", "20%"), start[2], start[3], start[4]],
            &["base", "two", "three", "four"],
        ),
        // The third and later variants have positions of their own, by their names.
        (
            "four is renamed",
            [start[0], start[1], start[2], start[3], ("quattro", "20%")],
            &["one", "two", "three"],
        ),
        ("three and four change places", [start[0], start[1], start[2], start[4], start[3]], &["one", "two"]),
    ];
    let units = units(3_000);
    let before = Library::new("checkout", &start).all(&units);
    for (what, variants, kept) in rows {
        let upstream = |name: &str| match name {
            "uno" => "one".to_owned(),
            "quattro" => "four".to_owned(),
            name => name.to_owned(),
        };
        let list: Vec<_> = variants
            .iter()
            .enumerate()
            .map(|(index, (name, share))| {
                let weight = if index == 0 { String::new() } else { format!(", weight: {share}") };
                format!("{{ name: {name}, upstream: {}{weight} }}", upstream(name))
            })
            .collect();
        let split = format!("key: [header:x-user-id], variants: [{}]", list.join(", "));
        let proxy = one_split(&yaml(&arms), &split).await;
        let answers = variants_of(&proxy, "/", &units).await;
        let expected: Vec<_> =
            Library::new("checkout", &variants).all(&units).iter().map(|name| upstream(name)).collect();
        assert!(answers == expected, "{what}: not as the library gives");
        for name in kept {
            assert_eq!(members(&answers, name), members(&before, name), "{what}: {name}");
        }
        for (name, _) in variants {
            assert_share(count(&answers, &upstream(name)), units.len(), 0.2, &format!("{what}: {name}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_vectors_hold_over_http_with_keys_in_a_header_and_in_a_query() {
    let upstream = Plain::named("one").await;
    let text = include_str!("../../golden/weir-split.jsonl");
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 600);
    let (mut splits, mut routes) = (String::new(), String::new());
    for (number, row) in rows.iter().enumerate() {
        let variants = row["variants"].as_array().unwrap().iter().map(|variant| {
            let weight =
                variant["ppm"].as_u64().map(|ppm| format!(", weight: {}.{:04}%", ppm / 10_000, ppm % 10_000));
            format!("{{ name: {}, upstream: one{} }}", variant["name"], weight.unwrap_or_default())
        });
        let _ = writeln!(
            splits,
            "  s{number}: {{ key: [header:x-user-id, query:u], expose: true, hash: {{ xxh3: {{ salt: {} }} }}, \
             variants: [{}] }}",
            row["salt"],
            variants.collect::<Vec<_>>().join(", ")
        );
        let _ = writeln!(routes, "  - {{ paths: [/{number}], split: s{number} }}");
    }
    let proxy =
        Proxy::start(&format!("{}splits:\n{splits}routes:\n{routes}", Plain::yaml(&[&upstream]))).await;
    let mut in_headers = 0;
    for (number, row) in rows.iter().enumerate() {
        let key = row["key"].as_str().unwrap();
        let encoded = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let mut asks = vec![Ask::get(&format!("/{number}?v=1&u={encoded}"))];
        if key == key.trim() && !key.chars().any(char::is_control) {
            in_headers += 1;
            asks.push(Ask::get(&format!("/{number}")).with("x-user-id", key));
        }
        for ask in asks {
            let answer = ask.send(if number % 5 == 0 { Via::Http2 } else { Via::Http1 }, proxy.address).await;
            let variant = String::from_utf8_lossy(answer.headers["x-weir-variant"].as_bytes());
            assert_eq!(variant, row["variant"].as_str().unwrap(), "line {} by {ask:?}", number + 1);
        }
    }
    assert!(in_headers > 300, "{in_headers}");
}
