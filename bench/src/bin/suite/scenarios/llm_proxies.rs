//! Gateways for models that sell nothing, and ours with a credit key beside them.

use super::cost::{COLUMNS, RESTRICTIONS};
use super::{CONNECTIONS, Stage};
use crate::gateway::{FREE, METERED, Setup};
use crate::payments::CALL;
use crate::peers::{Found, litellm, portkey};
use crate::row::{Payment, Probe, Row};
use crate::table::{Against, Line, Table, measure};

const ABOUT: &str = "A chat completion through each. LiteLLM runs two workers without a database, and so without budgets: its paid path would \
    cost more. Portkey passes the call on as its headers say.";

pub(super) async fn run(stage: Stage<'_>) -> Result<Vec<Table>, String> {
    let Stage { places, behind, effort, options } = stage;
    if !options.peers {
        return Ok(Vec::new());
    }
    let ours = Setup::new("ours", behind.upstream, behind.facilitator).start(places)?;
    let key = Payment::Keys(vec![ours.key(&RESTRICTIONS)?]);
    let probe = Probe::Closed { connections: CONNECTIONS };
    let row = |name: &str, server, address, path, payment| {
        Row::new(name, Some(server), address, (path, CALL), payment, 200, probe)
    };
    let mut rows = vec![
        row("ours, credit key with budgets, metered", &ours.server, ours.address, METERED, key),
        row("ours, plain", &ours.server, ours.address, FREE, Payment::None),
    ];
    let headers = |name: &str| {
        let headers = match name {
            "Portkey" => vec![
                ("authorization", "Bearer sk-nobody".to_owned()),
                ("x-portkey-provider", "openai".to_owned()),
                ("x-portkey-custom-host", format!("http://{}/v1", behind.upstream)),
            ],
            _ => vec![("authorization", format!("Bearer {}", crate::peers::LITELLM_KEY))],
        };
        Payment::Headers(headers)
    };
    let peers: [Found; 2] = [portkey(places), litellm(behind.upstream, places)];
    let mut missing = Vec::new();
    for (name, found) in &peers {
        match found {
            Ok(peer) => rows.push(row(name, &peer.server, peer.address, METERED, headers(name))),
            Err(why) => missing.push(Line::skipped(name, why)),
        }
    }
    let mut lines = measure(rows, effort).await;
    lines.extend(missing);
    Ok(vec![Table {
        id: "llm-proxies",
        title: "Gateways for models",
        about: ABOUT,
        columns: COLUMNS,
        against: Against::Ratio,
        lines,
    }])
}
