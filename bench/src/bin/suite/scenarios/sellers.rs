//! Sellers of one call over x402, side by side: what an unpaid request costs them, and what a paid one does.

use std::time::Duration;

use super::cost::COLUMNS;
use super::{CONNECTIONS, Stage};
use crate::gateway::{ALL, CHANNEL, FREE, Gateway, LIGHTNING, METERED, SOLD, Setup};
use crate::metric::Metric;
use crate::payments::CALL;
use crate::peers::{Behind, Found, Peer, mppx, o402, x402_sellers};
use crate::process::Server;
use crate::row::{Payment, Probe, Row};
use crate::table::{Against, Line, Table, measure};
use crate::upstream::streamed_call;

const UNPAID: &str = "A POST of a chat completion without a payment. `ours` and the peers offer `exact` on one network: the \
    peers in the header, o402 in the body too, ours in the header with a quote and a way to sign in, in the body for version 1, and \
    with an error that SDKs understand. `all schemes` offers every scheme that we have, `Lightning` an invoice of the test node. Free \
    routes are what the same stack costs as a mere proxy.";
const PAID: &str = "Each call brings a payment of its own, signed before; the facilitator answers at once. Ours asks it \
    once, after its own check, and has intent and deposit on disk before the upstream is asked; the peers ask it twice and \
    keep nothing: that row is the same work and more. On the test rail the check is ours alone. A credit key is what a payer has after the \
    first payment.";
const VOUCHERS: &str = "`batch-settlement`: a channel for each connection, opened before, and a voucher for each call. \
    Nobody is asked about a voucher. Ours has it on disk before the answer begins; the peers keep it in memory.";
const STREAMED: &str = "Sixteen streams at once, each paid by a payment of its own, of twenty events with 50 ms between them. An event's delay is \
    counted from the upstream's write of it: who gathers the answer before it goes on delays the first event by all that follow.";
const STREAMS: usize = 16;
const STREAM_EVENTS: u32 = 20;
const STREAM_PAUSE: Duration = Duration::from_millis(50);
const STREAM_COLUMNS: &[Metric] =
    &[Metric::FirstMicros, Metric::P50Micros, Metric::P99Micros, Metric::CpuMicrosPerEvent, Metric::Gathered];

/// The peer that sells nothing.
const GIVES: &str = "o402 without payment";

/// Ours in the configurations that are compared.
struct Ours {
    exact: Gateway,
    all: Gateway,
    lightning: Gateway,
    key: String,
}

pub(super) async fn run(stage: Stage<'_>) -> Result<Vec<Table>, String> {
    let Stage { places, behind, effort, options } = stage;
    let setup = |name| Setup::new(name, behind.upstream, behind.facilitator);
    let exact = setup("ours").start(places)?;
    let key = exact.key(&[])?;
    let all = setup("ours-all").rails(ALL).start(places)?;
    let lightning = setup("ours-lightning").rails(LIGHTNING).start(places)?;
    let ours = Ours { exact, all, lightning, key };
    let mut found: Vec<Found> = Vec::new();
    if options.peers {
        found.extend(x402_sellers(behind, places));
        found.extend(o402(behind, options.build_o402, places));
        found.push(mppx(behind, places));
    }
    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    for (name, found) in found {
        match found {
            Ok(peer) => peers.push(peer),
            Err(why) => missing.push((name, why)),
        }
    }
    let mut tables = Vec::new();
    let body = streamed_call(STREAM_EVENTS, STREAM_PAUSE);
    let (calls, streams) = ((COLUMNS, Against::Ratio), (STREAM_COLUMNS, Against::Added));
    let streamed = streamed(&ours, &peers, &body, behind);
    for (id, title, about, (columns, against), rows) in [
        ("unpaid", "Unpaid requests", UNPAID, calls, unpaid(&ours, &peers)),
        ("x402", "Calls paid over x402", PAID, calls, paid(&ours, &peers)),
        ("vouchers", "Calls paid from a channel", VOUCHERS, calls, vouchers(&ours, &peers)),
        ("streamed", "Streamed answers to paid calls", STREAMED, streams, streamed),
    ] {
        println!("\n{title}");
        let mut lines = measure(rows, effort).await;
        lines.extend(missing.iter().map(|(name, why)| Line::skipped(name, why)));
        tables.push(Table { id, title, about, columns, against, lines });
    }
    Ok(tables)
}

