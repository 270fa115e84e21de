//! Requests that are sent again: when, where, how often, and what is said of it; and endpoints that get none for a while.

mod blame;
mod ejection;
mod replay;

use http::{Response, StatusCode};

use crate::support::ask::{Ask, BOTH, Via};
use crate::support::raw::{self, Scripted};
use crate::support::stage::Settings;
use crate::support::upstream::{full, nobody};
use crate::support::{Stage, Upstream};

/// An upstream that answers with this status, whatever is asked.
pub async fn with_status(code: u16) -> Upstream {
    Upstream::answering(move |_| async move {
        let mut response = Response::new(full(format!("status {code}")));
        *response.status_mut() = StatusCode::from_u16(code).unwrap();
        response
    })
    .await
}

/// One that reads each request and closes the connection.
pub async fn breaking() -> Scripted {
    Scripted::start(|_, _| async {}).await
}

async fn retried(stage: &Stage, reason: &str, outcome: &str) -> f64 {
    let labels = [format!("reason=\"{reason}\""), format!("outcome=\"{outcome}\"")];
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    stage.proxy.metric("weir_upstream_retries_total", &labels).await
}

#[tokio::test]
async fn request_that_is_broken_off_goes_to_another_endpoint_where_twice_is_once() {
    for via in BOTH {
        for (method, is_repeated) in [("GET", true), ("HEAD", true), ("DELETE", true), ("POST", false)] {
            let (broken, well) = (breaking().await, Upstream::named("two").await);
            let endpoints = [broken.address, well.address];
            let settings = Settings {
                upstream: "balance: round_robin, ejection: { failures: 0 }",
                ..Settings::default()
            };
            let stage = Stage::with(&endpoints, settings).await;
            let mut failed = 0;
            for _ in 0..10 {
                let reply = Ask::new(method, "/").send(via, stage.proxy.address).await;
                failed += usize::from(reply.status == 502);
                assert!(reply.status == 200 || reply.header("x-weir-error") == "upstream_reset", "{reply:?}");
            }
            assert_eq!(failed, if is_repeated { 0 } else { 5 }, "{via:?} {method}");
            let expected = if is_repeated { 5.0 } else { 0.0 };
            assert_eq!(retried(&stage, "reset", "success").await, expected, "{via:?} {method}");
            stage.assert_in_order().await;
        }
    }
}

#[tokio::test]
async fn request_sent_again_counts_as_a_failure_of_its_upstream_though_the_client_got_a_response() {
    let (broken, well) = (breaking().await, Upstream::named("two").await);
    let settings =
        Settings { upstream: "balance: round_robin, ejection: { failures: 0 }", ..Settings::default() };
    let stage = Stage::with(&[broken.address, well.address], settings).await;
    for _ in 0..10 {
        assert_eq!(Ask::get("/").send(Via::Http1, stage.proxy.address).await.status, 200);
    }
    stage.assert_in_order().await;
    let outcome = |outcome: &'static str| {
        let stage = &stage;
        async move {
            let labels = ["upstream=\"one\"", &format!("outcome=\"{outcome}\"")];
            stage.proxy.metric("weir_upstream_outcomes_total", &labels).await
        }
    };
    assert_eq!((outcome("failure").await, outcome("success").await), (5.0, 5.0));
}

