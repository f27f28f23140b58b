//! Tables of figures: rows measured in turn, for several rounds, so that a noisy neighbour hits all alike (PERF-40).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::metric::{Metric, Sample, median};
use crate::row::Row;

/// How long and how often is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) round: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) streams: usize,
    pub(crate) events: u32,
    pub(crate) accounts: u32,
    /// Calls of each kind whose instructions are counted.
    pub(crate) profiled: usize,
    /// When nothing more is begun.
    pub(crate) deadline: Instant,
}

/// One table of a report.
pub(crate) struct Table {
    /// Short, for goals and raw figures.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What is measured, for a reader.
    pub(crate) about: &'static str,
    pub(crate) columns: &'static [Metric],
    pub(crate) against: Against,
    pub(crate) lines: Vec<Line>,
}

/// What a row's first figure is told against that of the first row, round by round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// How many times as much.
    Ratio,
    /// How much more.
    Added,
    /// The first row is no reference.
    Nothing,
}

/// A row that has been measured, or why it was not.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) measured: Result<Vec<Sample>, String>,
}

impl Line {
    pub(crate) fn skipped(name: &str, why: &str) -> Self {
        Self { name: name.to_owned(), measured: Err(why.to_owned()) }
    }

    /// Its figures of one kind, round by round.
    pub(crate) fn figures(&self, metric: Metric) -> Vec<f64> {
        let samples = self.measured.as_deref().unwrap_or_default();
        samples.iter().filter_map(|sample| sample.get(&metric).copied()).collect()
    }
}

/// The least, the middle and the most of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) middle: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// None of no figures.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let least = figures.iter().copied().reduce(f64::min)?;
        let most = figures.iter().copied().reduce(f64::max)?;
        Some(Self { least, middle: median(figures.iter().copied()), most })
    }
}

impl Table {
    /// A scenario of which there is nothing, and why.
    pub(crate) fn skipped(name: &'static str, why: &str) -> Self {
        let lines = vec![Line::skipped(name, why)];
        Self { id: name, title: name, about: "", columns: &[], against: Against::Nothing, lines }
    }

    /// The line of this name.
    pub(crate) fn line(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == name)
    }

    pub(crate) fn json(&self) -> Value {
        let named = |sample: &Sample| -> Value {
            sample.iter().map(|(metric, figure)| (metric.name().to_owned(), json!(figure))).collect()
        };
        let lines = self.lines.iter().map(|line| match &line.measured {
            Ok(samples) => {
                json!({"name": line.name, "rounds": samples.iter().map(named).collect::<Vec<_>>()})
            }
            Err(why) => json!({"name": line.name, "not_measured": why}),
        });
        json!({"id": self.id, "title": self.title, "rows": lines.collect::<Vec<_>>()})
    }
}

/// Measures the rows of a table in turn.
pub(crate) async fn measure(mut rows: Vec<Row<'_>>, effort: Effort) -> Vec<Line> {
    for row in &mut rows {
        row.measure(effort.warm_up, true).await;
    }
    for round in 1..=effort.rounds {
        for row in &mut rows {
            if Instant::now() > effort.deadline {
                row.void.get_or_insert_with(|| "the time for the whole run was over".to_owned());
                continue;
            }
            row.measure(effort.round, false).await;
            println!("  {round}/{} {}: {}", effort.rounds, row.name, told(row));
        }
    }
    let line = |row: Row<'_>| Line {
        name: row.name,
        // What was measured before the time was over still stands.
        measured: match row.void {
            Some(why) if row.samples.is_empty() || !why.starts_with("the time") => Err(why),
            Some(_) | None => Ok(row.samples),
        },
    };
    rows.into_iter().map(line).collect()
}

/// The figures of the last round, for whoever watches.
fn told(row: &Row<'_>) -> String {
    if let Some(why) = &row.void {
        return format!("void: {}", why.lines().next().unwrap_or_default());
    }
    let Some(sample) = row.samples.last() else { return "nothing".to_owned() };
    let shown = [
        Metric::PerSecond,
        Metric::CpuMicros,
        Metric::CpuMicrosPerEvent,
        Metric::P50Micros,
        Metric::P99Micros,
    ];
    let shown = shown.iter().filter_map(|metric| {
        let figure = sample.get(metric)?;
        Some(format!("{figure:.digits$} {}", metric.label(), digits = metric.digits()))
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn spreads() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { least: 1.0, middle: 2.0, most: 3.0 }));
    }
}
