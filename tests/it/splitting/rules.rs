//! Rules before weights: which of them decides, and what it decides.

use super::{Library, one_split, units, variants_yaml};
use crate::support::{Arms, Ask, BOTH, Proxy, Via};

const SHOP: [(&str, &str); 3] = [("blue", ""), ("green", "9%"), ("canary", "1%")];

async fn proxy(arms: &Arms, rules: &str) -> Proxy {
    let split = format!("key: [header:x-user-id], {}, rules: [{rules}]", variants_yaml(&SHOP));
    one_split(&arms.yaml(), &split).await
}

/// A condition, a request, and whether it holds.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], bool);

#[tokio::test]
async fn condition_of_each_kind_holds_or_does_not_and_not_turns_it_around() {
    let rows: &[Row] = &[
        ("value: header:x-tenant, in: [a, b]", "/", &[("x-tenant", "b")], true),
        ("value: header:x-tenant, in: [a, b]", "/", &[("x-tenant", "B")], false),
        ("value: header:x-tenant, in: [a, b]", "/", &[("x-tenant", "bb")], false),
        ("value: header:x-tenant, in: [a, b]", "/", &[], false),
        ("value: header:x-region, prefix: eu-", "/", &[("x-region", "eu-west")], true),
        ("value: header:x-region, prefix: eu-", "/", &[("x-region", "us-eu-")], false),
        ("value: header:x-mail, suffix: '@weir.test'", "/", &[("x-mail", "a@weir.test")], true),
        ("value: header:x-mail, suffix: '@weir.test'", "/", &[("x-mail", "a@weir.test.evil")], false),
        ("value: cookie:beta, matches: '^(1|yes)$'", "/", &[("cookie", "a=1; beta=yes")], true),
        ("value: cookie:beta, matches: '^(1|yes)$'", "/", &[("cookie", "beta=yess")], false),
        ("value: query:beta, present: true", "/?beta", &[], true),
        ("value: query:beta, present: true", "/?beta=", &[], true),
        ("value: query:beta, present: true", "/?abeta=1", &[], false),
        ("value: header:x-bot, present: false", "/", &[], true),
        ("value: header:x-bot, present: false", "/", &[("x-bot", "")], false),
        ("value: path:1, in: [beta]", "/beta/x", &[], true),
        ("value: path:1, in: [beta]", "/x/beta", &[], false),
        ("value: host, suffix: .beta.test", "/", &[("host", "Shop.BETA.test:80")], true),
        ("value: host, in: [beta.test]", "/", &[("host", "xbeta.test")], false),
        ("value: client_ip, cidr: [127.0.0.0/8]", "/", &[], true),
        ("value: client_ip, cidr: [10.0.0.0/8, '::1']", "/", &[("x-forwarded-for", "10.0.0.1")], false),
        ("value: header:x-ip, cidr: [10.0.0.0/8]", "/", &[("x-ip", "10.1.2.3")], true),
        ("value: header:x-ip, cidr: [10.0.0.0/8]", "/", &[("x-ip", "10.1.2.3, 10.1.2.4")], false),
    ];
    let arms = Arms::start(&["blue", "green", "canary"]).await;
    for (condition, target, headers, holds) in rows {
        for (not, holds) in [("", *holds), (", not: true", !*holds)] {
            let proxy = proxy(&arms, &format!("{{ when: [{{ {condition}{not} }}], variant: canary }}")).await;
            for via in BOTH {
                // The baseline's by weights, without a doubt.
                let answer = Ask::get(target).with_all(headers).send(via, proxy.address).await;
                let expected = if holds { "canary" } else { "blue" };
                assert_eq!(answer.upstream(), expected, "{via:?} {condition}{not} {target} {headers:?}");
            }
        }
    }
}

