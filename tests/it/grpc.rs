//! gRPC through the proxy, between a tonic client and a tonic server: streams of all kinds, deadlines, errors, what is
//! counted.

mod endings;

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::support::grpc::{Caller, Served};
use crate::support::{PATIENCE, Stage, until};

/// How many gRPC requests ended with `status`.
async fn counted(stage: &Stage, status: &str) -> f64 {
    let label = format!("grpc_status=\"{status}\"");
    stage.proxy.metric("weir_upstream_grpc_responses_total", &[&label, "upstream=\"one\""]).await
}

async fn outcome(stage: &Stage, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    stage.proxy.metric("weir_upstream_outcomes_total", &[&label, "upstream=\"one\""]).await
}

#[tokio::test]
async fn calls_of_every_kind_pass_and_are_counted() {
    let server = Served::named("one");
    let stage = Stage::speaking("http2", server.address).await;
    let mut caller = Caller::connect(stage.proxy.address).await;
    let mut request = Request::new(Bytes::from("hello"));
    let given = MetadataValue::from_bytes(&[0, 255, b',', 7]);
    request.metadata_mut().insert_bin("x-given-bin", given.clone());
    let answer = caller.unary("Echo", request).await.unwrap();
    assert_eq!(answer.get_ref(), "hello");
    assert_eq!(answer.metadata().get_bin("x-given-bin"), Some(&given), "binary metadata is untouched");
    assert_eq!(answer.metadata().get("grpc-status").unwrap(), "0", "the trailers come through");
    assert_eq!(
        caller.unary("Echo", Request::new(Bytes::new())).await.unwrap().get_ref(),
        "",
        "an empty message"
    );
    let sum = caller.upload("Sum", stream::iter((0..100).map(|_| Bytes::from_static(b"ten bytes!")))).await;
    assert_eq!(sum.unwrap().get_ref(), "1000");
    let mut many = caller.download("Many", Request::new("1000 3".into())).await.unwrap();
    for _ in 0..1000 {
        assert_eq!(many.message().await.unwrap().unwrap(), "mmm");
    }
    assert_eq!(many.message().await.unwrap(), None);
    until("all are counted", || async { (counted(&stage, "OK").await == 4.0).then_some(()) }).await;
    assert_eq!(outcome(&stage, "success").await, 4.0);
    drop((many, caller));
    stage.assert_in_order().await;
}

#[tokio::test]
async fn message_of_either_side_passes_at_once_while_both_sides_stream() {
    let server = Served::named("one");
    let stage = Stage::speaking("http2", server.address).await;
    let mut caller = Caller::connect(stage.proxy.address).await;
    let (sender, mut answers, head) = caller.talk("Echo").await.unwrap();
    assert_eq!(head.get("x-name").unwrap(), "one", "the head comes before any message");
    // Each is answered before the next is sent: were one held back, this would stand still.
    for number in 0..200 {
        let message = Bytes::from(format!("message {number}"));
        sender.send(message.clone()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.expect("it comes at once");
        assert_eq!(answer.unwrap().unwrap(), message);
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
    until("it is counted", || async { (counted(&stage, "OK").await == 1.0).then_some(()) }).await;
    drop((answers, caller));
    stage.assert_in_order().await;
}

#[tokio::test]
async fn large_messages_both_ways_at_once_do_not_stand_in_each_others_way() {
    let server = Served::named("one");
    let stage = Stage::speaking("http2", server.address).await;
    let mut caller = Caller::connect(stage.proxy.address).await;
    let (sender, mut answers, _) = caller.talk("Echo").await.unwrap();
    let message = Bytes::from(vec![b'x'; 3 << 20]);
    let sending = {
        let message = message.clone();
        tokio::spawn(async move {
            for _ in 0..8 {
                sender.send(message.clone()).await.unwrap();
            }
        })
    };
    for _ in 0..8 {
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.expect("no deadlock");
        assert_eq!(answer.unwrap().unwrap(), message);
    }
    assert_eq!(answers.message().await.unwrap(), None);
    sending.await.unwrap();
    drop((answers, caller));
    stage.assert_in_order().await;
}

#[tokio::test]
async fn status_of_the_server_passes_and_counts_as_what_it_is() {
    let server = Served::named("one");
    let stage = Stage::speaking("http2", server.address).await;
    let mut caller = Caller::connect(stage.proxy.address).await;
    let mut failures = 0.0;
    for (code, name, is_failure) in [
        (Code::Cancelled, "CANCELLED", false),
        (Code::Unknown, "UNKNOWN", true),
        (Code::NotFound, "NOT_FOUND", false),
        (Code::PermissionDenied, "PERMISSION_DENIED", false),
        (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", false),
        (Code::Unimplemented, "UNIMPLEMENTED", true),
        (Code::Internal, "INTERNAL", true),
        (Code::Unavailable, "UNAVAILABLE", true),
        (Code::DataLoss, "DATA_LOSS", true),
        (Code::Unauthenticated, "UNAUTHENTICATED", false),
    ] {
        let asked = Bytes::from((code as i32).to_string());
        // In the head, where the response is trailers alone.
        let status = caller.unary("Fail", Request::new(asked.clone())).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, "as asked: 100%, ä"));
        assert!(status.metadata().get("x-weir-error").is_none(), "it is the server's");
        // In the trailers.
        let mut answers = caller.download("FailLate", Request::new(asked)).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap(), "first");
        let status = answers.message().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, "as asked: 100%, ä"));
        until(name, || async { (counted(&stage, name).await == 2.0).then_some(()) }).await;
        failures += if is_failure { 2.0 } else { 0.0 };
        assert_eq!(outcome(&stage, "failure").await, failures, "{name}");
    }
    assert_eq!(outcome(&stage, "success").await, 20.0 - failures);
    assert_eq!(stage.proxy.metric("weir_errors_total", &[]).await, 0.0, "none is ours");
}

