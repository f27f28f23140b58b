//! Durable debits: how far behind the disk is at 50,000 records a second, and what paid calls beside that feel of it.

use std::time::Instant;

use super::Stage;
use super::cost::RESTRICTIONS;
use crate::beside::Beside;
use crate::gateway::{METERED, Setup};
use crate::metric::{Metric, Sample, at, number};
use crate::payments::CALL;
use crate::records::{Records, Written};
use crate::row::{Payment, Probe, Row};
use crate::table::{Against, Line, Table, measure};

const LAG: &str = "Charges of 600 bytes of facts pushed through the store's writer as a gateway does, 50,000 a second. Lag is from the push to \
    the disk. The floor of this disk stands with the machine.";
const PAID: &str = "Calls by a credit key, 1,000 a second, alone and beside these records in another store on the same disk.";
const PER_SECOND: u32 = 50_000;
const PAID_PER_SECOND: u32 = 1_000;

pub(super) async fn run(stage: Stage<'_>) -> Result<Vec<Table>, String> {
    let Stage { places, behind, effort, .. } = stage;
    let mut samples = Vec::new();
    for round in 1..=effort.rounds {
        if Instant::now() > effort.deadline {
            break;
        }
        let records = Records::start(places.folder(&format!("records-{round}"))?, PER_SECOND);
        tokio::time::sleep(effort.round).await;
        samples.push(sample(&records.end()?));
    }
    let line = Line { name: "ours, the store alone".to_owned(), measured: Ok(samples) };
    let columns: &[Metric] = &[Metric::LagP99Ms, Metric::LagP50Ms, Metric::PerSecond];
    let against = Against::Nothing;
    let lag = Table { id: "lag", title: "Durability lag", about: LAG, columns, against, lines: vec![line] };

    let ours = Setup::new("ours", behind.upstream, behind.facilitator).start(places)?;
    let key = ours.key(&RESTRICTIONS)?;
    let folder = places.run.join("records-beside");
    let rows = [
        ("ours, paid calls alone", Beside::Nothing),
        ("ours, beside 50,000 records a second", Beside::Records { folder, per_second: PER_SECOND }),
    ]
    .map(|(name, beside)| {
        let probe = Probe::Paced { per_second: PAID_PER_SECOND, connections: 32 };
        let payment = Payment::Keys(vec![key.clone()]);
        Row::new(name, Some(&ours.server), ours.address, (METERED, CALL), payment, 200, probe).beside(beside)
    });
    let lines = measure(rows.into(), effort).await;
    let columns: &[Metric] = &[Metric::P99Micros, Metric::P50Micros, Metric::P999Micros, Metric::PerSecond];
    let against = Against::Ratio;
    let title = "Paid calls beside a busy disk";
    Ok(vec![lag, Table { id: "disk", title, about: PAID, columns, against, lines }])
}

fn sample(written: &Written) -> Sample {
    let ms = |per_mille| std::time::Duration::from_nanos(at(&written.lags, per_mille)).as_secs_f64() * 1000.0;
    let records = usize::try_from(written.records).unwrap_or(usize::MAX);
    Sample::from([
        (Metric::LagP50Ms, ms(500)),
        (Metric::LagP99Ms, ms(990)),
        (Metric::PerSecond, number(records) / written.took.as_secs_f64()),
    ])
}
