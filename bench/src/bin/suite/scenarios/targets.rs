//! What was to be reached: the rules PERF-1 to PERF-13, as far as one machine can show them.

use crate::goals::{Bound, Goal, Of, cell};
use crate::metric::Metric::{
    CpuMicros, CpuMicrosPerEvent, FirstMicros, KibibytesPerStream, LagP99Ms, Mebibytes, P50Micros, P99Micros,
    PerSecond,
};

pub(crate) const PLAIN: &str = "ours, plain";
pub(crate) const PAID: &str = "ours, credit key with budgets, metered";
pub(crate) const NGINX: &str = "nginx proxy_pass";
pub(crate) const NGINX_ASKS: &str = "nginx auth_request, Rust checker";
const UPSTREAM: &str = "the upstream itself";

const fn goal(name: &'static str, of: Of, bound: Bound, unit: &'static str) -> Goal {
    Goal { name, of, bound, unit, is_tail: false }
}

/// A latency, which is judged only where the baseline is quiet enough.
const fn tail(name: &'static str, of: Of, bound: Bound, unit: &'static str) -> Goal {
    Goal { name, of, bound, unit, is_tail: true }
}

/// In the order of the rules.
pub(crate) static GOALS: [Goal; 37] = [
    goal(
        "paid-cpu-over-plain",
        Of::Ratio(cell("cost", PAID, CpuMicros), cell("cost", PLAIN, CpuMicros)),
        Bound::AtMost(1.1),
        "x",
    ),
    goal(
        "paid-rate-over-plain",
        Of::Ratio(cell("cost", PAID, PerSecond), cell("cost", PLAIN, PerSecond)),
        Bound::AtLeast(0.93),
        "x",
    ),
    goal(
        "plain-cpu-over-nginx",
        Of::Ratio(cell("cost", PLAIN, CpuMicros), cell("cost", NGINX, CpuMicros)),
        Bound::AtMost(1.0),
        "x",
    ),
    goal(
        "paid-rate-over-nginx-auth-request",
        Of::Ratio(cell("cost", PAID, PerSecond), cell("cost", NGINX_ASKS, PerSecond)),
        Bound::AtLeast(2.0),
        "x",
    ),
    goal(
        "one-account-cpu-over-many",
        Of::Ratio(
            cell("cost", "ours, credit key with budgets, metered, 1 account", CpuMicros),
            cell("cost", PAID, CpuMicros),
        ),
        Bound::AtMost(1.1),
        "x",
    ),
    goal(
        "402-cpu-over-plain",
        Of::Ratio(cell("cost", "ours, 402", CpuMicros), cell("cost", PLAIN, CpuMicros)),
        Bound::AtMost(0.4),
        "x",
    ),
    goal(
        "402-cpu-over-bare-answer",
        Of::Added(cell("cost", "ours, 402", CpuMicros), cell("cost", "bare hyper answer", CpuMicros)),
        Bound::AtMost(1.0),
        "us",
    ),
    goal(
        "x402-exact-added-cpu",
        Of::Added(
            cell("cost", "ours, x402 exact on the test rail", CpuMicros),
            cell("cost", PLAIN, CpuMicros),
        ),
        Bound::AtMost(45.0),
        "us",
    ),
    goal(
        "x402-exact-rate-over-plain",
        Of::Ratio(
            cell("cost", "ours, x402 exact on the test rail", PerSecond),
            cell("cost", PLAIN, PerSecond),
        ),
        Bound::AtLeast(0.3),
        "x",
    ),
    goal(
        "402-rate-over-o402",
        Of::Ratio(cell("unpaid", "ours, 402", PerSecond), cell("unpaid", "o402, 402", PerSecond)),
        Bound::AtLeast(3.0),
        "x",
    ),
    goal(
        "exact-rate-over-o402",
        Of::Ratio(cell("x402", "ours, exact", PerSecond), cell("x402", "o402, exact", PerSecond)),
        Bound::AtLeast(2.0),
        "x",
    ),
    goal(
        "plain-rate-over-o402",
        Of::Ratio(
            cell("unpaid", "ours, free route", PerSecond),
            cell("unpaid", "o402 without payment, proxy", PerSecond),
        ),
        Bound::AtLeast(2.0),
        "x",
    ),
    goal(
        "402-rate-over-hono",
        Of::Ratio(cell("unpaid", "ours, 402", PerSecond), cell("unpaid", "@x402/hono, 402", PerSecond)),
        Bound::AtLeast(1.0),
        "x",
    ),
    goal(
        "exact-rate-over-hono",
        Of::Ratio(cell("x402", "ours, exact", PerSecond), cell("x402", "@x402/hono, exact", PerSecond)),
        Bound::AtLeast(1.0),
        "x",
    ),
    goal(
        "exact-rate-over-express",
        Of::Ratio(cell("x402", "ours, exact", PerSecond), cell("x402", "@x402/express, exact", PerSecond)),
        Bound::AtLeast(1.0),
        "x",
    ),
    goal(
        "402-rate-over-mppx",
        Of::Ratio(cell("unpaid", "ours, 402", PerSecond), cell("unpaid", "mppx proxy, 402", PerSecond)),
        Bound::AtLeast(1.0),
        "x",
    ),
    goal(
        "exact-rate-over-mppx",
        Of::Ratio(cell("x402", "ours, exact", PerSecond), cell("x402", "mppx proxy, exact", PerSecond)),
        Bound::AtLeast(1.0),
        "x",
    ),
    goal(
        "paid-rate-over-portkey",
        Of::Ratio(cell("llm-proxies", PAID, PerSecond), cell("llm-proxies", "Portkey", PerSecond)),
        Bound::AtLeast(30.0),
        "x",
    ),
    goal(
        "paid-rate-over-litellm",
        Of::Ratio(cell("llm-proxies", PAID, PerSecond), cell("llm-proxies", "LiteLLM", PerSecond)),
        Bound::AtLeast(100.0),
        "x",
    ),
    tail(
        "added-p50-one-connection",
        Of::Added(cell("one-connection", PAID, P50Micros), cell("one-connection", UPSTREAM, P50Micros)),
        Bound::AtMost(40.0),
        "us",
    ),
    tail(
        "added-p99-one-connection",
        Of::Added(cell("one-connection", PAID, P99Micros), cell("one-connection", UPSTREAM, P99Micros)),
        Bound::AtMost(250.0),
        "us",
    ),
    tail(
        "added-p99-at-3000",
        Of::Added(cell("paced", PAID, P99Micros), cell("paced", UPSTREAM, P99Micros)),
        Bound::AtMost(400.0),
        "us",
    ),
    tail(
        "stream-added-p50",
        Of::Added(cell("streams", PAID, P50Micros), cell("streams", UPSTREAM, P50Micros)),
        Bound::AtMost(100.0),
        "us",
    ),
    tail(
        "stream-added-p99",
        Of::Added(cell("streams", PAID, P99Micros), cell("streams", UPSTREAM, P99Micros)),
        Bound::AtMost(1000.0),
        "us",
    ),
    tail(
        "stream-added-first-event",
        Of::Added(cell("streams", PAID, FirstMicros), cell("streams", UPSTREAM, FirstMicros)),
        Bound::AtMost(200.0),
        "us",
    ),
    goal(
        "stream-cpu-over-plain",
        Of::Ratio(cell("streams", PAID, CpuMicrosPerEvent), cell("streams", PLAIN, CpuMicrosPerEvent)),
        Bound::AtMost(1.1),
        "x",
    ),
    goal(
        "memory-per-open-stream",
        Of::Figure(cell("streams", PAID, KibibytesPerStream)),
        Bound::AtMost(24.0),
        "KiB",
    ),
    goal("memory-idle", Of::Figure(cell("memory", "ours, idle", Mebibytes)), Bound::AtMost(15.0), "MiB"),
    goal(
        "memory-of-a-million-accounts",
        Of::Added(
            cell("memory", "ours, with 1000000 accounts", Mebibytes),
            cell("memory", "ours, started on these calls", Mebibytes),
        ),
        Bound::AtMost(80.0),
        "MiB",
    ),
    goal(
        "memory-kept-for-unpaid-requests",
        Of::Added(
            cell("memory", "ours, after four times as many more", Mebibytes),
            cell("memory", "ours, after unpaid requests", Mebibytes),
        ),
        Bound::AtMost(1.0),
        "MiB",
    ),
    tail(
        "durability-lag-p99",
        Of::Figure(cell("lag", "ours, the store alone", LagP99Ms)),
        Bound::AtMost(10.0),
        "ms",
    ),
    goal(
        "records-per-second",
        Of::Figure(cell("lag", "ours, the store alone", PerSecond)),
        Bound::AtLeast(49_000.0),
        "/s",
    ),
    tail(
        "paid-p99-raised-by-records",
        Of::Raised(
            cell("disk", "ours, beside 50,000 records a second", P99Micros),
            cell("disk", "ours, paid calls alone", P99Micros),
        ),
        Bound::AtMost(5.0),
        "%",
    ),
    tail(
        "paid-p99-raised-by-flood-of-unpaid",
        Of::Raised(
            cell("pressure", "ours, beside unpaid requests", P99Micros),
            cell("pressure", "ours, paid calls alone", P99Micros),
        ),
        Bound::AtMost(20.0),
        "%",
    ),
    tail(
        "paid-p99-raised-by-flood-of-wrong-keys",
        Of::Raised(
            cell("pressure", "ours, beside keys that are none", P99Micros),
            cell("pressure", "ours, paid calls alone", P99Micros),
        ),
        Bound::AtMost(20.0),
        "%",
    ),
    tail(
        "paid-p99-raised-by-flood-of-wrong-ed25519",
        Of::Raised(
            cell("pressure", "ours, beside wrong Ed25519 signatures", P99Micros),
            cell("pressure", "ours, paid calls alone", P99Micros),
        ),
        Bound::AtMost(20.0),
        "%",
    ),
    tail(
        "paid-p99-raised-by-flood-of-wrong-eip3009",
        Of::Raised(
            cell("pressure", "ours, beside wrong EIP-3009 signatures", P99Micros),
            cell("pressure", "ours, paid calls alone", P99Micros),
        ),
        Bound::AtMost(20.0),
        "%",
    ),
];
