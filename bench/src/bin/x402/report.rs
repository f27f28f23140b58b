//! The tables: median over the rounds, with the smallest and the largest; ratios are taken within a round.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::machine::Machine;
use crate::row::{Row, Sample, StreamSample, median};

/// One table of a report.
pub(crate) struct Table {
    pub(crate) title: &'static str,
    /// What is measured, for a reader.
    pub(crate) about: &'static str,
    pub(crate) lines: Vec<Line>,
}

/// A row that has been measured.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) measured: Measured,
}

/// What became of it.
pub(crate) enum Measured {
    Load(Vec<Sample>),
    Streams(Vec<StreamSample>),
    /// The reason.
    Not(String),
}

impl Line {
    pub(crate) fn of(row: Row<'_>) -> Self {
        let measured = row.void.map_or(Measured::Load(row.samples), Measured::Not);
        Self { name: row.name, measured }
    }

    pub(crate) fn skipped(name: &str, why: &str) -> Self {
        Self { name: name.to_owned(), measured: Measured::Not(why.to_owned()) }
    }
}

/// `median [min-max]`.
fn spread(figures: &[f64], digits: usize) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let middle = median(figures.iter().copied());
    format!("{middle:.digits$} [{least:.digits$}-{most:.digits$}]")
}

impl Table {
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.about);
        let is_streams = self.lines.iter().any(|line| matches!(line.measured, Measured::Streams(_)));
        text.push_str(if is_streams {
            "| | first byte of the answer, ms | last byte, ms | reads |\n|---|---|---|---|\n"
        } else {
            "| | answers/s | CPU us/answer | of it the store's writer | CPU / that of the first row | facilitator calls/answer | p50 us | p99 us |\n|---|---|---|---|---|---|---|---|\n"
        });
        let reference = self.lines.iter().find_map(|line| match &line.measured {
            Measured::Load(samples) => Some(samples.as_slice()),
            Measured::Streams(_) | Measured::Not(_) => None,
        });
        for line in &self.lines {
            // Writing to a String does not fail.
            let _ = writeln!(text, "| {} | {} |", line.name, line.cells(reference.unwrap_or_default()));
        }
        text
    }

    fn json(&self) -> Value {
        let lines = self.lines.iter().map(|line| match &line.measured {
            Measured::Load(samples) => json!({"name": line.name, "rounds": samples}),
            Measured::Streams(samples) => json!({"name": line.name, "rounds": samples}),
            Measured::Not(why) => json!({"name": line.name, "not_measured": why}),
        });
        json!({"title": self.title, "rows": lines.collect::<Vec<_>>()})
    }
}

impl Line {
    fn cells(&self, reference: &[Sample]) -> String {
        match &self.measured {
            Measured::Load(samples) => {
                let of = |figure: fn(&Sample) -> f64| samples.iter().map(figure).collect::<Vec<_>>();
                let cpu = of(|sample| sample.cpu_micros_per_answer);
                let ratios: Vec<f64> = cpu
                    .iter()
                    .zip(reference)
                    .map(|(cpu, reference)| cpu / reference.cpu_micros_per_answer)
                    .collect();
                format!(
                    "{} | {} | {:.1} | {} | {:.2} | {:.0} | {:.0}",
                    spread(&of(|sample| sample.answers_per_s), 0),
                    spread(&cpu, 1),
                    median(of(|sample| sample.writer_micros_per_answer)),
                    spread(&ratios, 2),
                    median(of(|sample| sample.facilitator_calls_per_answer)),
                    median(of(|sample| sample.p50_micros)),
                    median(of(|sample| sample.p99_micros)),
                )
            }
            Measured::Streams(samples) => {
                let of = |figure: fn(&StreamSample) -> f64| samples.iter().map(figure).collect::<Vec<_>>();
                format!(
                    "{} | {} | {:.0}",
                    spread(&of(|sample| sample.first_byte_ms), 2),
                    spread(&of(|sample| sample.last_byte_ms), 0),
                    median(of(|sample| sample.reads)),
                )
            }
            Measured::Not(why) => format!("not measured: {}", why.lines().next().unwrap_or_default()),
        }
    }
}

/// The whole report, for people and for machines.
pub(crate) fn whole(
    title: &str,
    command: &str,
    method: &str,
    machine: &Machine,
    tables: &[Table],
) -> (String, String) {
    let Machine { processor, cores, kernel, load_before, load_after, sync_micros, commit, node } = machine;
    let mut text = format!(
        "# {title}\n\n`{command}` at {commit}\n\n{method}\n\n\
         Machine: {processor}, {cores} cores, Linux {kernel}, node {node}. Load average before {load_before}, \
         after {load_after}. An append of 256 bytes with its sync: {sync_micros:.0} us.\n\n"
    );
    for table in tables {
        text.push_str(&table.markdown());
        text.push('\n');
    }
    let raw = json!({
        "command": command,
        "machine": machine,
        "tables": tables.iter().map(Table::json).collect::<Vec<_>>(),
    });
    (text.trim_end().to_owned() + "\n", format!("{raw:#}\n"))
}
