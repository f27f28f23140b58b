//! What is measured, under one name in tables, plots, raw figures and goals.

use std::collections::BTreeMap;

/// One kind of figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    PerSecond,
    CpuMicros,
    WriterMicros,
    HelperMicros,
    FacilitatorCalls,
    P50Micros,
    P99Micros,
    P999Micros,
    FirstMicros,
    CpuMicrosPerEvent,
    Gathered,
    Mebibytes,
    KibibytesPerStream,
    LagP50Ms,
    LagP99Ms,
    Instructions(Profiled),
}

/// A kind of call whose instructions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Profiled {
    /// Passed on for nothing.
    Plain,
    /// Paid by a credit key with budgets, metered.
    Paid,
    /// Answered with 402.
    Unpaid,
    /// Paid by `exact`, checked here.
    Exact,
}

/// What is wanted of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Metric {
    /// In raw figures.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "per_second",
            Self::CpuMicros => "cpu_us",
            Self::WriterMicros => "writer_cpu_us",
            Self::HelperMicros => "helper_cpu_us",
            Self::FacilitatorCalls => "facilitator_calls",
            Self::P50Micros => "p50_us",
            Self::P99Micros => "p99_us",
            Self::P999Micros => "p999_us",
            Self::FirstMicros => "first_event_p50_us",
            Self::CpuMicrosPerEvent => "cpu_us_per_event",
            Self::Gathered => "gathered_reads",
            Self::Mebibytes => "pss_mib",
            Self::KibibytesPerStream => "pss_kib_per_stream",
            Self::LagP50Ms => "lag_p50_ms",
            Self::LagP99Ms => "lag_p99_ms",
            Self::Instructions(Profiled::Plain) => "plain",
            Self::Instructions(Profiled::Paid) => "paid_metered",
            Self::Instructions(Profiled::Unpaid) => "402",
            Self::Instructions(Profiled::Exact) => "x402_exact",
        }
    }

    /// Above a column.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::PerSecond => "answers/s",
            Self::CpuMicros => "CPU us/answer",
            Self::WriterMicros => "of it the store's writer",
            Self::HelperMicros => "of it a helper",
            Self::FacilitatorCalls => "facilitator calls",
            Self::P50Micros => "p50 us",
            Self::P99Micros => "p99 us",
            Self::P999Micros => "p99.9 us",
            Self::FirstMicros => "first event us, p50",
            Self::CpuMicrosPerEvent => "CPU us/event",
            Self::Gathered => "reads with several events",
            Self::Mebibytes => "PSS MiB",
            Self::KibibytesPerStream => "KiB per open stream",
            Self::LagP50Ms => "lag p50 ms",
            Self::LagP99Ms => "lag p99 ms",
            Self::Instructions(Profiled::Plain) => "plain",
            Self::Instructions(Profiled::Paid) => "paid, metered",
            Self::Instructions(Profiled::Unpaid) => "402",
            Self::Instructions(Profiled::Exact) => "x402 exact, test rail",
        }
    }

    /// Digits after the point.
    pub(crate) const fn digits(self) -> usize {
        match self {
            Self::PerSecond
            | Self::P50Micros
            | Self::P99Micros
            | Self::P999Micros
            | Self::FirstMicros
            | Self::Gathered
            | Self::Instructions(_) => 0,
            Self::CpuMicros
            | Self::WriterMicros
            | Self::HelperMicros
            | Self::CpuMicrosPerEvent
            | Self::Mebibytes
            | Self::KibibytesPerStream => 1,
            Self::FacilitatorCalls | Self::LagP50Ms | Self::LagP99Ms => 2,
        }
    }

    /// Which direction is wanted.
    pub(crate) const fn better(self) -> Better {
        match self {
            Self::PerSecond => Better::More,
            Self::CpuMicros
            | Self::WriterMicros
            | Self::HelperMicros
            | Self::FacilitatorCalls
            | Self::P50Micros
            | Self::P99Micros
            | Self::P999Micros
            | Self::FirstMicros
            | Self::CpuMicrosPerEvent
            | Self::Gathered
            | Self::Mebibytes
            | Self::KibibytesPerStream
            | Self::LagP50Ms
            | Self::LagP99Ms
            | Self::Instructions(_) => Better::Less,
        }
    }
}

/// What one round brought.
pub(crate) type Sample = BTreeMap<Metric, f64>;

/// The middle of some figures; 0 of none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Of sorted figures the one that so many of a thousand do not exceed.
pub(crate) fn at(sorted: &[u64], per_mille: usize) -> u64 {
    let place = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or(0)
}

/// A count as a figure.
pub(crate) fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// Nanoseconds as microseconds.
pub(crate) fn micros(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64() * 1e6
}
