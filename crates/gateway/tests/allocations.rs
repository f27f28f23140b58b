//! How often the gateway asks for memory for one request (PERF-30). The figures may only fall: a request of a kind that
//! counts more than it did has got something that it need not have.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use gateway::config;
use gateway::server;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What each kind of request takes: a free call, a challenge.
const COMMITTED: [(&str, &str, usize); 2] = [("/free", "200", 28), ("/sold", "402", 25)];

const REQUESTS: usize = 200;
/// What runs beside requests asks for memory now and then: the fewest of so many tries are the requests' own.
const TRIES: usize = 5;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{\"ok\": \"yes\"}";
const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"How is the weather?"}]}"#;

/// Answers on each connection, and takes no memory for it.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut request = [0; 4096];
                // Each request is small enough to come at once.
                while stream.read(&mut request).is_ok_and(|count| count > 0) {
                    stream.write_all(ANSWER).unwrap();
                }
            });
        }
    });
    address
}

fn gateway(folder: &std::path::Path, upstream: SocketAddr) -> SocketAddr {
    let path = folder.join("farthing.yaml");
    let store = folder.join("store");
    let text = format!(
        "mode: test\nserver: {{ listen: [\"127.0.0.1:0\"], threads: 1 }}\nstore: {{ path: \"{}\" }}\n\
         upstreams: {{ raw: {{ url: \"http://{upstream}\", dialect: raw }} }}\nroutes:\n\
         - {{ match: {{ method: POST, path: /free }}, upstream: raw, price: free }}\n\
         - {{ match: {{ method: POST, path: /sold }}, upstream: raw, price: {{ per_call: 0.001 USD }} }}\n\
         rails: {{ test: {{}} }}\nlimits: {{ unpaid: {{ per_ip: 4000000000/min }} }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n",
        store.display()
    );
    std::fs::write(&path, text).unwrap();
    let config = config::load(&path).unwrap();
    let (started, listening) = mpsc::channel();
    // It ends with the process.
    thread::spawn(move || server::run(config, None, |listening| started.send(listening.clone()).unwrap()));
    listening.recv().unwrap().public[0]
}

/// Allocations for one request to `path`, of whatever thread.
fn count(gateway: SocketAddr, path: &str, status: &str) -> usize {
    let request =
        format!("POST {path} HTTP/1.1\r\nhost: {gateway}\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let mut stream = TcpStream::connect(gateway).unwrap();
    let mut answer = [0; 16 * 1024];
    let mut ask = |times: usize| {
        for _ in 0..times {
            stream.write_all(request.as_bytes()).unwrap();
            let mut have = 0;
            while !is_whole(&answer[..have]) {
                have += stream.read(&mut answer[have..]).unwrap();
            }
            assert_eq!(&answer[9..12], status.as_bytes(), "{}", String::from_utf8_lossy(&answer[..have]));
        }
    };
    ask(REQUESTS);
    let counted = (0..TRIES).map(|_| {
        let region = Region::new(MEMORY);
        ask(REQUESTS);
        let change = region.change();
        (change.allocations + change.reallocations) / REQUESTS
    });
    counted.min().unwrap()
}

fn is_whole(answer: &[u8]) -> bool {
    let text = std::str::from_utf8(answer).unwrap();
    let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.split_once("\r\n"));
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
    length.zip(body).is_some_and(|((length, _), have)| length.parse() == Ok(have))
}

#[test]
fn perf_30_a_request_asks_for_memory_no_more_often_than_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(folder.path(), upstream());
    let counted = COMMITTED.map(|(path, status, _)| (path, status, count(gateway, path, status)));
    let is_more = counted.iter().zip(&COMMITTED).any(|(now, committed)| now.2 > committed.2);
    assert!(!is_more, "counted {counted:?}, committed {COMMITTED:?}");
}
