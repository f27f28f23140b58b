//! What is added to an answer's time: one call after the other on one connection, and at a fixed rate.

use super::cost::RESTRICTIONS;
use super::{CONNECTIONS, Stage};
use crate::gateway::{FREE, METERED, Setup};
use crate::metric::Metric;
use crate::payments::CALL;
use crate::peers::proxies::{haproxy, nginx};
use crate::row::{Payment, Probe, Row};
use crate::table::{Against, Line, Table, measure};

const ONE: &str = "One connection, one call after the other. What is added is the difference to the first row, which asks the upstream itself.";
const PACED: &str = "3,000 requests a second on 64 connections, sent when their time has come whatever the answers do. An answer's time \
    counts from when its request was due (coordinated omission).";
const COLUMNS: &[Metric] =
    &[Metric::P50Micros, Metric::P99Micros, Metric::P999Micros, Metric::CpuMicros, Metric::PerSecond];

pub(super) const PER_SECOND: u32 = 3_000;

pub(super) async fn run(stage: Stage<'_>) -> Result<Vec<Table>, String> {
    let Stage { places, behind, effort, options } = stage;
    let ours = Setup::new("ours", behind.upstream, behind.facilitator).start(places)?;
    let key = Payment::Keys(vec![ours.key(&RESTRICTIONS)?]);
    let peers = if options.peers {
        vec![nginx(behind.upstream, places), haproxy(behind.upstream, false, places)]
    } else {
        Vec::new()
    };
    let mut tables = Vec::new();
    for (id, title, about, probe) in [
        ("one-connection", "Added latency, one connection", ONE, Probe::Closed { connections: 1 }),
        (
            "paced",
            "Added latency at 3,000 requests a second",
            PACED,
            Probe::Paced { per_second: PER_SECOND, connections: CONNECTIONS },
        ),
    ] {
        let mut rows = vec![
            Row::new("the upstream itself", None, behind.upstream, (FREE, CALL), Payment::None, 200, probe),
            Row::new(
                "ours, plain",
                Some(&ours.server),
                ours.address,
                (FREE, CALL),
                Payment::None,
                200,
                probe,
            ),
            Row::new(
                "ours, credit key with budgets, metered",
                Some(&ours.server),
                ours.address,
                (METERED, CALL),
                key.clone(),
                200,
                probe,
            ),
        ];
        let mut missing = Vec::new();
        for (name, found) in &peers {
            match found {
                Ok(peer) => {
                    let asked = (FREE, CALL);
                    rows.push(Row::new(
                        *name,
                        Some(&peer.server),
                        peer.address,
                        asked,
                        Payment::None,
                        200,
                        probe,
                    ));
                }
                Err(why) => missing.push(Line::skipped(name, why)),
            }
        }
        println!("\n{title}");
        let mut lines = measure(rows, effort).await;
        lines.extend(missing);
        tables.push(Table { id, title, about, columns: COLUMNS, against: Against::Added, lines });
    }
    Ok(tables)
}
