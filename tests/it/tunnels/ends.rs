//! How tunnels end that nobody ends: when nothing comes, when the process drains, when their variant is taken back.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use super::{BOTH, before, hear, protocol, say};
use crate::support::raw::{Client, read_head};
use crate::support::websocket::{Echo, connect};
use crate::support::{PATIENCE, Proxy, Stage, until};

const ASKING: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn tunnel_that_stands_still_is_closed_and_one_that_moves_is_not() {
    for (front, back) in BOTH {
        let echo = Echo::start(back).await;
        let proxy = Proxy::start_whole(&format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0, timeouts: {{ tunnel: 1s }} }}]\n\
             upstreams:\n  echo: {{ endpoints: ['{}'], protocol: {} }}\nroutes:\n  - {{ upstream: echo }}\n",
            echo.address,
            protocol(back)
        ))
        .await;
        let (mut moving, _) = connect(proxy.address, front, "/", &[]).await.unwrap();
        let (mut still, _) = connect(proxy.address, front, "/", &[]).await.unwrap();
        let ended = tokio::spawn(async move { still.next().await });
        let started = Instant::now();
        while !ended.is_finished() {
            assert!(started.elapsed() < PATIENCE);
            say(&mut moving, Message::text("a")).await;
            assert_eq!(hear(&mut moving).await, Message::text("a"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!matches!(ended.await.unwrap(), Some(Ok(_))));
        say(&mut moving, Message::text("b")).await;
        assert_eq!(hear(&mut moving).await, Message::text("b"));
        assert_eq!(proxy.metric("weir_errors_total", &["code=\"tunnel_idle\""]).await, 1.0);
    }
}

#[tokio::test]
async fn draining_closes_websockets_with_service_restart() {
    for (front, back) in BOTH {
        let echo = Echo::start(back).await;
        let proxy = before(&echo, back).await;
        let (mut socket, _) = connect(proxy.address, front, "/", &[]).await.unwrap();
        say(&mut socket, Message::text("before")).await;
        hear(&mut socket).await;
        let draining = tokio::spawn(proxy.app.shutdown(Duration::from_secs(6)));
        let Message::Close(Some(frame)) = hear(&mut socket).await else { panic!("it is closed in order") };
        assert_eq!(u16::from(frame.code), 1012, "{front} {back}");
        // The client says that it has heard.
        assert!(!matches!(socket.next().await, Some(Ok(_))));
        assert!(draining.await.unwrap(), "all was finished in time");
        until("the endpoint is told", || async {
            let ends = echo.ends.lock().unwrap();
            let frame = ends.first()?.clone().unwrap_or_else(|| panic!("no close frame: {front} {back}"));
            assert_eq!(u16::from(frame.code), 1001);
            Some(())
        })
        .await;
    }
}

#[tokio::test]
async fn close_of_a_drain_waits_for_the_end_of_the_frame_that_is_under_way() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start_whole(&format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams:\n  one: {{ endpoints: ['{}'] }}\n\
         routes:\n  - {{ upstream: one }}\n",
        listener.local_addr().unwrap()
    ))
    .await;
    let mut client = Client::connect(proxy.address).await;
    client.send(ASKING).await;
    let (mut endpoint, _) = listener.accept().await.unwrap();
    read_head(&mut endpoint).await.unwrap();
    endpoint.write_all(SWITCH.as_bytes()).await.unwrap();
    client.read_until("\r\n\r\n").await;
    // A frame of ten bytes, of which four have come, and the client's own of which the head has.
    endpoint.write_all(&[0x82, 10, b'a', b'b', b'c', b'd']).await.unwrap();
    client.send([0x82, 0x83, 0, 0, 0, 0]).await;
    client.read_until("abcd").await;
    let mut head = [0; 6];
    endpoint.read_exact(&mut head).await.unwrap();
    let address = proxy.address;
    let draining = tokio::spawn(proxy.app.shutdown(Duration::from_secs(5)));
    until("it drains", || async { tokio::net::TcpStream::connect(address).await.err() }).await;
    endpoint.write_all(b"efghij").await.unwrap();
    client.send(b"xyz").await;
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, client.0.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"efghij\x88\x02\x03\xf4");
    let mut up = Vec::new();
    endpoint.read_to_end(&mut up).await.unwrap();
    let [b'x', b'y', b'z', 0x88, 0x82, a, b, _, _, first, second] = up[..] else { panic!("{up:?}") };
    assert_eq!(u16::from_be_bytes([first ^ a, second ^ b]), 1001);
    drop((client, endpoint));
    assert!(draining.await.unwrap());
}

