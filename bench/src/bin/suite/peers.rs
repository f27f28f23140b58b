//! Other projects' servers before the same upstream: pinned, installed below `target/`, each with its usual settings and without a
//! log for each request. What cannot be had is listed with what it claims of itself.

pub(crate) mod node;
mod o402;
pub(crate) mod proxies;
mod python;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) use node::{mppx, portkey, x402_sellers};
pub(crate) use o402::o402;
pub(crate) use python::{MASTER_KEY as LITELLM_KEY, litellm};

use crate::places::Places;
use crate::process::Server;

/// A server of somebody else.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
}

/// Who was to be measured: there, or why not.
pub(crate) type Found = (&'static str, Result<Peer, String>);

/// Who is behind all of them.
#[derive(Clone, Copy)]
pub(crate) struct Behind {
    pub(crate) upstream: SocketAddr,
    pub(crate) facilitator: SocketAddr,
}

/// What is left out by those who are measured, so that a row is not taken for the same work.
pub(crate) const LEFT_OUT: [(&str, &str); 7] = [
    ("nginx proxy_pass, haproxy", "pass a call on: no key, no price, no record"),
    (
        "nginx auth_request, Rust checker",
        "the checker verifies the same keys by our code and takes a fixed price from an account in memory: no budgets, no meter, no hold, \
         no record",
    ),
    (
        "@x402/hono, @x402/express",
        "check no signature themselves, the facilitator is asked to verify and to settle; keep payments and vouchers in memory at most; \
         gather an answer before it goes on",
    ),
    (
        "o402",
        "checks no signature itself, the facilitator is asked to verify and to settle; keeps nothing on disk",
    ),
    ("mppx proxy", "of x402, asks the facilitator to verify and to settle; keeps nothing on disk"),
    ("Portkey", "no keys of payers, no price, no record"),
    ("LiteLLM", "without its database no keys of payers, no budgets, no record"),
];

/// Published, and not checked by us: product, claim, source with its date.
pub(crate) const CLAIMS: [(&str, &str, &str); 10] = [
    (
        "agentgateway",
        "36.9k requests/s; p50 0.83, p99 1.97 ms at 32 connections; at 3,000/s p50 0.227, p99 0.436 ms",
        "its blog (L. Sun), two parts, 2026-06-26",
    ),
    (
        "agentgateway 1.5.0",
        "31-33 % of the direct rate at 1 KiB, 70-71 % at 16 KiB, two hyperthreads",
        "agentgateway/benchmarks, ai-gateway results, 2026-10-01",
    ),
    (
        "TensorZero",
        "p50 0.35, p99 0.94 ms added at 10k requests/s on 4 vCPU, observability off",
        "its documentation, run of 2025-07-30",
    ),
    ("Bifrost", "11 us added at 5k requests/s", "vendor article, 2025-26"),
    (
        "Bifrost, by somebody else",
        "0.44-0.62 ms added, one after the other",
        "cuihuan/llm-gateway-bench, 2026-07",
    ),
    (
        "Helicone ai-gateway",
        "3,000 requests/s on 2 vCPU, < 1 ms, < 100 MB",
        "its repository's README, 2025-06-30",
    ),
    ("Kong AI gateway", "3.3 times Portkey, 9 times LiteLLM on 12 CPUs", "its blog, 2025-07-07"),
    (
        "LiteLLM",
        "4 instances at 1,170 requests/s: p50 2, p95 8, p99 13 ms added",
        "its benchmarks page, 2026-10-12",
    ),
    ("Portkey 1.15.2", "2.4-2.65 ms added, one after the other", "cuihuan/llm-gateway-bench, 2026-07"),
    ("hosted x402 facilitator", "verify 200-500 ms, 2-3 s in all on Base", "forum post, 2025-26"),
];

/// Runs an installer to its end, its output in the log of that name.
fn install(command: &mut Command, name: &str, places: &Places) -> Result<(), String> {
    println!("installing {name}");
    let log = places.log(&format!("install {name}"));
    let told = |error: std::io::Error| format!("{name}: {error}");
    let output = std::fs::File::create(&log).map_err(told)?;
    command.stdin(Stdio::null()).stderr(output.try_clone().map_err(told)?).stdout(output);
    let status = command.status().map_err(told)?;
    if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}, see {}", log.display())) }
}

/// Whether a folder was made of exactly this file, which is written into it when the installation has succeeded.
fn is_made_of(folder: &Path, lock: &Path) -> bool {
    let made_of = std::fs::read(folder.join("made-of"));
    std::fs::read(lock).is_ok_and(|lock| made_of.is_ok_and(|made_of| made_of == lock))
}

fn was_made_of(folder: &Path, lock: &Path) -> Result<(), String> {
    std::fs::copy(lock, folder.join("made-of"))
        .map(drop)
        .map_err(|error| format!("{}: {error}", folder.display()))
}
