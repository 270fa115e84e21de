//! What becomes of a connection that is no longer HTTP: WebSocket over either protocol on either side, other protocols
//! by `Upgrade`, and how they end.

mod ends;
mod raw;
mod secure;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::support::websocket::{Echo, Socket, connect};
use crate::support::{Proxy, until};

const BOTH: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn protocol(is_http2: bool) -> &'static str {
    if is_http2 { "http2" } else { "http1" }
}

/// A proxy before one endpoint.
async fn before(echo: &Echo, is_http2: bool) -> Proxy {
    Proxy::start(&format!(
        "upstreams:\n  echo: {{ endpoints: ['{}'], protocol: {} }}\nroutes:\n  - {{ upstream: echo }}\n",
        echo.address,
        protocol(is_http2)
    ))
    .await
}

async fn say(socket: &mut Socket, message: Message) {
    tokio::time::timeout(crate::support::PATIENCE, socket.send(message)).await.expect("it is taken").unwrap();
}

async fn hear(socket: &mut Socket) -> Message {
    let next = tokio::time::timeout(crate::support::PATIENCE, socket.next()).await.expect("it answers");
    next.expect("it goes on").unwrap()
}

#[tokio::test]
async fn messages_pass_both_ways_over_every_pair_of_protocols() {
    for (front, back) in BOTH {
        let echo = Echo::start(back).await;
        let proxy = before(&echo, back).await;
        let (mut socket, head) =
            connect(proxy.address, front, "/chat?room=1", &[("x-user-id", "42")]).await.unwrap();
        assert_eq!(head["x-upstream"], "echo", "{front} {back}");
        assert_eq!(head.contains_key("sec-websocket-accept"), !front, "{front} {back}");
        {
            let seen = echo.seen.lock().unwrap();
            let (uri, headers) = &seen[0];
            assert_eq!(uri.path_and_query().unwrap(), "/chat?room=1");
            assert_eq!(headers["x-user-id"], "42");
            assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
            assert_eq!(headers["sec-websocket-version"], "13");
        }
        for size in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
            let data = Bytes::from((0..=250_u8).cycle().take(size).collect::<Vec<u8>>());
            say(&mut socket, Message::Binary(data.clone())).await;
            assert_eq!(hear(&mut socket).await, Message::Binary(data), "{size} {front} {back}");
        }
        say(&mut socket, Message::text("close 4001")).await;
        let Message::Close(Some(frame)) = hear(&mut socket).await else { panic!("it closes") };
        assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "as told"));
        assert!(socket.next().await.is_none(), "the end comes through");
        until("the tunnel is counted", || async {
            let code = ["code=\"101\""];
            let ended = proxy.metric("weir_upstream_requests_total", &code).await == 1.0;
            let active = proxy.metric("weir_upstream_requests_active", &[]).await;
            (ended && active == 0.0).then_some(())
        })
        .await;
        let bytes = proxy.metric("weir_upstream_response_bytes_total", &[]).await;
        assert!((3_131_000.0..3_200_000.0).contains(&bytes), "{bytes}");
        assert!(proxy.metric("weir_upstream_request_bytes_total", &[]).await > 3_131_000.0);
    }
}

#[tokio::test]
async fn variant_is_decided_by_the_handshake() {
    let (blue, green) = (Echo::start(false).await, Echo::start(false).await);
    let proxy = Proxy::start(&format!(
        "upstreams:\n  blue: {{ endpoints: ['{}'] }}\n  green: {{ endpoints: ['{}'] }}\n\
         splits:\n  main:\n    key: [header:x-user-id]\n    variants: [{{ name: blue }}, {{ name: green }}]\n    \
         rules: [{{ when: [{{ value: header:x-user-id, in: [g] }}], variant: green }}]\n\
         routes:\n  - {{ split: main }}\n",
        blue.address, green.address
    ))
    .await;
    for (is_http2, user, endpoint, variant) in [
        (false, "a", &blue, "blue"),
        (false, "g", &green, "green"),
        (true, "a", &blue, "blue"),
        (true, "g", &green, "green"),
    ] {
        let (mut socket, _) = connect(proxy.address, is_http2, "/", &[("x-user-id", user)]).await.unwrap();
        assert_eq!(endpoint.seen.lock().unwrap().last().unwrap().1["x-weir-variant"], variant);
        say(&mut socket, Message::text("hello")).await;
        assert_eq!(hear(&mut socket).await, Message::text("hello"));
    }
}

#[tokio::test]
async fn client_that_goes_takes_its_tunnel_with_it_and_so_does_the_endpoint() {
    for (front, back) in BOTH {
        let echo = Echo::start(back).await;
        let proxy = before(&echo, back).await;
        let (socket, _) = connect(proxy.address, front, "/", &[]).await.unwrap();
        drop(socket);
        until("the endpoint sees the end", || async {
            (!echo.ends.lock().unwrap().is_empty()).then_some(())
        })
        .await;
        let (mut socket, _) = connect(proxy.address, front, "/", &[]).await.unwrap();
        drop(echo);
        let end = tokio::time::timeout(crate::support::PATIENCE, socket.next()).await.expect("it ends");
        assert!(!matches!(end, Some(Ok(_))), "{end:?}");
        until("nothing is left", || async {
            let active = proxy.metric("weir_upstream_requests_active", &[]).await;
            (active == 0.0).then_some(())
        })
        .await;
    }
}
