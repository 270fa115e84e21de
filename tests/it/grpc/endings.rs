//! How gRPC calls end that do not end by themselves: deadlines, errors of the proxy, clients that give up, servers that
//! die.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Request, Status};

use super::{counted, outcome};
use crate::support::client::Connection;
use crate::support::grpc::{Caller, Served};
use crate::support::stage::Settings;
use crate::support::upstream::{Body, full, nobody};
use crate::support::{PATIENCE, Stage, until};

fn asking(text: &'static str) -> Request<Bytes> {
    Request::new(text.into())
}

/// The code of an error of the proxy's own.
fn ours(status: &Status) -> &str {
    status.metadata().get("x-weir-error").map_or("", |code| code.to_str().unwrap())
}

/// A call by hand: tonic has a timer of its own for `grpc-timeout`, and would be the first to go off.
fn call(method: &str, timeout: &str) -> http::Request<Body> {
    // One message of one byte.
    let message = &b"\0\0\0\0\x01x"[..];
    http::Request::post(format!("/t.T/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(full(message))
        .unwrap()
}

#[tokio::test]
async fn deadline_that_passes_ends_the_call_on_both_sides() {
    let server = Served::named("one");
    for (route, asked, code) in [
        ("", "1500m", "grpc_deadline"),
        ("timeout: 20s", "1500m", "grpc_deadline"),
        ("timeout: 1500ms", "20S", "route_timeout"),
    ] {
        let settings = Settings { protocol: "http2", route, ..Settings::default() };
        let stage = Stage::with(&[server.address], settings).await;
        let mut client = Connection::new(stage.proxy.address, true).await;
        let mut times = 0.0;
        // Before its head, and after it.
        for method in ["Hang", "HangLate"] {
            let before = server.cancelled();
            let exchange = client.exchange(call(method, asked));
            let (head, body, trailers) = tokio::time::timeout(PATIENCE, exchange).await.expect("it ends");
            assert_eq!(head.status(), 200, "{method}");
            assert_eq!(head.headers()["content-type"], "application/grpc", "{method}");
            let told = if method == "Hang" { head.headers() } else { &trailers };
            assert_eq!(
                (&told["grpc-status"], &told["x-weir-error"]),
                (&"4".parse().unwrap(), &code.parse().unwrap())
            );
            assert_eq!(body.is_empty(), method == "Hang", "what came before it is passed on");
            until("the server knows", || async { (server.cancelled() > before).then_some(()) }).await;
            times += 1.0;
            assert_eq!(counted(&stage, "DEADLINE_EXCEEDED").await, times);
            assert_eq!(outcome(&stage, "failure").await, times);
            let errors = stage.proxy.metric("weir_errors_total", &[&format!("code=\"{code}\"")]).await;
            assert_eq!(errors, times);
        }
        drop(client);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn timeout_that_is_none_is_no_deadline_and_passes_on() {
    let server = Served::named("one");
    let stage = Stage::speaking("http2", server.address).await;
    let mut caller = Caller::connect(stage.proxy.address).await;
    for value in ["99999999H", "20S"] {
        let mut request = asking("hello");
        request.metadata_mut().insert("grpc-timeout", value.parse().unwrap());
        assert_eq!(caller.unary("Echo", request).await.unwrap().get_ref(), "hello", "{value}");
    }
}

#[tokio::test]
async fn error_of_the_proxy_is_a_status_of_grpc() {
    let server = Served::named("one");
    let address = server.address;
    let routes = "  - { paths: [/t.T/Fail], methods: [GET], upstream: one }\n  \
                  - { paths: [/t.T/Hang], upstream: away }\n  - { paths: [/t.T/Sum], upstream: one, max_body: 10B }\n  \
                  - { paths: [/t.T/Many], split: api }\n  - { paths: [/t.T/HangLate], upstream: slow }\n";
    let stage = Stage::serving(
        "",
        &format!(
            "splits:\n  api:\n    key: [header:x-tenant]\n    missing: reject\n    variants: [{{ name: one }}]\n\
             upstreams:\n  one: {{ endpoints: ['{address}'], protocol: http2 }}\n  \
             away: {{ endpoints: ['{}'], protocol: http2 }}\n  \
             slow: {{ endpoints: ['{address}'], protocol: http2 }}\n",
            nobody()
        ),
        routes,
    )
    .await;
    let mut caller = Caller::connect(stage.proxy.address).await;
    for (method, message, code, error) in [
        ("Echo", "x", Code::Unimplemented, "no_route"),
        ("Fail", "5", Code::Unimplemented, "method_not_allowed"),
        ("Hang", "x", Code::Unavailable, "connect_refused"),
        ("Sum", "more than ten bytes", Code::ResourceExhausted, "body_too_large"),
        ("Many", "1 1", Code::InvalidArgument, "missing_key"),
    ] {
        let status = caller.unary(method, asking(message)).await.unwrap_err();
        assert_eq!((status.code(), ours(&status)), (code, error), "{method}: {status}");
        assert!(status.message().ends_with(&format!(" ({error})")), "{status}");
        let errors = stage.proxy.metric("weir_errors_total", &[&format!("code=\"{error}\"")]).await;
        assert_eq!(errors, 1.0, "{error}");
    }
    let ok = stage.proxy.metric("weir_upstream_requests_total", &["upstream=\"away\"", "code=\"200\""]).await;
    assert_eq!(ok, 1.0, "of HTTP it is a 200");
    let unavailable = ["upstream=\"away\"", "grpc_status=\"UNAVAILABLE\""];
    assert_eq!(stage.proxy.metric("weir_upstream_grpc_responses_total", &unavailable).await, 1.0);
    let failed = ["upstream=\"away\"", "outcome=\"failure\""];
    assert_eq!(stage.proxy.metric("weir_upstream_outcomes_total", &failed).await, 1.0);
    drop(caller);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn server_that_dies_in_the_middle_is_unavailable_and_other_calls_go_on() {
    let mut server = Served::named("one");
    let stage = Stage::speaking("http2", server.address).await;
    let mut caller = Caller::connect(stage.proxy.address).await;
    let mut answers = caller.download("HangLate", asking("x")).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap(), "first");
    server.kill();
    let status = tokio::time::timeout(PATIENCE, answers.message()).await.expect("it ends").unwrap_err();
    assert_eq!((status.code(), ours(&status)), (Code::Unavailable, "upstream_reset"), "{status}");
    assert_eq!(counted(&stage, "UNAVAILABLE").await, 1.0);
    assert_eq!(outcome(&stage, "failure").await, 1.0);
    // The client's connection has not suffered.
    let status = caller.unary("Echo", asking("x")).await.unwrap_err();
    assert_eq!((status.code(), ours(&status)), (Code::Unavailable, "connect_refused"), "{status}");
    drop((answers, caller));
    stage.assert_in_order().await;
}

#[tokio::test]
async fn call_that_the_client_gives_up_is_given_up_at_the_server() {
    let server = Served::named("one");
    let stage = Stage::speaking("http2", server.address).await;
    let mut caller = Caller::connect(stage.proxy.address).await;
    // Before the head, with the future; after it, with the stream.
    for (count, method) in (1..).zip(["Hang", "HangLate"]) {
        let call = caller.download(method, asking("x"));
        let begun = tokio::time::timeout(Duration::from_millis(300), call).await;
        assert_eq!(begun.is_err(), method == "Hang");
        drop(begun);
        until("the server knows", || async { (server.cancelled() == count).then_some(()) }).await;
    }
    let cancelled = || async { (counted(&stage, "CANCELLED").await == 2.0).then_some(()) };
    until("they are counted", cancelled).await;
    assert_eq!(outcome(&stage, "failure").await + outcome(&stage, "success").await, 0.0, "nobody knows");
    drop(caller);
    stage.assert_in_order().await;
}
