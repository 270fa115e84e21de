//! A variant that fails: the fall-back to the baseline where it is wanted, and never a second version for one request.

use std::fmt::Write;

use crate::retries::with_status;
use crate::support::raw::{exchange, status};
use crate::support::upstream::{full, nobody};
use crate::support::{Stage, Upstream};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nx-user: u1\r\nconnection: close\r\n\r\n";

/// Everybody is in canary.
async fn split(canary: &str, more: &str, baseline: &Upstream) -> Stage {
    let mut text = String::new();
    write!(
        text,
        "splits:\n  s:\n    key: [header:x-user]\n    variants: [{{ name: blue }}, \
         {{ name: canary, weight: 100%{more} }}]\nupstreams:\n  blue: {{ endpoints: ['{}'] }}\n  \
         canary: {{ endpoints: [{canary}] }}\n",
        baseline.address
    )
    .unwrap();
    Stage::serving("", &text, "  - { split: s }\n").await
}

async fn failed(stage: &Stage, cause: &str) -> f64 {
    let labels = ["upstream=\"canary\"", &format!("cause=\"{cause}\"")];
    stage.proxy.metric("weir_upstream_failures_total", &labels).await
}

#[tokio::test]
async fn dead_variant_falls_back_to_the_baseline_and_is_counted() {
    let rows = [(format!("'{}'", nobody()), "connect"), ("'nowhere.invalid:80'".into(), "no_endpoint")];
    for (canary, cause) in rows {
        for more in ["", ", on_unavailable: baseline"] {
            let baseline = Upstream::named("blue").await;
            let stage = split(&canary, more, &baseline).await;
            for _ in 0..10 {
                let answer = exchange(stage.proxy.address, GET).await;
                assert_eq!(status(&answer), 200, "{answer}");
                assert!(answer.ends_with("blue"), "{answer}");
            }
            assert_eq!(baseline.last().header("x-weir-variant"), "blue");
            // After a few of them nobody asks an endpoint that is not there.
            let all = failed(&stage, "connect").await + failed(&stage, "no_endpoint").await;
            assert_eq!((all, failed(&stage, cause).await >= 3.0), (10.0, true), "{canary}");
            let outcomes = ["variant=\"canary\"", "outcome=\"failure\""];
            assert_eq!(stage.proxy.metric("weir_upstream_outcomes_total", &outcomes).await, 10.0, "charged");
            let labels = ["variant=\"blue\"", "upstream=\"blue\"", "reason=\"fallback\"", "code=\"200\""];
            assert_eq!(stage.proxy.metric("weir_upstream_requests_total", &labels).await, 10.0);
            assert_eq!(stage.proxy.metric("weir_split_assigned_total", &["variant=\"canary\""]).await, 10.0);
            stage.assert_in_order().await;
        }
    }
}

#[tokio::test]
async fn dead_variant_without_fall_back_is_told() {
    let rows =
        [(format!("'{}'", nobody()), "connect_refused"), ("'nowhere.invalid:80'".into(), "no_endpoint")];
    for (canary, code) in rows {
        let baseline = Upstream::named("blue").await;
        let stage = split(&canary, ", on_unavailable: error", &baseline).await;
        let answer = exchange(stage.proxy.address, GET).await;
        assert_eq!(status(&answer), 503, "{answer}");
        assert!(answer.contains(&format!("x-weir-error: {code}\r\n")), "{answer}");
        assert_eq!(baseline.count(), 0);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn dead_baseline_is_told() {
    let blue = Upstream::named("blue").await;
    let address = blue.address;
    drop(blue);
    let text = format!(
        "splits:\n  s:\n    key: [header:x-user]\n    variants: [{{ name: blue }}]\nupstreams:\n  \
         blue: {{ endpoints: ['{address}'] }}\n"
    );
    let stage = Stage::serving("", &text, "  - { split: s }\n").await;
    let answer = exchange(stage.proxy.address, GET).await;
    assert_eq!(status(&answer), 503, "{answer}");
    stage.assert_in_order().await;
}

#[tokio::test]
async fn answer_of_a_variant_is_passed_on_whatever_it_is() {
    for code in [500, 502, 503, 504, 404] {
        let baseline = Upstream::named("blue").await;
        let canary = Upstream::answering(move |_| async move {
            let mut response = http::Response::new(full("canary"));
            *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
            response
        })
        .await;
        let stage = split(&format!("'{}'", canary.address), "", &baseline).await;
        let answer = exchange(stage.proxy.address, GET).await;
        assert_eq!(status(&answer), code);
        assert!(answer.ends_with("canary") && !answer.contains("x-weir-error"), "{answer}");
        assert_eq!((canary.count(), baseline.count()), (1, 0));
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn retry_stays_inside_the_variant() {
    let (baseline, canary) = (Upstream::named("blue").await, Upstream::named("canary").await);
    let stage = split(&format!("'{}', '{}'", nobody(), canary.address), "", &baseline).await;
    for _ in 0..40 {
        let answer = exchange(stage.proxy.address, GET).await;
        assert_eq!(status(&answer), 200);
        assert!(answer.ends_with("canary"), "{answer}");
    }
    assert_eq!((canary.count(), baseline.count()), (40, 0));
    let retried = ["variant=\"canary\"", "outcome=\"success\""];
    assert!(stage.proxy.metric("weir_upstream_retries_total", &retried).await > 0.0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn request_that_a_variant_took_into_its_death_goes_to_the_baseline_where_twice_is_once() {
    for (method, expected) in [("GET", 200), ("PUT", 200), ("POST", 502)] {
        let baseline = Upstream::named("blue").await;
        // It reads one request, and then neither it nor its address is there any more.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dying = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(listener);
            crate::support::raw::read_head(&mut stream).await
        });
        let stage = split(&format!("'{address}'"), "", &baseline).await;
        let request = format!(
            "{method} / HTTP/1.1\r\nhost: a\r\nx-user: u1\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"
        );
        let answer = exchange(stage.proxy.address, request).await;
        assert_eq!(status(&answer), expected, "{method}: {answer}");
        assert!(dying.await.unwrap().is_some(), "it was asked");
        assert_eq!(baseline.count(), usize::from(expected == 200), "{method}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn variant_that_took_the_request_and_broke_off_is_not_replaced() {
    // A byte of the request was sent: the baseline must not do it a second time.
    let baseline = Upstream::named("blue").await;
    let canary = crate::support::raw::Scripted::start(|_, _| async {}).await;
    let stage = split(&format!("'{}'", canary.address), "", &baseline).await;
    let answer = exchange(stage.proxy.address, GET).await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert_eq!(baseline.count(), 0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn only_endpoint_of_a_variant_is_asked_again_as_that_of_the_baseline_would_be() {
    let (baseline, canary) = (Upstream::named("blue").await, with_status(503).await);
    let more = format!(
        "splits:\n  s:\n    key: [header:x-user]\n    variants: [{{ name: blue }}, {{ name: canary, weight: 100% }}]\n\
         upstreams:\n  blue: {{ endpoints: ['{}'] }}\n  canary: {{ endpoints: ['{}'] }}\n",
        baseline.address, canary.address
    );
    let stage = Stage::serving("", &more, "  - { split: s, retry: { on: [503] } }\n").await;
    let answer = exchange(stage.proxy.address, GET).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert_eq!((canary.count(), baseline.count()), (2, 0));
    stage.assert_in_order().await;
}
