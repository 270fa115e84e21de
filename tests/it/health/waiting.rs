//! The first verdict before traffic, and verdicts over reloads.

use std::time::{Duration, Instant};

use http::{Response, StatusCode};

use super::{before, comes_to_be, file, states};
use crate::support::raw::Scripted;
use crate::support::upstream::full;
use crate::support::{Proxy, Upstream};

#[tokio::test]
async fn start_waits_for_the_first_verdicts_but_not_for_ever() {
    let well = Upstream::named("well").await;
    let silent = Scripted::accepting(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let endpoints = [well.address.to_string(), silent.address.to_string()];
    let started = Instant::now();
    let proxy = before(&endpoints, "{ path: /, wait: true, timeout: 300ms, interval: 10s }", "").await;
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    let expected = [("healthy", ""), ("unhealthy", "no answer within 300ms")];
    let expected: Vec<_> = expected.map(|(state, reason)| (state.to_owned(), reason.to_owned())).into();
    assert_eq!(states(&proxy).await, expected, "known as soon as it serves");
}

#[tokio::test]
async fn reload_that_asks_the_same_goes_on_with_what_is_known() {
    let endpoint = Upstream::answering(|_| async {
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    })
    .await;
    let endpoints = [endpoint.address.to_string()];
    let health = "{ path: /, interval: 10s, jitter: 1% }";
    let proxy = before(&endpoints, health, "").await;
    comes_to_be(&proxy, "unhealthy").await;
    let asked = endpoint.count();
    // The same; another way to balance: another upstream that asks the same; another rhythm.
    let rows = [
        format!("# Anew.\n{}", file(&endpoints, health, "")),
        file(&endpoints, health, "balance: round_robin"),
        file(&endpoints, "{ path: /, interval: 20s }", "balance: round_robin"),
    ];
    for text in rows {
        proxy.replace(&text).await;
        let expected = [("unhealthy".to_owned(), "status 503".to_owned())];
        assert_eq!(states(&proxy).await, expected, "{text}");
    }
    // Another question: what is known is no answer to it.
    proxy.replace(&file(&endpoints, "{ tcp: true, wait: true }", "")).await;
    assert_eq!(states(&proxy).await, [("healthy".to_owned(), String::new())]);
    proxy.replace(&file(&endpoints, "{ path: /, wait: true }", "")).await;
    assert_eq!(states(&proxy).await, [("unhealthy".to_owned(), "status 503".to_owned())]);
    assert!(endpoint.count() > asked);
}

#[tokio::test]
async fn endpoint_that_leaves_the_file_is_asked_no_more() {
    let (stays, leaves) = (Upstream::named("stays").await, Upstream::named("leaves").await);
    let health = "{ path: /, interval: 20ms }";
    let both = [stays.address.to_string(), leaves.address.to_string()];
    let proxy: Proxy = before(&both, health, "").await;
    crate::support::until("both are asked", || async {
        (stays.count() > 2 && leaves.count() > 2).then_some(())
    })
    .await;
    proxy.replace(&file(&both[..1], health, "")).await;
    // Workers let go of the former configuration within a second, and with it of its upstreams.
    crate::support::until("it is left alone", || async {
        let (before, others) = (leaves.count(), stays.count());
        crate::support::until("checks go on", || async { (stays.count() > others + 10).then_some(()) }).await;
        (leaves.count() == before).then_some(())
    })
    .await;
}