#[tokio::test]
async fn first_rule_whose_conditions_all_hold_decides_and_none_leaves_it_to_the_weights() {
    let arms = Arms::start(&["blue", "green", "canary"]).await;
    let rules = "{ name: both, when: [{ value: header:x-a, present: true }, { value: header:x-b, present: true }], \
                 variant: canary }, { name: a, when: [{ value: header:x-a, present: true }], variant: green }, { name: \
                 late, when: [{ value: header:x-a, in: ['1'] }], variant: canary }, { when: [{ value: header:x-c, \
                 present: true }], weights: { canary: 100% } }";
    let proxy = proxy(&arms, rules).await;
    let library = Library::new("checkout", &SHOP);
    let rows: &[(&[(&str, &str)], Option<&str>)] = &[
        (&[("x-a", "1"), ("x-b", "1")], Some("canary")),
        (&[("x-a", "1")], Some("green")),
        (&[("x-b", "1")], None),
        (&[("x-c", "1")], Some("canary")),
        (&[("x-b", "1"), ("x-c", "1")], Some("canary")),
        (&[], None),
    ];
    for unit in units(30) {
        for (headers, expected) in rows {
            let ask = Ask::get("/").with("x-user-id", &unit).with_all(headers);
            let expected = expected.unwrap_or_else(|| library.variant(&unit));
            assert_eq!(ask.send(Via::Http1, proxy.address).await.upstream(), expected, "{unit} {headers:?}");
        }
    }
    let reason = |reason: &str| [format!("reason=\"{reason}\"")];
    for (label, expected) in [("rule", 120.0), ("weights", 60.0), ("missing", 0.0)] {
        let labels = reason(label);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        assert_eq!(proxy.metric("weir_upstream_requests_total", &labels).await, expected, "{label}");
    }
}

#[tokio::test]
async fn rule_with_weights_of_its_own_draws_by_the_same_position() {
    let arms = Arms::start(&["blue", "green", "canary"]).await;
    // Written in another order than the variants: the layout follows the variants.
    let rules = "{ when: [{ value: header:x-tier, in: [free] }], weights: { canary: 40%, green: 20% } }, { when: [{ \
                 value: header:x-tier, in: [trial] }], weights: { canary: 40% } }";
    let proxy = proxy(&arms, rules).await;
    let plain = Library::new("checkout", &SHOP);
    let free = Library::new("checkout", &[("blue", ""), ("green", "20%"), ("canary", "40%")]);
    let trial = Library::new("checkout", &[("blue", ""), ("green", "0%"), ("canary", "40%")]);
    let mut in_canary = 0;
    for unit in units(150) {
        for (tier, library) in [("free", &free), ("trial", &trial), ("paid", &plain)] {
            let ask = Ask::get("/").with("x-user-id", &unit).with("x-tier", tier);
            let answer = ask.send(Via::Http1, proxy.address).await;
            assert_eq!(answer.upstream(), library.variant(&unit), "{unit} {tier}");
        }
        if plain.variant(&unit) == "canary" {
            in_canary += 1;
            assert_eq!(
                (free.variant(&unit), trial.variant(&unit)),
                ("canary", "canary"),
                "{unit} left canary"
            );
        }
    }
    assert!(in_canary > 0, "nobody of these is in canary");
}

#[tokio::test]
async fn rule_decides_without_a_key_too_but_its_weights_need_one() {
    let arms = Arms::start(&["blue", "green", "canary"]).await;
    let rules = "{ when: [{ value: header:x-pin, present: true }], variant: canary }, { when: [{ value: \
                 header:x-ring, present: true }], weights: { canary: 100% } }";
    for (missing, ring) in [("baseline", "blue"), ("random", "canary")] {
        let split = format!(
            "key: [header:x-user-id], missing: {missing}, {}, rules: [{rules}]",
            variants_yaml(&SHOP)
        );
        let proxy = one_split(&arms.yaml(), &split).await;
        for (header, expected) in [("x-pin", "canary"), ("x-ring", ring)] {
            let answer = Ask::get("/").with(header, "1").send(Via::Http1, proxy.address).await;
            assert_eq!(answer.upstream(), expected, "{missing} {header}");
        }
    }
    let split =
        format!("key: [header:x-user-id], missing: reject, {}, rules: [{rules}]", variants_yaml(&SHOP));
    let proxy = one_split(&arms.yaml(), &split).await;
    let answer = Ask::get("/").with("x-pin", "1").send(Via::Http1, proxy.address).await;
    assert_eq!(answer.outcome(), "400 missing_key", "who must have a key is refused before anything else");
}
