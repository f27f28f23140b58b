//! TLS on both sides (SEC-54): our listener's certificate with both protocols by ALPN, and upstreams with a
//! certificate of the public roots or of their own.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::Bytes;
use farthing_tests::gateway::{Gateway, PATIENCE};
use farthing_tests::http;
use farthing_tests::tls::{Authority, TlsUpstream};
use farthing_tests::upstream::{FRIENDLY_COST, KEY, Upstream};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;

const WHOLE: i64 = 1_000_000_000;

#[test]
fn sec_54_the_listener_speaks_both_protocols_over_tls_and_nothing_in_the_clear() {
    let authority = Authority::new("ours");
    let files = tempfile::tempdir().unwrap();
    authority.issue("localhost").write(&files.path().join("cert.pem"), &files.path().join("key.pem"));
    let upstream = Upstream::friendly();
    let here = files.path().display();
    let gateway = Gateway::start(
        upstream.address,
        &format!(
            "server: {{ listen: [\"{{address}}\"], threads: 1, tls: {{ cert: {here}/cert.pem, key: \"${{file:{here}/key.pem}}\" }} }}\n"
        ),
    );
    let key = gateway.key("1 TEST");
    let body = json!({"model": "m", "max_tokens": 100, "messages": []}).to_string();
    // HTTP/1.1
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(authority.client(&["http/1.1"]), name.clone()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(gateway.address).unwrap());
    stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost:{}\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        gateway.address.port(),
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let answer = http::read_answer(&mut stream).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stream.conn.alpn_protocol(), Some(b"http/1.1".as_slice()));
    // HTTP/2
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(authority.client(&["h2", "http/1.1"]));
        let tls = connector.connect(name, tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let request = ::http::Request::post(format!(
            "https://localhost:{}/v1/chat/completions",
            gateway.address.port()
        ))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.clone())))
        .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    });
    assert_eq!(upstream.hits(), 2);
    // In the clear nothing is answered.
    let mut plain = TcpStream::connect(gateway.address).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(request.as_bytes()).unwrap();
    let mut got = Vec::new();
    let _ = plain.read_to_end(&mut got);
    assert!(!got.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&got));
    let books = gateway.books();
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 2));
}

/// A gateway before two TLS upstreams, of which only `trusted` has its roots in the configuration.
fn before(trusted: &TlsUpstream, other: &TlsUpstream, roots: &Authority) -> (Gateway, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("root.pem"), roots.pem()).unwrap();
    let auth = "auth: { bearer: \"${env:UPSTREAM_KEY}\" }, dialect: openai";
    let more = format!(
        "upstreams:\n  good: {{ url: \"https://localhost:{0}\", ca: {1}/root.pem, {auth} }}\n  bare: {{ url: \"https://localhost:{0}\", {auth} }}\n  \
         other: {{ url: \"https://localhost:{2}\", ca: {1}/root.pem, {auth} }}\n\
         routes:\n  - {{ match: {{ method: POST, path: /v1/chat/completions }}, upstream: {{ by_model: {{ good: good, bare: bare, other: other }} }}, price: by_model }}\n",
        trusted.address.port(),
        files.path().display(),
        other.address.port(),
    );
    (Gateway::start(trusted.address, &more), files)
}

#[test]
fn sec_54_an_upstream_is_asked_only_with_a_certificate_that_its_own_roots_vouch_for() {
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let good = TlsUpstream::start(&ours.issue("localhost"));
    let other = TlsUpstream::start(&strangers.issue("localhost"));
    let (gateway, _files) = before(&good, &other, &ours);
    let key = gateway.key("1 TEST");
    let bearer = format!("Bearer {key}");
    for (model, status) in [("good", 200), ("bare", 502), ("other", 502), ("good", 200)] {
        let body = json!({"model": model, "max_tokens": 100, "messages": []});
        let answer =
            http::post(gateway.address, "/v1/chat/completions", &[("authorization", &bearer)], &body);
        assert_eq!(answer.status, status, "{model}: {}", answer.text());
        if status == 502 {
            assert_eq!(
                (answer.code().as_str(), answer.json()["money"].as_str()),
                ("upstream_failed", Some("nothing_taken"))
            );
        }
    }
    assert_eq!(gateway.settled_balance(&key), WHOLE - 2 * FRIENDLY_COST);
    assert_eq!(good.seen().len(), 2);
    assert_eq!(good.seen()[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert!(other.seen().is_empty(), "the key went to a stranger");
    // `check` sees the same.
    let output = gateway.command(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ok = |name: &str| {
        let name = format!("upstream {name}");
        said["probes"].as_array().unwrap().iter().find(|probe| probe["probe"] == name).unwrap()["ok"].clone()
    };
    assert_eq!([ok("bare"), ok("good"), ok("other")], [false, true, false].map(serde_json::Value::from));
}

#[test]
fn a_certificate_for_another_name_is_not_taken() {
    let ours = Authority::new("ours");
    let good = TlsUpstream::start(&ours.issue("localhost"));
    let misnamed = TlsUpstream::start(&ours.issue("elsewhere.test"));
    let (gateway, _files) = before(&good, &misnamed, &ours);
    let key = gateway.key("1 TEST");
    let body = json!({"model": "other", "max_tokens": 100, "messages": []});
    let answer = http::post(
        gateway.address,
        "/v1/chat/completions",
        &[("authorization", &format!("Bearer {key}"))],
        &body,
    );
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(misnamed.seen().is_empty());
    assert_eq!(gateway.settled_balance(&key), WHOLE);
}