#[tokio::test]
async fn variant_that_is_taken_back_closes_its_websockets_by_the_deadline_and_no_others() {
    let (blue, green) = (Echo::start(false).await, Echo::start(false).await);
    let text = |weight: &str| {
        format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
             upstreams:\n  blue: {{ endpoints: ['{}'] }}\n  green: {{ endpoints: ['{}'] }}\n\
             splits:\n  main:\n    key: [header:x-user-id]\n    drain: 2s\n    \
             variants: [{{ name: blue }}, {{ name: green, weight: {weight} }}]\n\
             routes:\n  - {{ split: main }}\n",
            blue.address, green.address
        )
    };
    let proxy = Proxy::start_whole(&text("50%")).await;
    let (mut blues, mut greens) = (Vec::new(), Vec::new());
    for user in 0..40 {
        let of_green = green.seen.lock().unwrap().len();
        let user = user.to_string();
        let (socket, _) =
            connect(proxy.address, user.len() == 1, "/", &[("x-user-id", &user)]).await.unwrap();
        let list = if green.seen.lock().unwrap().len() > of_green { &mut greens } else { &mut blues };
        list.push(socket);
    }
    assert!(blues.len() > 5 && greens.len() > 5, "{} {}", blues.len(), greens.len());
    proxy.replace(&text("0.5%")).await;
    for socket in greens.iter_mut().chain(&mut blues) {
        say(socket, Message::text("still here")).await;
        assert_eq!(hear(socket).await, Message::text("still here"), "a change of weights ends nothing");
    }
    proxy.replace(&text("0%")).await;
    for mut socket in greens {
        let Message::Close(Some(frame)) = hear(&mut socket).await else { panic!("it is closed in order") };
        assert_eq!(u16::from(frame.code), 1012);
    }
    for mut socket in blues {
        say(&mut socket, Message::text("still here")).await;
        assert_eq!(hear(&mut socket).await, Message::text("still here"));
    }
}

#[tokio::test]
async fn variant_that_is_removed_goes_by_its_deadline_whatever_is_reloaded_meanwhile() {
    let (blue, green) = (Echo::start(false).await, Echo::start(false).await);
    let text = |further: &str| {
        format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
             upstreams:\n  blue: {{ endpoints: ['{}'] }}\n  green: {{ endpoints: ['{}'] }}\n\
             splits:\n  main:\n    key: [header:x-user-id]\n    drain: 5s\n{further}\
             routes:\n  - {{ split: main }}\n",
            blue.address, green.address
        )
    };
    let proxy = Proxy::start_whole(&text(
        "    variants: [{ name: blue }, { name: green }]\n    \
         rules: [{ when: [{ value: header:x-user-id, in: [g] }], variant: green }]\n",
    ))
    .await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(connect(proxy.address, false, "/", &[("x-user-id", "g")]).await.unwrap().0);
    }
    assert_eq!(green.seen.lock().unwrap().len(), 20);
    proxy.replace(&text("    variants: [{ name: blue }]\n")).await;
    for further in ["    variants: [{ name: blue }]\n    expose: true\n", "    variants: [{ name: blue }]\n"]
    {
        proxy.replace(&text(further)).await;
    }
    for mut socket in sockets {
        let Message::Close(Some(frame)) = hear(&mut socket).await else { panic!("it is closed in order") };
        assert_eq!(u16::from(frame.code), 1012);
    }
}

