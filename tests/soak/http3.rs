//! What a client over HTTP/3 does at a time.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Buf;
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};

use crate::clients::{Place, Tally};
use crate::turns::says;

/// Requests of a connection.
const REQUESTS: usize = 5;

/// Some requests, one behind the other, on a connection that is closed in good order or left.
pub async fn turn(place: &Place, tally: &Tally) -> Result<(), String> {
    let tls = QuicClientConfig::try_from(Arc::clone(&place.http3)).map_err(says)?;
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).map_err(says)?;
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(tls)));
    let connection = endpoint.connect(place.secure, "shop.test").map_err(says)?.await.map_err(says)?;
    let (mut driver, mut requests) =
        h3::client::new(h3_quinn::Connection::new(connection.clone())).await.map_err(says)?;
    // It ends with the connection.
    tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
    for _ in 0..REQUESTS {
        let user = fastrand::u16(..).to_string();
        let uri = format!("https://shop.test{}/hello", place.prefix);
        let request = Request::get(uri).header("x-user", user).body(()).unwrap();
        let mut stream = requests.send_request(request).await.map_err(says)?;
        stream.finish().await.map_err(says)?;
        let head = stream.recv_response().await.map_err(says)?;
        let mut body = Vec::new();
        let outcome = loop {
            match stream.recv_data().await {
                Ok(Some(part)) => body.extend_from_slice(part.chunk()),
                Ok(None) if head.status() != 200 => {
                    let code = head.headers().get("x-weir-error").map_or("", |code| code.to_str().unwrap());
                    break Err(format!("{} {code}", head.status().as_u16()));
                }
                Ok(None) if body == b"hello" => break Ok(()),
                Ok(None) => break Err("another body".to_owned()),
                Err(_) => break Err("broke off".to_owned()),
            }
        };
        tally.note(outcome);
    }
    if fastrand::bool() {
        connection.close(0x100_u32.into(), b"");
        endpoint.wait_idle().await;
    }
    Ok(())
}
