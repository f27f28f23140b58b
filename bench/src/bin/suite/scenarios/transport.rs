//! TLS and HTTP/2 on either side.

use super::cost::{COLUMNS, RESTRICTIONS};
use super::{CONNECTIONS, Stage};
use crate::gateway::{FREE, METERED, Setup};
use crate::load::Target;
use crate::payments::CALL;
use crate::process::free_address;
use crate::row::{Payment, Probe, Row};
use crate::serve::Speaks;
use crate::table::{Against, Table, measure};
use crate::tls::{Certificate, HOST};
use crate::upstream;

const ABOUT: &str = "The plain proxy and the whole of a paid call, with TLS 1.3 from the client, to the upstream, and with HTTP/2. Connections are \
    kept, so that handshakes do not count. HTTP/2: 4 connections with 16 requests at once on each.";

/// Requests at once on a connection of HTTP/2.
const AT_ONCE: usize = 16;

pub(super) async fn run(stage: Stage<'_>) -> Result<Vec<Table>, String> {
    let Stage { places, behind, effort, .. } = stage;
    let certificate = Certificate::new()?;
    let files = places.folder("tls")?;
    certificate.write(&files)?;
    let here = files.display();
    let over_tls = free_address()?;
    upstream::start(over_tls, Speaks { tls: Some(certificate.server("http/1.1")?), http2: false });
    let over_http2 = free_address()?;
    upstream::start(over_http2, Speaks { http2: true, tls: None });
    let tls = format!(", tls: {{ cert: {here}/cert.pem, key: \"${{file:{here}/key.pem}}\" }}");
    let setup = |name| Setup::new(name, behind.upstream, behind.facilitator);
    let clear = setup("clear").start(places)?;
    let from_client = Setup { server: tls, ..setup("tls-client") }.start(places)?;
    let to_upstream = format!("\"https://{HOST}:{}\", ca: {here}/cert.pem", over_tls.port());
    let to_upstream = Setup { upstream: to_upstream, ..setup("tls-upstream") }.start(places)?;
    let http2 = format!("\"http://{over_http2}\", protocol: h2");
    let http2 = Setup { upstream: http2, ..setup("h2-upstream") }.start(places)?;
    let target =
        |address, tls, http2: bool| Target { tls, http2: http2.then_some(AT_ONCE), ..Target::from(address) };
    let mut rows = Vec::new();
    for (name, gateway, target) in [
        ("HTTP/1.1 in the clear", &clear, target(clear.address, None, false)),
        (
            "TLS from the client",
            &from_client,
            target(from_client.address, Some(certificate.client("http/1.1")?), false),
        ),
        ("TLS to the upstream", &to_upstream, target(to_upstream.address, None, false)),
        ("HTTP/2 from the client", &clear, target(clear.address, None, true)),
        (
            "HTTP/2 over TLS from the client",
            &from_client,
            target(from_client.address, Some(certificate.client("h2")?), true),
        ),
        ("HTTP/2 to the upstream", &http2, target(http2.address, None, false)),
    ] {
        let probe = Probe::Closed { connections: CONNECTIONS };
        let key = Payment::Keys(vec![gateway.key(&RESTRICTIONS)?]);
        let server = Some(&gateway.server);
        for (what, asked, payment) in [("plain", (FREE, CALL), Payment::None), ("paid", (METERED, CALL), key)]
        {
            rows.push(Row::new(
                format!("ours, {what}, {name}"),
                server,
                target.clone(),
                asked,
                payment,
                200,
                probe,
            ));
        }
    }
    let lines = measure(rows, effort).await;
    let against = Against::Ratio;
    Ok(vec![Table {
        id: "transport",
        title: "TLS and HTTP/2",
        about: ABOUT,
        columns: COLUMNS,
        against,
        lines,
    }])
}