fn row<'a>(
    name: String,
    (server, address): (&'a Server, std::net::SocketAddr),
    path: &str,
    payment: Payment,
    expected: u16,
) -> Row<'a> {
    let probe = Probe::Closed { connections: CONNECTIONS };
    Row::new(name, Some(server), address, (path, CALL), payment, expected, probe)
}

fn of(gateway: &Gateway) -> (&Server, std::net::SocketAddr) {
    (&gateway.server, gateway.address)
}

/// mppx mounts what it sells in a folder.
fn path(peer: &Peer, path: &str) -> String {
    if peer.name.starts_with("mppx") { format!("/api{path}") } else { path.to_owned() }
}

fn unpaid<'a>(ours: &'a Ours, peers: &'a [Peer]) -> Vec<Row<'a>> {
    let none = || Payment::None;
    let mut rows = vec![
        row("ours, 402".to_owned(), of(&ours.exact), SOLD, none(), 402),
        row("ours, 402, metered price".to_owned(), of(&ours.exact), METERED, none(), 402),
        row("ours, 402, all schemes".to_owned(), of(&ours.all), SOLD, none(), 402),
        row("ours, 402, Lightning".to_owned(), of(&ours.lightning), METERED, none(), 402),
        row("ours, free route".to_owned(), of(&ours.exact), FREE, none(), 200),
    ];
    for peer in peers {
        let at = (&peer.server, peer.address);
        // What o402 sells nobody can have for nothing, and nobody pays it where it sells nothing.
        match peer.name {
            GIVES => rows.push(row(format!("{GIVES}, proxy"), at, METERED, none(), 200)),
            "o402" => rows.push(row("o402, 402".to_owned(), at, SOLD, none(), 402)),
            name => {
                rows.push(row(format!("{name}, 402"), at, &path(peer, SOLD), none(), 402));
                rows.push(row(format!("{name}, free route"), at, &path(peer, FREE), none(), 200));
            }
        }
    }
    rows
}

fn paid<'a>(ours: &'a Ours, peers: &'a [Peer]) -> Vec<Row<'a>> {
    let mut rows = vec![
        row("ours, exact".to_owned(), of(&ours.exact), SOLD, Payment::Exact, 200),
        row("ours, exact on the test rail".to_owned(), of(&ours.all), SOLD, Payment::TestRail, 200),
        row("ours, credit key".to_owned(), of(&ours.exact), SOLD, Payment::Keys(vec![ours.key.clone()]), 200),
        row("ours, free route".to_owned(), of(&ours.exact), FREE, Payment::None, 200),
    ];
    for peer in peers.iter().filter(|peer| peer.name != GIVES) {
        let name = format!("{}, exact", peer.name);
        rows.push(row(name, (&peer.server, peer.address), &path(peer, SOLD), Payment::Exact, 200));
    }
    rows
}

fn vouchers<'a>(ours: &'a Ours, peers: &'a [Peer]) -> Vec<Row<'a>> {
    let mut rows = vec![
        row("ours, vouchers".to_owned(), of(&ours.all), SOLD, Payment::Voucher, 200),
        row("ours, free route".to_owned(), of(&ours.all), FREE, Payment::None, 200),
    ];
    for peer in peers.iter().filter(|peer| peer.name.starts_with('@')) {
        let name = format!("{}, vouchers", peer.name);
        rows.push(row(name, (&peer.server, peer.address), CHANNEL, Payment::Voucher, 200));
    }
    rows
}

fn streamed<'a>(ours: &'a Ours, peers: &'a [Peer], body: &str, behind: Behind) -> Vec<Row<'a>> {
    let probe = Probe::Streams { count: STREAMS };
    let (exact, key) = (&ours.exact, Payment::Keys(vec![ours.key.clone()]));
    let of_ours = |name, path, payment| {
        Row::new(name, Some(&exact.server), exact.address, (path, body), payment, 200, probe)
    };
    let mut rows = vec![
        Row::new("the upstream itself", None, behind.upstream, (FREE, body), Payment::None, 200, probe),
        of_ours("ours, exact", SOLD, Payment::Exact),
        of_ours("ours, credit key, metered", METERED, key),
    ];
    for peer in peers.iter().filter(|peer| peer.name != GIVES) {
        let path = path(peer, SOLD);
        let asked = (path.as_str(), body);
        let name = format!("{}, exact", peer.name);
        rows.push(Row::new(name, Some(&peer.server), peer.address, asked, Payment::Exact, 200, probe));
    }
    rows
}
