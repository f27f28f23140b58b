//! What the gateway weighs: with nothing to do, with accounts, after a load.

use std::time::{Duration, Instant};

use super::{CONNECTIONS, Stage};
use crate::gateway::{METERED, SOLD, Setup, store};
use crate::load::{Lane, closed};
use crate::metric::{Metric, Sample};
use crate::payments::{CALL, Call};
use crate::process::Server;
use crate::table::{Against, Line, Table};
use crate::{load, records};

const ABOUT: &str = "PSS of the gateway, shared pages by their share. The accounts are put into the store before it starts, and read when it \
    does. What an open stream weighs stands with the streams.";
/// For what it does at its start to end.
const SETTLES: Duration = Duration::from_millis(500);

pub(super) async fn run(stage: Stage<'_>) -> Result<Vec<Table>, String> {
    let Stage { places, behind, effort, .. } = stage;
    let start = || Setup::new("weighed", behind.upstream, behind.facilitator).start(places);
    let mut lines = Vec::new();
    let mut add = |name: &str, server: &Server| {
        let kib = u32::try_from(server.pss_kib()).map_or(f64::INFINITY, f64::from);
        println!("  {name}: {:.1} MiB", kib / 1024.0);
        let measured = if kib > 0.0 {
            Ok(vec![Sample::from([(Metric::Mebibytes, kib / 1024.0)])])
        } else {
            Err("it has ended".to_owned())
        };
        lines.push(Line { name: name.to_owned(), measured });
    };
    let ours = start()?;
    tokio::time::sleep(SETTLES).await;
    add("ours, idle", &ours.server);
    let key = ours.key(&[])?;
    let call = |path: &str| Call {
        target: load::Target::from(ours.address),
        path: path.to_owned(),
        body: CALL.to_owned(),
    };
    let lanes = |request| vec![Lane::Repeat(request); CONNECTIONS];
    closed(&call(SOLD).target, lanes(call(SOLD).unpaid()), 402, effort.round).await?;
    add("ours, after unpaid requests", &ours.server);
    closed(&call(SOLD).target, lanes(call(SOLD).unpaid()), 402, effort.round * 4).await?;
    add("ours, after four times as many more", &ours.server);
    closed(&call(METERED).target, lanes(call(METERED).with_key(&key)), 200, effort.round).await?;
    add("ours, after paid calls", &ours.server);
    drop(ours);
    let ours = start()?;
    tokio::time::sleep(SETTLES).await;
    add("ours, started on these calls", &ours.server);
    drop(ours);
    let begun = Instant::now();
    let folder = store(places, "weighed");
    let filled = tokio::task::spawn_blocking(move || records::fill(&folder, effort.accounts)).await;
    filled.map_err(|error| error.to_string())??;
    println!("  {} accounts written in {:.1} s", effort.accounts, begun.elapsed().as_secs_f64());
    let ours = start()?;
    tokio::time::sleep(SETTLES).await;
    add(&format!("ours, with {} accounts", effort.accounts), &ours.server);
    let columns = &[Metric::Mebibytes];
    Ok(vec![Table { id: "memory", title: "Memory", about: ABOUT, columns, against: Against::Added, lines }])
}
