//! Clients that others wrote: openssl and curl.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::{Edge, SHOP};
use crate::support::tls::{Authority, Wanted};

/// Runs `program`; what is to be installed is said where it is missing.
fn run(program: &str, arguments: &[&str]) -> (String, Output) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program} does not run ({error}): `make peers` installs it"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output)
}

/// The edge and the file of its authority.
async fn open(tls: &str) -> (Edge, PathBuf) {
    let edge = Edge::open(tls).await;
    let ca = edge.folder.path().join("ca.pem");
    std::fs::write(&ca, edge.authority.pem()).unwrap();
    (edge, ca)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_agrees_on_version_suite_and_name_and_resumes() {
    let (edge, ca) = open("").await;
    let (address, ca) = (edge.address.to_string(), ca.to_str().unwrap());
    let session = edge.folder.path().join("session");
    let session = session.to_str().unwrap();
    for (version, suite, agreed) in [
        ("-tls1_2", "ECDHE-ECDSA-AES128-GCM-SHA256", true),
        ("-tls1_2", "ECDHE-ECDSA-CHACHA20-POLY1305", true),
        // Without a secret of the connection's own, or without authentication of what is sealed.
        ("-tls1_2", "ECDHE-ECDSA-AES128-SHA256", false),
        ("-tls1_2", "AES128-GCM-SHA256", false),
        ("-tls1_2", "DHE-RSA-AES128-GCM-SHA256", false),
        ("-tls1_3", "", true),
        ("-tls1_1", "", false),
    ] {
        let mut arguments = vec![
            "s_client",
            "-connect",
            &address,
            "-servername",
            SHOP,
            "-CAfile",
            ca,
            "-verify_return_error",
        ];
        arguments.push(version);
        // The old ones have to be asked for.
        let cipher = format!("{}:@SECLEVEL=0", if suite.is_empty() { "DEFAULT" } else { suite });
        if version != "-tls1_3" {
            arguments.extend(["-cipher", &cipher]);
        }
        let (text, output) = run("openssl", &arguments);
        assert_eq!(output.status.success(), agreed, "{version} {suite}: {text}");
        assert_eq!(!text.contains("no peer certificate available"), agreed, "{version} {suite}: {text}");
    }
    // What openssl has kept of TLS 1.2 it can show again.
    let first = [
        "s_client",
        "-connect",
        &address,
        "-servername",
        SHOP,
        "-CAfile",
        ca,
        "-tls1_2",
        "-sess_out",
        session,
    ];
    let (text, _) = run("openssl", &first);
    assert!(text.contains("New, TLSv1.2"), "{text}");
    let again = ["s_client", "-connect", &address, "-servername", SHOP, "-tls1_2", "-sess_in", session];
    let (text, _) = run("openssl", &again);
    assert!(text.contains("Reused, TLSv1.2"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_speaks_each_version_of_http_and_shows_its_certificate() {
    let clients = Authority::new("clients");
    let edge = Edge::with(
        "      client_ca: FOLDER/clients.pem\n      client_auth: optional\n",
        "",
        |own, folder| {
            std::fs::write(folder.join("clients.pem"), clients.pem()).unwrap();
            std::fs::write(folder.join("ca.pem"), own.pem()).unwrap();
            vec![own.issue(&Wanted::of(&[SHOP])).write(folder, "shop")]
        },
    )
    .await;
    let leaf = clients.issue(&Wanted { common_name: Some("ada"), ..Wanted::of(&["ada.test"]) });
    leaf.write(edge.folder.path(), "ada");
    let file = |name: &str| edge.folder.path().join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("ada.pem"), file("ada.key"));
    let resolve = format!("{SHOP}:{}:127.0.0.1", edge.address.port());
    let url = format!("https://{SHOP}:{}/", edge.address.port());
    for (http, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in ["--tls-max=1.2", "--tlsv1.3"] {
            for shows in [false, true] {
                let mut arguments =
                    vec!["--silent", "--show-error", "--cacert", &ca, "--resolve", &resolve, http];
                arguments.extend(tls.split('='));
                arguments.extend(["--write-out", " %{http_version} %{ssl_verify_result}"]);
                if shows {
                    arguments.extend(["--cert", &cert, "--key", &key]);
                }
                arguments.push(&url);
                let (text, _) = run("curl", &arguments);
                assert_eq!(text, format!("one {version} 0"), "{http} {tls} {shows}");
                let told = edge.upstream.last().header("x-forwarded-client-cert").to_owned();
                assert_eq!(told.contains("Subject=\"CN=ada\""), shows, "{http} {tls}: {told}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_pass_byte_for_byte_both_ways() {
    let echo = crate::support::Upstream::answering(|request| async move {
        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
        http::Response::new(crate::support::upstream::full(body))
    })
    .await;
    let (edge, ca) = open("").await;
    let text = std::fs::read_to_string(&edge.proxy.path).unwrap();
    edge.proxy.replace(&text.replace(&edge.upstream.address.to_string(), &echo.address.to_string())).await;
    let resolve = format!("{SHOP}:{}:127.0.0.1", edge.address.port());
    let url = format!("https://{SHOP}:{}/", edge.address.port());
    let data: Vec<u8> =
        (0..9_000_001_u32).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect();
    let path = edge.folder.path().join("data");
    std::fs::write(&path, &data).unwrap();
    let upload = format!("@{}", path.display());
    for http in ["--http1.1", "--http2"] {
        for coding in ["x-a: b", "transfer-encoding: chunked"] {
            if http == "--http2" && coding.starts_with("transfer") {
                continue;
            }
            let arguments = [
                "--silent",
                "--show-error",
                "--cacert",
                ca.to_str().unwrap(),
                "--resolve",
                &resolve,
                http,
                "--data-binary",
                &upload,
                "--header",
                coding,
                &url,
            ];
            let (text, output) = run("curl", &arguments);
            assert!(
                output.stdout == data,
                "{http} {coding}: {} {}",
                output.stdout.len(),
                &text[..100.min(text.len())]
            );
        }
    }
}
