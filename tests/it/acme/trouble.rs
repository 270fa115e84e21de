//! What is served and told while no certificate can be got.

use super::{SHOP, Site, client};
use crate::support::pebble::{Leads, Pebble, Way};
use crate::support::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_certificate_clients_are_refused_and_the_rest_serves() {
    let (way, state) = (Way::new().await, tempfile::tempdir().unwrap());
    let site = Site::open(&state, &format!("domains: [{SHOP}], {}", way.keys())).await;
    for name in [SHOP, "other.example.com"] {
        let refused =
            client(&way.authority.roots()).try_connect(site.edge, name).await.unwrap_err().to_string();
        assert!(refused.contains("UnrecognisedName"), "{name}: {refused}");
    }
    let labels = ["listener=\"edge\"", "cause=\"server_name\""];
    until("both are counted", || async {
        (site.proxy.metric("weir_downstream_refused_total", &labels).await == 2.0).then_some(())
    })
    .await;
    let answer = reqwest::get(site.proxy.url("/")).await.unwrap().text().await.unwrap();
    assert_eq!(answer, "one");
    let told = site.certificate().await;
    assert!(told["not_after"].is_null() && told["days_left"].is_null(), "{told}");
    assert_eq!(told["names"], serde_json::json!([SHOP]), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_that_is_gone_is_asked_seldom_and_the_old_certificate_serves_on() {
    let (way, state) = (Way::new().await, tempfile::tempdir().unwrap());
    let site = Site::open(&state, &format!("domains: [{SHOP}], {}", way.keys())).await;
    let pebble = site.pebble(&way, ", \"certificateValidityPeriod\": 24").await;
    site.has_got(1.0).await;
    let roots = pebble.roots(&way).await;
    let first = site.shown(&roots).await;
    way.set(Leads::Nowhere);
    drop(pebble);
    let asked = way.asked();
    site.has_failed(1.0).await;
    assert_eq!(site.shown(&roots).await, first);
    let told = site.certificate().await;
    assert!(told["acme"]["last_error"].as_str().is_some_and(|error| error.contains("localhost")), "{told}");
    assert_eq!(told["acme"]["failures"], 1, "{told}");
    let next: jiff::Timestamp = told["acme"]["next_attempt"].as_str().unwrap().parse().unwrap();
    let wait = next.duration_since(jiff::Timestamp::now());
    assert!((40..61).contains(&wait.as_secs()), "{told}");
    assert_eq!(way.asked(), asked + 1, "once, and not again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_that_is_refused_is_told_and_not_repeated_at_once() {
    let astray = "does not see that the names lead here: shop.example.com: ";
    let rows = [
        ("domains: [blocked.example.org]", false, "rejectedIdentifier"),
        ("domains: [shop.example.com]", true, astray),
        ("domains: [shop.example.com], challenge: http-01", true, astray),
    ];
    for (keys, is_astray, error) in rows {
        let (way, state) = (Way::new().await, tempfile::tempdir().unwrap());
        let site = Site::open(&state, &format!("{keys}, {}", way.keys())).await;
        let blocked = ", \"domainBlocklist\": [\"blocked.example.org\"]";
        let _pebble = if is_astray {
            let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            Pebble::start(&way, nobody, nobody, blocked).await
        } else {
            site.pebble(&way, blocked).await
        };
        site.has_failed(1.0).await;
        let told = site.certificate().await;
        let said = told["acme"]["last_error"].as_str().unwrap_or_default();
        assert!(said.contains(error), "{keys}: {told}");
        let next: jiff::Timestamp = told["acme"]["next_attempt"].as_str().unwrap().parse().unwrap();
        let wait = next.duration_since(jiff::Timestamp::now());
        assert!((215..301).contains(&wait.as_secs()), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directory_that_is_none_or_not_to_be_believed_is_told() {
    let way = Way::new().await;
    let ca = way.folder.path().join("ca.pem").display().to_string();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = way.address.port();
    let rows = [
        (format!("directory: 'https://localhost:{port}/nothing', directory_ca: '{ca}'"), "404"),
        (format!("directory: 'https://localhost:{port}/dir'"), "no TLS with localhost"),
        (format!("directory: 'https://{nobody}/dir', directory_ca: '{ca}'"), "cannot be reached"),
    ];
    let state = tempfile::tempdir().unwrap();
    let first = Site::open(&state, &format!("domains: [{SHOP}], {}", way.keys())).await;
    let _pebble = first.pebble(&way, "").await;
    for (keys, error) in rows {
        let state = tempfile::tempdir().unwrap();
        let site = Site::open(&state, &format!("domains: [{SHOP}], {keys}")).await;
        site.has_failed(1.0).await;
        let told = site.certificate().await;
        assert!(told["acme"]["last_error"].as_str().unwrap().contains(error), "{keys}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_that_takes_nothing_then_a_certificate_serves_all_the_same_and_an_account_is_not_used() {
    let (way, state) = (Way::new().await, tempfile::tempdir().unwrap());
    let keys = format!("domains: [{SHOP}], {}", way.keys());
    let first = Site::open(&state, &keys).await;
    let pebble = first.pebble(&way, "").await;
    first.has_got(1.0).await;
    drop(pebble);
    for (folder, is_served) in [("certificates", true), ("accounts", false)] {
        let (file, spoilt) = (super::kept(&state, folder), tempfile::tempdir().unwrap());
        let name = file.file_name().unwrap().to_string_lossy();
        // A folder where the file is written that then takes the name.
        let taken = spoilt.path().join("state/acme").join(folder).join(format!(".{name}.new"));
        std::fs::create_dir_all(taken).unwrap();
        way.set(Leads::NotYet);
        let site = Site::open(&spoilt, &keys).await;
        let pebble = site.pebble(&way, "").await;
        if is_served {
            site.has_got(1.0).await;
            site.shown(&pebble.roots(&way).await).await;
        } else {
            site.has_failed(1.0).await;
            let told = site.certificate().await;
            let error = told["acme"]["last_error"].as_str().unwrap_or_default();
            assert!(error.contains("the account cannot be kept"), "{told}");
        }
    }
}
