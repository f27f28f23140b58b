//! What being paid costs, in processor time of the gateway, beside our own plain proxy and those of others.

use std::net::SocketAddr;

use super::{CONNECTIONS, Stage};
use crate::gateway::{ALL, FEW_INVOICES, FREE, Gateway, LIGHTNING, MESSAGES, METERED, SESSIONS, SOLD, Setup};
use crate::metric::Metric;
use crate::payments::{CALL, MESSAGE_CALL};
use crate::peers::proxies::{haproxy, nginx, nginx_auth_request};
use crate::places::Places;
use crate::process::{Server, free_address};
use crate::row::{Payment, Probe, Row};
use crate::table::{Against, Line, Table, measure};
use crate::{bare, checker};

const ABOUT: &str = "POST of a chat completion, again and again on 64 connections. `plain` is our binary on a free route: no credential, hold \
    or meter. `budgets` is a credit key with two budgets and a limit of calls a minute on a metered price, with its record on disk: the \
    whole of a paid call. Of x402, `test rail` is checked here alone; `exact` asks a facilitator that answers at once. `cold`: a \
    token that was not seen before, for each call. `1 account`: everybody has the same key, else each connection its own. \
    `with an invoice`: of the test node; a connection that has one is shown it again. `no invoice left`: one a second for everybody.";

const VOUCHERS: &str = "200 calls a second on 32 connections, because a session may bring ten vouchers a second: each connection has a channel, and \
    each call a voucher of its own. So few calls share a write to the disk less than those above.";
const VOUCHERS_PER_SECOND: u32 = 200;
const VOUCHER_CHANNELS: usize = 32;

pub(crate) const COLUMNS: &[Metric] = &[
    Metric::CpuMicros,
    Metric::WriterMicros,
    Metric::HelperMicros,
    Metric::PerSecond,
    Metric::FacilitatorCalls,
    Metric::P50Micros,
    Metric::P99Micros,
];

/// Of a key that an operator hands out. The day's limit of its account is a second budget, by the configuration.
pub(super) const RESTRICTIONS: [&str; 6] =
    ["--budget", "9000 TEST", "--max-call", "1 TEST", "--expires", "7d"];