#[tokio::test]
async fn chosen_statuses_are_tried_again_and_the_last_answer_is_passed_on() {
    for (on, code, expected, attempts) in [
        ("[503]", 503, 200, 2),
        ("[gateway_error]", 502, 200, 2),
        ("[5xx]", 500, 200, 2),
        ("[429]", 429, 200, 2),
        ("[connect, reset]", 503, 503, 1),
        ("[502]", 503, 503, 1),
    ] {
        let (bad, well) = (with_status(code).await, Upstream::named("two").await);
        let route = format!("retry: {{ on: {on} }}");
        let settings = Settings { upstream: "balance: round_robin", route: &route, ..Settings::default() };
        let stage = Stage::with(&[bad.address, well.address], settings).await;
        // Whoever comes first, one of two requests is for the bad one.
        let mut worst = 200;
        for _ in 0..2 {
            worst = worst.max(Ask::get("/").send(Via::Http1, stage.proxy.address).await.status);
        }
        assert_eq!(worst, expected, "{on} {code}");
        assert_eq!(bad.count(), 1, "{on} {code}");
        assert_eq!(well.count(), attempts, "{on} {code}");
        stage.assert_in_order().await;
    }
    // Nobody has a better one: the client gets what there is.
    let bad = with_status(503).await;
    let route = "retry: { on: [503], attempts: 3, backoff: 1ms }";
    let stage = Stage::with(&[bad.address], Settings { route, ..Settings::default() }).await;
    let reply = Ask::get("/").send(Via::Http1, stage.proxy.address).await;
    assert_eq!((reply.status, reply.body.as_str()), (503, "status 503"), "{reply:?}");
    assert_eq!(bad.count(), 3);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn methods_that_are_opted_in_are_tried_again_and_no_other() {
    for (method, count) in [("POST", 2), ("PATCH", 1)] {
        let bad = with_status(502).await;
        let route = "retry: { on: [502], methods: [POST], backoff: 1ms }";
        let stage = Stage::with(&[bad.address], Settings { route, ..Settings::default() }).await;
        let reply = Ask::new(method, "/").body("x").send(Via::Http1, stage.proxy.address).await;
        assert_eq!((reply.status, bad.count()), (502, count), "{method}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn refused_connection_costs_no_attempt_so_that_no_request_fails_beside_an_endpoint_that_is_there() {
    let well = Upstream::named("two").await;
    for route in ["retry: { attempts: 1 }", "retry: { attempts: 1, on: [] }"] {
        for method in ["GET", "POST"] {
            let settings = Settings { upstream: "ejection: { failures: 0 }", route, ..Settings::default() };
            let stage = Stage::with(&[nobody(), nobody(), well.address], settings).await;
            for _ in 0..30 {
                let reply = Ask::new(method, "/").send(Via::Http1, stage.proxy.address).await;
                assert_eq!(reply.status, 200, "{route} {method} {reply:?}");
            }
            assert!(retried(&stage, "connect", "success").await > 0.0);
            stage.assert_in_order().await;
        }
    }
}

#[tokio::test]
async fn attempt_that_takes_too_long_is_given_up_for_another() {
    let (hung, _gate) = Upstream::gated().await;
    let well = Upstream::named("two").await;
    let settings = Settings {
        upstream: "balance: round_robin, ejection: { failures: 0 }",
        route: "retry: { on: [timeout], per_try_timeout: 100ms }",
        ..Settings::default()
    };
    let stage = Stage::with(&[hung.address, well.address], settings).await;
    for via in BOTH {
        for _ in 0..4 {
            let reply = Ask::get("/").send(via, stage.proxy.address).await;
            assert_eq!((reply.status, reply.upstream()), (200, "two"), "{via:?}");
        }
        // What is not repeatable is told.
        let statuses = [
            Ask::new("POST", "/").send(via, stage.proxy.address).await.status,
            Ask::new("POST", "/").send(via, stage.proxy.address).await.status,
        ];
        assert!(statuses == [200, 504] || statuses == [504, 200], "{statuses:?}");
    }
    assert_eq!(retried(&stage, "timeout", "success").await, 4.0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn budget_ends_what_would_only_make_it_worse() {
    let bad = with_status(503).await;
    let settings = Settings {
        upstream: "ejection: { gateway_errors: 0, success_rate: { margin: 100% } }",
        route: "retry: { on: [503], budget: 10%, min_per_second: 0, backoff: 0ms }",
        ..Settings::default()
    };
    let stage = Stage::with(&[bad.address], settings).await;
    for _ in 0..100 {
        let reply = Ask::get("/").send(Via::Http1, stage.proxy.address).await;
        assert_eq!(reply.status, 503);
    }
    // A slow machine may be at it for longer than the ten seconds that count.
    assert!((100..=110).contains(&bad.count()), "{}", bad.count());
    assert!(retried(&stage, "status", "denied").await >= 90.0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn second_attempt_beside_a_slow_one_answers_first() {
    let (hung, _gate) = Upstream::gated().await;
    let well = Upstream::named("two").await;
    let settings = Settings {
        upstream: "balance: round_robin",
        route: "retry: { hedge_after: 50ms }",
        ..Settings::default()
    };
    let stage = Stage::with(&[hung.address, well.address], settings).await;
    for _ in 0..6 {
        let reply = Ask::get("/").send(Via::Http1, stage.proxy.address).await;
        assert_eq!((reply.status, reply.upstream()), (200, "two"));
    }
    assert!(retried(&stage, "hedge", "success").await >= 1.0);
    assert!((hung.count() + well.count()) > 6, "both were asked");
    stage.assert_in_order().await;
}

#[tokio::test]
async fn endpoint_that_breaks_off_beside_one_that_answers_is_charged_with_it() {
    let broken = Scripted::start(|mut stream, _| async move {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(300), raw::drain(&mut stream)).await;
    })
    .await;
    let slow = Upstream::answering(|_| async {
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        Response::new(full("slow"))
    })
    .await;
    let settings = Settings {
        upstream: "balance: round_robin",
        route: "retry: { hedge_after: 50ms }",
        ..Settings::default()
    };
    let stage = Stage::with(&[broken.address, slow.address], settings).await;
    assert_eq!(Ask::get("/").send(Via::Http1, stage.proxy.address).await.status, 200);
    for (metric, label) in [
        ("weir_upstream_failures_total", "cause=\"reset\""),
        ("weir_upstream_outcomes_total", "outcome=\"failure\""),
    ] {
        assert_eq!(stage.proxy.metric(metric, &["upstream=\"one\"", label]).await, 1.0, "{metric}");
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn request_on_a_connection_that_closes_under_it_is_told_by_a_code_of_its_own() {
    // It answers once, keeps the connection, and closes it when the next request has come.
    let closing = Scripted::start(|mut stream, number| async move {
        use tokio::io::AsyncWriteExt;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        let _ = raw::read_head(&mut stream).await;
        drop((stream, number));
    })
    .await;
    for (route, status) in [("", 502), ("retry: { methods: [POST] }", 200)] {
        let stage = Stage::with(&[closing.address], Settings { route, ..Settings::default() }).await;
        let post = Ask::new("POST", "/").body("a");
        assert_eq!(post.send(Via::Http1, stage.proxy.address).await.status, 200);
        let second = post.send(Via::Http1, stage.proxy.address).await;
        assert_eq!(second.status, status, "{route}");
        if status == 502 {
            assert_eq!(second.header("x-weir-error"), "upstream_closed");
        }
        // A GET is sent again at once.
        let get = Ask::get("/");
        for _ in 0..4 {
            assert_eq!(get.send(Via::Http1, stage.proxy.address).await.status, 200);
        }
        stage.assert_in_order().await;
    }
}