#[tokio::test]
async fn metadata_decides_the_variant_and_keeps_it() {
    let (blue, canary) = (Served::named("blue"), Served::named("canary"));
    let stage = Stage::serving(
        "",
        &format!(
            "splits:\n  api:\n    key: [header:x-tenant]\n    variants:\n      - {{ name: blue }}\n      \
             - {{ name: canary, weight: 50% }}\n    rules:\n      \
             - {{ name: testers, when: [{{ value: header:x-test, present: true }}], variant: canary }}\n\
             upstreams:\n  blue: {{ endpoints: ['{}'], protocol: http2 }}\n  \
             canary: {{ endpoints: ['{}'], protocol: http2 }}\n",
            blue.address, canary.address
        ),
        "  - { split: api }\n",
    )
    .await;
    let mut caller = Caller::connect(stage.proxy.address).await;
    let mut seen = std::collections::HashMap::new();
    for round in 0..3 {
        for tenant in 0..40 {
            let mut request = Request::new(Bytes::from("x"));
            request.metadata_mut().insert("x-tenant", tenant.to_string().parse().unwrap());
            let answer = caller.unary("Echo", request).await.unwrap();
            let name = answer.metadata().get("x-name").unwrap().to_str().unwrap().to_owned();
            let first = seen.entry(tenant).or_insert_with(|| name.clone());
            assert_eq!(*first, name, "tenant {tenant}, round {round}");
        }
    }
    let of_canary = seen.values().filter(|name| *name == "canary").count();
    assert!((5..36).contains(&of_canary), "{of_canary} of 40");
    for tenant in 0..10 {
        let mut request = Request::new(Bytes::from("x"));
        request.metadata_mut().insert("x-tenant", tenant.to_string().parse().unwrap());
        request.metadata_mut().insert("x-test", "1".parse().unwrap());
        let answer = caller.unary("Echo", request).await.unwrap();
        assert_eq!(answer.metadata().get("x-name").unwrap(), "canary");
    }
}

#[tokio::test]
async fn silent_stream_outlives_the_limit_of_bodies() {
    let server = Served::named("one");
    let settings = crate::support::stage::Settings {
        protocol: "http2",
        listener: "timeouts: { body: 200ms }",
        ..crate::support::stage::Settings::default()
    };
    let stage = Stage::with(&[server.address], settings).await;
    let mut caller = Caller::connect(stage.proxy.address).await;
    let (sender, mut answers, _) = caller.talk("Echo").await.unwrap();
    // The one wait that is the thing under test.
    tokio::time::sleep(Duration::from_millis(600)).await;
    sender.send("still here".into()).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap(), "still here");
}
