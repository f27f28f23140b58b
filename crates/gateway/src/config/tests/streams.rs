//! What upstreams speak and routes carry, right and wrong.

use http::Method;

use super::check;
use crate::config::{Protocol, Provider};

fn with(upstream: &str, route: &str) -> String {
    format!(
        "mode: test\nupstreams: {{ a: {{ url: http://127.0.0.1:8000, {upstream} }}, h: {{ url: http://127.0.0.1:8001, dialect: raw }} }}\n\
         prices: {{ \"*\": {{ input: 1 USD/Mtok, output: 2 USD/Mtok }} }}\nrails: {{ test: {{}} }}\nroutes: [{{ {route} }}]\n"
    )
}

#[test]
fn streams_arrive() {
    let grpc =
        with("protocol: grpc, metadata: [x-a, x-b]", "match: { path: /s.S/** }, upstream: a, price: free");
    let config = check(&grpc).unwrap();
    let upstream = &config.upstreams["a"];
    assert_eq!((upstream.protocol, upstream.provider), (Protocol::Grpc, Provider::Raw));
    assert_eq!(upstream.metadata, ["x-a", "x-b"]);
    assert_eq!(config.routes[0].methods, [Method::POST]);
    assert!(!config.routes[0].websocket);
    let price = "{ per_byte_in: 1 USD/GB, per_second: 0.1 USD, hold: { time: 10s, bytes: 1MiB } }";
    let socket = with(
        "dialect: openai",
        &format!("match: {{ path: /v1/audio/speech }}, upstream: a, websocket: true, price: {price}"),
    );
    let config = check(&socket).unwrap();
    assert_eq!((config.routes[0].websocket, &config.routes[0].methods[..]), (true, &[Method::GET][..]));
    assert_eq!(config.upstreams["a"].protocol, Protocol::Http1);
    let h2 = with("protocol: h2, dialect: openai", "match: { path: /v1/x }, upstream: a, price: free");
    assert_eq!(check(&h2).unwrap().upstreams["a"].protocol, Protocol::H2);
}

#[test]
fn what_cannot_be_carried_says_why() {
    let free = "upstream: a, price: free";
    for (upstream, route, wrong) in [
        ("protocol: http2, dialect: raw", format!("match: {{ path: /x }}, {free}"), "none of http1, h2, grpc"),
        ("protocol: grpc, dialect: openai", format!("match: {{ path: /x }}, {free}"), "leave it off"),
        (
            "dialect: raw, metadata: [x-a]",
            format!("match: {{ path: /x }}, {free}"),
            "is for protocol: grpc only",
        ),
        ("protocol: grpc, metadata: [token]", format!("match: {{ path: /x }}, {free}"), "cannot pass"),
        ("protocol: grpc, metadata: [X-A]", format!("match: {{ path: /x }}, {free}"), "cannot pass"),
        ("protocol: grpc, metadata: [a-bin]", format!("match: {{ path: /x }}, {free}"), "cannot pass"),
        (
            "protocol: grpc",
            format!("match: {{ path: /x, method: [POST, GET] }}, {free}"),
            "only POST can be asked there",
        ),
        (
            "protocol: grpc",
            "match: { path: /x }, upstream: a, price: by_model".to_owned(),
            "is raw and not metered",
        ),
        (
            "protocol: grpc",
            format!("match: {{ path: /x }}, websocket: true, {free}"),
            "needs an upstream with protocol: http1",
        ),
        (
            "protocol: grpc",
            "match: { path: /x }, upstream: { by_model: { \"a*\": a, \"*\": h } }, price: free".to_owned(),
            "some of these upstreams speak gRPC, some do not",
        ),
        (
            "dialect: openai",
            "match: { path: /v1/chat/completions }, websocket: true, upstream: a, price: by_model".to_owned(),
            "a WebSocket is sold per_call, per_second or by its bytes",
        ),
        (
            "dialect: raw",
            format!("match: {{ path: /x, method: POST }}, websocket: true, {free}"),
            "only GET can be asked there",
        ),
        (
            "dialect: raw",
            "match: { path: /x }, websocket: true, upstream: a, price: { per_byte_in: 1 USD/GB }".to_owned(),
            "needs a step to hold for",
        ),
        (
            "dialect: raw",
            "match: { path: /x }, websocket: true, upstream: a, price: { per_call: 1 USD }, freebies: { calls: 1 }"
                .to_owned(),
            "a connection has no end that could be given away",
        ),
        (
            "dialect: raw",
            "match: { path: /x }, websocket: true, upstream: a, price: { per_second: 1 USD }".to_owned(),
            "needs a bound to hold for",
        ),
        (
            "dialect: openai",
            "match: { path: /v1/images/generations }, websocket: true, upstream: a, price: { per_image: 1 USD }"
                .to_owned(),
            "per_image is counted at",
        ),
    ] {
        let errors = check(&with(upstream, &route)).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(wrong), "{upstream} {route}: {errors}");
    }
}
