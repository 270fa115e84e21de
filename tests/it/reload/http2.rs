//! A listener that goes, and HTTP/2 clients on it: they are told, what is under way ends well, nothing new is taken.

use http::Request;
use tokio::net::TcpStream;

use crate::support::{PATIENCE, Proxy, Upstream, until};

#[tokio::test]
async fn listener_that_goes_by_reload_says_goaway_and_its_streams_end_well() {
    let (upstream, open) = Upstream::gated().await;
    let spare = crate::support::upstream::nobody();
    let with = |listeners: &str| {
        let address = upstream.address;
        format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}{listeners}]\n\
             upstreams:\n  one: {{ endpoints: ['{address}'] }}\nroutes: [{{ upstream: one }}]\n"
        )
    };
    let proxy = Proxy::start_whole(&with(&format!(", {{ name: spare, bind: '{spare}' }}"))).await;
    let stream = TcpStream::connect(spare).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut sender = sender.clone().ready().await.unwrap();
        let request = Request::get(format!("http://{spare}/")).body(()).unwrap();
        waiting.push(sender.send_request(request, true).unwrap().0);
    }
    until("they are under way", || async { (upstream.count() == 3).then_some(()) }).await;
    proxy.replace(&with("")).await;
    let refused = || async { sender.clone().ready().await.err().filter(h2::Error::is_go_away) };
    let goaway = until("it is told", refused).await;
    assert_eq!(goaway.reason(), Some(h2::Reason::NO_ERROR), "nobody did anything wrong");
    assert!(!driver.is_finished(), "what is under way goes on");
    open.send_replace(true);
    for response in waiting {
        let (head, mut body) = response.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        let mut text = Vec::new();
        while let Some(part) = body.data().await {
            text.extend(part.unwrap());
        }
        assert_eq!(text, b"at last");
    }
    let ended = tokio::time::timeout(PATIENCE, driver).await.expect("then it is closed");
    ended.unwrap().unwrap();
    let active = || async {
        let active = proxy.metric("weir_downstream_connections_active", &["listener=\"spare\""]).await;
        (active == 0.0).then_some(())
    };
    until("nothing is left", active).await;
    assert_eq!(upstream.count(), 3);
}