#[tokio::test]
async fn side_that_says_goodbye_and_ends_hears_the_other_s_answer_and_not_ours() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stage = Stage::before(listener.local_addr().unwrap()).await;
    for is_endpoint in [false, true] {
        let mut client = Client::connect(stage.proxy.address).await;
        client.send(ASKING).await;
        let (mut endpoint, _) = listener.accept().await.unwrap();
        read_head(&mut endpoint).await.unwrap();
        endpoint.write_all(SWITCH.as_bytes()).await.unwrap();
        client.read_until("\r\n\r\n").await;
        let (mut first, mut second) = if is_endpoint { (endpoint, client.0) } else { (client.0, endpoint) };
        first.write_all(&[0x88, 2, 0x03, 0xe8]).await.unwrap();
        first.shutdown().await.unwrap();
        let mut heard = Vec::new();
        tokio::time::timeout(PATIENCE, second.read_to_end(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, [0x88, 2, 0x03, 0xe8]);
        second.write_all(&[0x88, 2, 0x03, 0xe9]).await.unwrap();
        second.shutdown().await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, first.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, [0x88, 2, 0x03, 0xe9], "{is_endpoint}");
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn tunnel_whose_peers_neither_rest_nor_listen_ends_with_the_drain() {
    for (is_reading, switch) in [
        (false, SWITCH),
        (true, SWITCH),
        (false, "HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\n"),
        (true, "HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\n"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(&format!(
            "upstreams:\n  one: {{ endpoints: ['{}'] }}\nroutes:\n  - {{ upstream: one }}\n",
            listener.local_addr().unwrap()
        ))
        .await;
        let mut client = Client::connect(proxy.address).await;
        let asking =
            if switch == SWITCH { ASKING.to_owned() } else { ASKING.replace("websocket\r", "shout\r") };
        client.send(asking).await;
        let (mut endpoint, _) = listener.accept().await.unwrap();
        read_head(&mut endpoint).await.unwrap();
        endpoint.write_all(switch.as_bytes()).await.unwrap();
        client.read_until("\r\n\r\n").await;
        // Whole frames without end, in both directions.
        let frames = [&[0x82, 126, 0x03, 0xe8][..], &[7; 1000]].concat().repeat(64);
        let gushing = |stream: tokio::net::TcpStream, frames: Vec<u8>| async move {
            let (mut read, mut write) = stream.into_split();
            let reading = tokio::spawn(async move {
                let mut part = vec![0; 64 * 1024];
                while is_reading && read.read(&mut part).await.is_ok_and(|count| count > 0) {}
                if !is_reading {
                    std::future::pending::<()>().await;
                }
            });
            while write.write_all(&frames).await.is_ok() {}
            reading.abort();
        };
        let peers = [
            tokio::spawn(gushing(client.0, frames.clone())),
            tokio::spawn(gushing(endpoint, frames.clone())),
        ];
        let drained = tokio::time::timeout(2 * PATIENCE, proxy.app.shutdown(Duration::from_secs(12))).await;
        assert_eq!(drained, Ok(true), "{is_reading} {switch}");
        for peer in peers {
            tokio::time::timeout(PATIENCE, peer).await.expect("each is told by the end").unwrap();
        }
    }
}

#[tokio::test]
async fn close_frame_arrives_though_its_endpoint_resets_behind_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stage = Stage::before(listener.local_addr().unwrap()).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send(ASKING).await;
    let (mut endpoint, _) = listener.accept().await.unwrap();
    read_head(&mut endpoint).await.unwrap();
    endpoint.write_all(SWITCH.as_bytes()).await.unwrap();
    client.read_until("\r\n\r\n").await;
    let frames = [0x82, 1, b'a', 0x88, 2, 0x03, 0xe8];
    endpoint.write_all(&frames).await.unwrap();
    until("they are passed on", || async {
        let seen = client.0.peek(&mut [0; 16]).await.unwrap();
        (seen == frames.len()).then_some(())
    })
    .await;
    endpoint.set_zero_linger().unwrap();
    drop(endpoint);
    let mut heard = Vec::new();
    let end = tokio::time::timeout(PATIENCE, client.0.read_to_end(&mut heard)).await.expect("it ends");
    assert_eq!((end.unwrap(), &heard[..]), (frames.len(), &frames[..]));
    stage.assert_in_order().await;
}
