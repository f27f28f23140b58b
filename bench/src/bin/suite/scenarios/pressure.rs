//! Paid calls while something else goes on: floods of requests that nobody pays for, and a configuration that is read anew.

use std::time::Duration;

use super::Stage;
use super::cost::RESTRICTIONS;
use crate::beside::Beside;
use crate::gateway::{ALL, GUARDED, METERED, SOLD, Setup};
use crate::load::Target;
use crate::metric::Metric;
use crate::payments::{CALL, Call, spoiled};
use crate::row::{Payment, Probe, Row};
use crate::table::{Against, Table, measure};

const ABOUT: &str = "Calls by a credit key, 300 a second, and beside them ten times as many requests from 32 other addresses: without a payment, \
    with a key whose check fails, with a payment whose signature is by nobody. The gateway has its usual limits. Then the same calls while \
    the configuration is read anew every 100 ms.";
const COLUMNS: &[Metric] = &[Metric::P99Micros, Metric::P50Micros, Metric::P999Micros, Metric::PerSecond];

const PER_SECOND: u32 = 300;
const FLOOD: u32 = 10 * PER_SECOND;
const CONNECTIONS: usize = 16;
const RELOAD_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn run(stage: Stage<'_>) -> Result<Vec<Table>, String> {
    let Stage { places, behind, effort, .. } = stage;
    let setup = Setup::new("guarded", behind.upstream, behind.facilitator);
    let ours = Setup { limits: GUARDED, ..setup }.rails(ALL).start(places)?;
    let key = ours.key(&RESTRICTIONS)?;
    let target = Target::from(ours.address);
    let sold = Call { target: target.clone(), path: SOLD.to_owned(), body: CALL.to_owned() };
    let one = |requests: Vec<bytes::Bytes>| requests.into_iter().next().ok_or("nothing was signed");
    let (exact, test) = (one(sold.exact(1).await?)?, one(sold.test_rail(1).await?)?);
    let mut wrong = key.clone();
    let last = wrong.pop();
    wrong.push(if last == Some('A') { 'B' } else { 'A' });
    let flood = |request| Beside::Flood { target: target.clone(), request, per_second: FLOOD };
    let reloads =
        Beside::Reloads { binary: ours.binary.clone(), config: ours.config.clone(), every: RELOAD_EVERY };
    let rows = [
        ("ours, paid calls alone", Beside::Nothing),
        ("ours, beside unpaid requests", flood(sold.unpaid())),
        ("ours, beside keys that are none", flood(sold.with_key(&wrong))),
        ("ours, beside wrong Ed25519 signatures", flood(spoiled(&test)?)),
        ("ours, beside wrong EIP-3009 signatures", flood(spoiled(&exact)?)),
        ("ours, while the configuration is read anew", reloads),
    ]
    .map(|(name, beside)| {
        let probe = Probe::Paced { per_second: PER_SECOND, connections: CONNECTIONS };
        let payment = Payment::Keys(vec![key.clone()]);
        let asked = (METERED, CALL);
        Row::new(name, Some(&ours.server), target.clone(), asked, payment, 200, probe).beside(beside)
    });
    let lines = measure(rows.into(), effort).await;
    Ok(vec![Table {
        id: "pressure",
        title: "Paid calls under pressure",
        about: ABOUT,
        columns: COLUMNS,
        against: Against::Ratio,
        lines,
    }])
}
