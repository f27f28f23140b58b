//! Many streams at once: what is added to each event, and what an open stream weighs.

use std::time::Duration;

use super::Stage;
use super::cost::RESTRICTIONS;
use crate::gateway::{FREE, METERED, Setup};
use crate::metric::Metric;
use crate::peers::proxies::{haproxy, nginx};
use crate::row::{Payment, Probe, Row};
use crate::table::{Against, Line, Table, measure};
use crate::upstream::streamed_call;

const ABOUT: &str = "Streams with 60 ms between two events of about 170 bytes, started over half a second. Each event carries the time at which \
    the upstream made it; the clock is the same where it is read. A read that brings several events shows that somebody gathers, or that \
    the reader was late: the first row tells how often that alone happens. Memory is that of a gateway of its own with its first streams open, \
    all of them, less what it had before: later ones find the room that these have left, and beside them is what the gateway keeps of paid \
    answers for whoever asks again, 16 MiB at most, however many streams are open.";
const COLUMNS: &[Metric] = &[
    Metric::P50Micros,
    Metric::P99Micros,
    Metric::FirstMicros,
    Metric::CpuMicrosPerEvent,
    Metric::Gathered,
    Metric::KibibytesPerStream,
];
const PAUSE: Duration = Duration::from_millis(60);

pub(super) async fn run(stage: Stage<'_>) -> Result<Vec<Table>, String> {
    let Stage { places, behind, effort, options } = stage;
    // One for each row: memory that another row's streams have left would be taken for less of its own.
    let setup = |name| Setup::new(name, behind.upstream, behind.facilitator);
    let (plain, ours) = (setup("ours-plain").start(places)?, setup("ours").start(places)?);
    let body = streamed_call(effort.events, PAUSE);
    let body = body.as_str();
    let probe = Probe::Streams { count: effort.streams };
    let key = Payment::Keys(vec![ours.key(&RESTRICTIONS)?]);
    let mut rows = vec![
        Row::new("the upstream itself", None, behind.upstream, (FREE, body), Payment::None, 200, probe),
        Row::new("ours, plain", Some(&plain.server), plain.address, (FREE, body), Payment::None, 200, probe),
        Row::new(
            "ours, credit key with budgets, metered",
            Some(&ours.server),
            ours.address,
            (METERED, body),
            key,
            200,
            probe,
        ),
    ];
    let peers = if options.peers {
        vec![
            nginx(behind.upstream, places),
            haproxy(behind.upstream, false, places),
            haproxy(behind.upstream, true, places),
        ]
    } else {
        Vec::new()
    };
    let mut missing = Vec::new();
    for (name, found) in &peers {
        match found {
            Ok(peer) => {
                let asked = (FREE, body);
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
    let mut lines = measure(rows, effort).await;
    lines.extend(missing);
    let against = Against::Added;
    Ok(vec![Table {
        id: "streams",
        title: "Concurrent streams",
        about: ABOUT,
        columns: COLUMNS,
        against,
        lines,
    }])
}