pub(super) async fn run(stage: Stage<'_>) -> Result<Vec<Table>, String> {
    let Stage { places, behind, effort, options } = stage;
    let setup = |name| Setup::new(name, behind.upstream, behind.facilitator);
    let ours = setup("ours").start(places)?;
    let all = setup("ours-all").rails(ALL).start(places)?;
    let lightning = setup("ours-lightning").rails(LIGHTNING).start(places)?;
    let few_invoices = setup("ours-few-invoices").rails(FEW_INVOICES).start(places)?;
    let sessions = setup("ours-sessions").rails(SESSIONS).start(places);
    let (key, limited, held) = (ours.key(&[])?, ours.key(&RESTRICTIONS)?, ours.key(&[])?);
    let many = (0..CONNECTIONS).map(|_| ours.key(&RESTRICTIONS)).collect::<Result<Vec<_>, _>>()?;
    let of = |name: &str, asked, payment| row(name, &ours.server, ours.address, asked, payment, 200);
    let of_all = |name: &str, payment| row(name, &all.server, all.address, (SOLD, CALL), payment, 200);
    let by_lightning = |name: &str, is_known| {
        row(name, &lightning.server, lightning.address, (METERED, CALL), Payment::L402 { is_known }, 200)
    };
    let bare = bare::start(places)?;
    let mut rows = vec![
        of("ours, plain", (FREE, CALL), Payment::None),
        of("ours, credit key", (SOLD, CALL), Payment::Keys(vec![key])),
        of(
            "ours, credit key with budgets, metered, 1 account",
            (METERED, CALL),
            Payment::Keys(vec![limited.clone()]),
        ),
        of("ours, credit key with budgets, metered", (METERED, CALL), Payment::Keys(many)),
        of(
            "ours, Anthropic's words, metered",
            (MESSAGES, MESSAGE_CALL),
            Payment::Keys(vec![limited.clone()]),
        ),
        of("ours, credit key with its holder's signature, metered", (METERED, CALL), Payment::Held(held)),
        by_lightning("ours, L402 known", true),
        by_lightning("ours, L402 cold", false),
        of_all("ours, x402 exact on the test rail", Payment::TestRail),
        of_all("ours, x402 exact with a facilitator", Payment::Exact),
        of_all("ours, x402 batch voucher", Payment::Voucher),
        unpaid("ours, 402", &ours, SOLD),
        unpaid("ours, 402 of a metered price", &ours, METERED),
        unpaid("ours, 402 with an invoice", &lightning, METERED),
        unpaid("ours, 402, no invoice left", &few_invoices, METERED),
        row("bare hyper answer", &bare.server, bare.address, (FREE, CALL), Payment::None, 200),
    ];
    let mut missing = Vec::new();
    match &sessions {
        Ok(ours) => rows.push(unpaid("ours, 402 with Payment challenges", ours, METERED)),
        Err(why) => missing.push(Line::skipped("ours, 402 with Payment challenges", why)),
    }
    let checker = Checker::start(places)?;
    let peers = if options.peers {
        vec![
            nginx(behind.upstream, places),
            haproxy(behind.upstream, false, places),
            nginx_auth_request(behind.upstream, checker.addresses, places),
        ]
    } else {
        Vec::new()
    };
    for (name, found) in &peers {
        match found {
            Ok(peer) if name.contains("auth_request") => {
                let payment = Payment::Keys(vec![checker::key()?]);
                let asked = (SOLD, CALL);
                let counted =
                    row(name, &peer.server, peer.address, asked, payment, 200).with(&checker.server);
                rows.push(counted);
            }
            Ok(peer) => rows.push(row(name, &peer.server, peer.address, (FREE, CALL), Payment::None, 200)),
            Err(why) => missing.push(Line::skipped(name, why)),
        }
    }
    let mut lines = measure(rows, effort).await;
    lines.extend(missing);
    let (title, against) = ("What being paid costs", Against::Ratio);
    let cost = Table { id: "cost", title, about: ABOUT, columns: COLUMNS, against, lines };
    println!("\nVouchers");
    let mut rows = vec![
        paced("ours, plain", &ours, FREE, Payment::None),
        paced("ours, credit key with budgets, metered", &ours, METERED, Payment::Keys(vec![limited])),
        paced("ours, x402 batch voucher", &all, SOLD, Payment::Voucher),
    ];
    let mut missing = Vec::new();
    match &sessions {
        Ok(ours) => {
            rows.push(paced("ours, Payment session voucher, metered", ours, METERED, Payment::Session))
        }
        Err(why) => missing.push(Line::skipped("ours, Payment session voucher, metered", why)),
    }
    let mut lines = measure(rows, effort).await;
    lines.extend(missing);
    let vouchers = Table {
        id: "session-vouchers",
        title: "A voucher for each call",
        about: VOUCHERS,
        columns: COLUMNS,
        against,
        lines,
    };
    Ok(vec![cost, vouchers])
}

fn paced<'a>(name: &str, ours: &'a Gateway, path: &str, payment: Payment) -> Row<'a> {
    let probe = Probe::Paced { per_second: VOUCHERS_PER_SECOND, connections: VOUCHER_CHANNELS };
    Row::new(name, Some(&ours.server), ours.address, (path, CALL), payment, 200, probe)
}

fn unpaid<'a>(name: &str, ours: &'a Gateway, path: &str) -> Row<'a> {
    row(name, &ours.server, ours.address, (path, CALL), Payment::None, 402)
}

fn row<'a>(
    name: &str,
    server: &'a Server,
    address: SocketAddr,
    asked: (&str, &str),
    payment: Payment,
    expected: u16,
) -> Row<'a> {
    let probe = Probe::Closed { connections: CONNECTIONS };
    Row::new(name, Some(server), address, asked, payment, expected, probe)
}

/// The checker of `auth_request`, in a process of its own.
struct Checker {
    addresses: [SocketAddr; 2],
    server: Server,
}

impl Checker {
    fn start(places: &Places) -> Result<Self, String> {
        let addresses = [free_address()?, free_address()?];
        let arguments = addresses.map(|address| address.to_string());
        let server = bare::start_as("checker", &arguments, addresses[0], places)?;
        Ok(Self { addresses, server })
    }
}
