//! Where the instructions of a call go: the gateway with one worker under callgrind, and each instruction counted for the
//! crate whose source it was made of.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::cost::RESTRICTIONS;
use super::{CONNECTIONS, Stage};
use crate::callgrind::{self, Callgrind, Cost, Costs, Place};
use crate::gateway::{ALL, FREE, Gateway, METERED, SOLD, Setup};
use crate::load::{Lane, Target, closed};
use crate::metric::{Metric, Profiled, Sample};
use crate::payments::{CALL, Call};
use crate::places::Places;
use crate::table::{Against, Effort, Line, Table};

const AREAS: &str = "Instructions for each call, of the same calls as in the first table, on 64 connections, counted by callgrind in a gateway with one \
    worker. Each stands with the crate whose source it was made of, wherever the compiler has put it; what is of the standard library \
    with the crate that uses it. They are no times: what a call to the kernel takes is not in them, and valgrind's processor knows no \
    instructions for SHA-256, so that a hash counts for about twenty times what it takes. The writer's \
    vary with how many calls share a write, and under valgrind fewer do.";
const MODULES: &str = "The same for our own crates, by module, on all threads: those that a paid call or one by x402 takes the most of.";
const KINDS: [Profiled; 4] = [Profiled::Plain, Profiled::Paid, Profiled::Unpaid, Profiled::Exact];
const COLUMNS: &[Metric] = &[
    Metric::Instructions(KINDS[0]),
    Metric::Instructions(KINDS[1]),
    Metric::Instructions(KINDS[2]),
    Metric::Instructions(KINDS[3]),
];

/// Modules that are listed.
const MODULES_MAX: usize = 20;
/// Longest that the calls of one kind take.
const TIME_MAX: Duration = Duration::from_secs(300);

pub(super) async fn run(stage: Stage<'_>) -> Result<Vec<Table>, String> {
    let Stage { places, behind, effort, .. } = stage;
    callgrind::is_there()?;
    let setup = |name| Setup::new(name, behind.upstream, behind.facilitator);
    let mut ours = Observed::start(setup("observed"), places)?;
    let key = ours.gateway.key(&RESTRICTIONS)?;
    let free = ours.call(FREE);
    let plain = ours.profile(effort, |count| Ok(vec![free.unpaid(); count]), 200).await?;
    let metered = ours.call(METERED);
    let paid = ours.profile(effort, |count| Ok(vec![metered.with_key(&key); count]), 200).await?;
    let sold = ours.call(SOLD);
    let unpaid = ours.profile(effort, |count| Ok(vec![sold.unpaid(); count]), 402).await?;
    drop(ours);
    let mut all = Observed::start(setup("observed-all").rails(ALL), places)?;
    let sold = all.call(SOLD);
    let payments = sold.test_rail(effort.profiled + effort.profiled / WARM_UP_SHARE).await?;
    let mut payments = payments.into_iter();
    let exact = all.profile(effort, |count| Ok(payments.by_ref().take(count).collect()), 200).await?;
    let kinds = [
        (Profiled::Plain, plain),
        (Profiled::Paid, paid),
        (Profiled::Unpaid, unpaid),
        (Profiled::Exact, exact),
    ];
    Ok(tables(&kinds, effort.profiled))
}

/// Of the calls that are counted, so many parts are made before.
const WARM_UP_SHARE: usize = 4;

/// A gateway under callgrind.
struct Observed {
    gateway: Gateway,
    callgrind: Callgrind,
}

impl Observed {
    fn start(setup: Setup<'_>, places: &Places) -> Result<Self, String> {
        let callgrind = Callgrind::new(&places.folder(&format!("{}-dumps", setup.name))?);
        let gateway = Setup { threads: 1, under: callgrind.before(), ..setup }.start(places)?;
        Ok(Self { gateway, callgrind })
    }

    fn call(&self, path: &str) -> Call {
        Call { target: Target::from(self.gateway.address), path: path.to_owned(), body: CALL.to_owned() }
    }

    /// What these calls take, by thread, when as many as warm it up have been made.
    async fn profile(
        &mut self,
        effort: Effort,
        mut calls: impl FnMut(usize) -> Result<Vec<Bytes>, String>,
        expected: u16,
    ) -> Result<Vec<Costs>, String> {
        let [process] = self.gateway.server.processes()[..] else {
            return Err(self
                .gateway
                .server
                .epitaph()
                .unwrap_or_else(|| "it is several processes".to_owned()));
        };
        let mut costs = Vec::new();
        for count in [effort.profiled / WARM_UP_SHARE, effort.profiled] {
            let lanes = vec![Lane::once(calls(count)?); CONNECTIONS];
            let brought = closed(&self.gateway.address.into(), lanes, expected, TIME_MAX).await?;
            if brought.nanos.len() != count {
                return Err(format!("{} of {count} calls in {TIME_MAX:?}", brought.nanos.len()));
            }
            costs = self.callgrind.dump(process)?;
        }
        Ok(costs)
    }
}

/// Rows of a table, each with its count by kind of call.
type Counts = BTreeMap<String, BTreeMap<Profiled, u64>>;

fn tables(kinds: &[(Profiled, Vec<Costs>)], calls: usize) -> Vec<Table> {
    let (mut areas, mut modules) = (Counts::new(), Counts::new());
    for (kind, threads) in kinds {
        let add = |counts: &mut Counts, row: &str, count: u64| {
            *counts.entry(row.to_owned()).or_default().entry(*kind).or_default() += count;
        };
        let writer = heaviest(threads, |place| place.function.starts_with("store::writer::"));
        let worker = heaviest(threads, |place| area(place) == HTTP);
        for (number, thread) in threads.iter().enumerate() {
            let name = match Some(number) {
                number if number == writer => WRITER,
                number if number == worker => WORKER,
                _ => OTHERS,
            };
            for (place, Cost { instructions, kernel_calls }) in thread {
                add(&mut areas, ALL_THREADS, *instructions);
                add(&mut areas, name, *instructions);
                let asked = if place.function.starts_with("clock_gettime") { CLOCK } else { KERNEL };
                add(&mut areas, asked, *kernel_calls);
                if name == WORKER {
                    add(&mut areas, area(place), *instructions);
                }
                if let Some(module) = module(place) {
                    add(&mut modules, &module, *instructions);
                }
            }
        }
    }
    let areas = ROWS.iter().filter_map(|row| areas.remove_entry(*row)).collect();
    let mut modules: Vec<_> = modules.into_iter().collect();
    let weight = |counts: &BTreeMap<Profiled, u64>| {
        [Profiled::Paid, Profiled::Exact].iter().filter_map(|kind| counts.get(kind)).max().copied()
    };
    modules.sort_by_key(|(_, counts)| Reverse(weight(counts)));
    modules.truncate(MODULES_MAX);
    vec![
        table("profile", "Where the instructions of a call go", AREAS, areas, calls),
        table("profile-modules", "Instructions of our own modules", MODULES, modules, calls),
    ]
}

/// The thread that does the most of something, if any does.
fn heaviest(threads: &[Costs], is_it: impl Fn(&Place) -> bool) -> Option<usize> {
    let weight = |thread: &Costs| -> u64 {
        thread.iter().filter(|(place, _)| is_it(place)).map(|(_, cost)| cost.instructions).sum()
    };
    let weights = threads.iter().map(weight).enumerate().filter(|(_, weight)| *weight > 0);
    weights.max_by_key(|(_, weight)| *weight).map(|(number, _)| number)
}

fn table(
    id: &'static str,
    title: &'static str,
    about: &'static str,
    rows: Vec<(String, BTreeMap<Profiled, u64>)>,
    calls: usize,
) -> Table {
    let line = |(name, counts): (String, BTreeMap<Profiled, u64>)| {
        let of = |kind| counts.get(&kind).copied().unwrap_or_default();
        let sample = KINDS.map(|kind| (Metric::Instructions(kind), each(of(kind), calls)));
        Line { name, measured: Ok(vec![Sample::from(sample)]) }
    };
    let lines = rows.into_iter().map(line).collect();
    Table { id, title, about, columns: COLUMNS, against: Against::Nothing, lines }
}

/// For each call, in tenths.
fn each(count: u64, calls: usize) -> f64 {
    let tenths = count.saturating_mul(10) / u64::try_from(calls).unwrap_or(u64::MAX).max(1);
    u32::try_from(tenths).map_or(f64::INFINITY, f64::from) / 10.0
}

const ALL_THREADS: &str = "all threads";
const WORKER: &str = "the worker";
const HTTP: &str = "worker: HTTP (hyper, http, httparse, bytes)";
const RUNTIME: &str = "worker: runtime (tokio, mio)";
const ALLOCATOR: &str = "worker: allocator";
const COPIES: &str = "worker: copying and comparing memory";
const HASHES: &str = "worker: hashes and signatures";
const JSON: &str = "worker: JSON and text (serde, base64, memchr)";
const GATEWAY: &str = "worker: ours, the gateway";
const CORE: &str = "worker: ours, from money to rails";
const STORE: &str = "worker: ours, the store";
const TABLES: &str = "worker: hash tables (SipHash, dashmap)";
const REST: &str = "worker: other crates";
const LIBRARY_REST: &str = "worker: the libraries of Rust and C, by themselves";
const WRITER: &str = "the store's writer";
const OTHERS: &str = "other threads";
const KERNEL: &str = "calls to the kernel, number";
const CLOCK: &str = "readings of the clock, number";

/// In the order of the table.
const ROWS: [&str; 18] = [
    ALL_THREADS,
    WORKER,
    HTTP,
    RUNTIME,
    ALLOCATOR,
    COPIES,
    HASHES,
    JSON,
    TABLES,
    LIBRARY_REST,
    GATEWAY,
    CORE,
    STORE,
    REST,
    WRITER,
    OTHERS,
    KERNEL,
    CLOCK,
];

/// What is of our own making.
const OURS: [&str; 10] =
    ["money", "ledger", "wire", "proof", "meter", "tariff", "rails", "store", "gateway", "farthing"];
/// The language's library; what is in it for somebody's type is that one's.
const LIBRARY: [&str; 3] = ["core", "alloc", "std"];

/// What a place is for.
fn area(place: &Place) -> &'static str {
    match krate(place).as_deref() {
        Some("gateway" | "farthing") => GATEWAY,
        Some("money" | "ledger" | "wire" | "proof" | "meter" | "tariff" | "rails") => CORE,
        Some("store" | "redb" | "crc32fast") => STORE,
        Some(
            "hyper" | "hyper_util" | "http" | "http_body" | "http_body_util" | "httparse" | "httpdate"
            | "bytes",
        ) => HTTP,
        Some(
            "tokio" | "tokio_util" | "mio" | "socket2" | "atomic_waker" | "futures_core" | "futures_util",
        ) => RUNTIME,
        Some("serde" | "serde_core" | "serde_json" | "base64" | "memchr" | "itoa" | "ryu") => JSON,
        Some("dashmap" | "hashbrown") => TABLES,
        Some("mimalloc" | "libmimalloc_sys") => ALLOCATOR,
        Some(name) if is_of_hashes(name) => HASHES,
        Some(_) => REST,
        None => library_area(place),
    }
}

fn is_of_hashes(name: &str) -> bool {
    const CRATES: [&str; 17] = [
        "sha2",
        "sha3",
        "keccak",
        "hmac",
        "digest",
        "block_buffer",
        "crypto_common",
        "generic_array",
        "hybrid_array",
        "subtle",
        "ring",
        "k256",
        "elliptic_curve",
        "crypto_bigint",
        "ed25519_dalek",
        "curve25519_dalek",
        "zeroize",
    ];
    CRATES.contains(&name) || name.starts_with("secp256k1") || name.starts_with("ecdsa")
}

/// The same of the C library, and of the language's where it is for nobody's type.
fn library_area(place: &Place) -> &'static str {
    let function = place.function.trim_start_matches('_');
    let is_of = |starts: &[&str]| starts.iter().any(|start| function.starts_with(start));
    let allocates =
        ["malloc", "calloc", "realloc", "free", "cfree", "int_malloc", "int_free", "rust_", "rdl_", "mi_"];
    if place.file.ends_with("malloc.c") || place.file.ends_with("arena.c") || is_of(&allocates) {
        ALLOCATOR
    } else if is_of(&["memcpy", "memmove", "memset", "memcmp", "bcmp"]) {
        COPIES
    } else if ["core::hash::", "std::hash::"].iter().any(|hash| function.contains(hash)) {
        TABLES
    } else {
        LIBRARY_REST
    }
}

/// The crate whose source this is; of the language's library and of what has no source, the crate that it is for.
fn krate(place: &Place) -> Option<String> {
    if let Some((_, path)) = place.file.split_once("/registry/src/") {
        // index.crates.io-1949cf8c6b5b557f/hyper-util-0.1.21/src/...
        let folder = path.split('/').nth(1)?;
        let version =
            folder.as_bytes().windows(2).position(|pair| pair[0] == b'-' && pair[1].is_ascii_digit());
        return Some(folder.get(..version?)?.replace('-', "_"));
    }
    match own_source(&place.file) {
        Some((name, _)) => Some(name.to_owned()),
        None => used_for(&place.function).map(|(name, _)| name.to_owned()),
    }
}

/// A crate of ours and its module, by the file.
fn own_source(file: &str) -> Option<(&str, &str)> {
    let (_, path) = file.rsplit_once("crates/")?;
    let (name, path) = path.split_once("/src/")?;
    let module = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    OURS.contains(&name).then_some((name, module))
}

/// The first crate that a function's name speaks of, beside the language's library, and the module behind it.
fn used_for(function: &str) -> Option<(&str, &str)> {
    let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    function.match_indices("::").find_map(|(end, _)| {
        let start = function.get(..end)?.rfind(|letter| !is_of_name(letter)).map_or(0, |before| before + 1);
        let name = function.get(start..end)?;
        let is_within = function.get(..start)?.ends_with(':');
        let behind = function.get(end + 2..)?.split(|letter| !is_of_name(letter)).next()?;
        (!name.is_empty() && !is_within && !LIBRARY.contains(&name)).then_some((name, behind))
    })
}

/// `gateway::charge`
fn module(place: &Place) -> Option<String> {
    let is_foreign = place.file.contains("/registry/src/");
    let (name, module) = match own_source(&place.file) {
        Some(found) => found,
        None if is_foreign => return None,
        None => used_for(&place.function).filter(|(name, _)| OURS.contains(name))?,
    };
    Some(if module == "lib" { name.to_owned() } else { format!("{name}::{module}") })
}

#[cfg(test)]
mod tests {
    use super::{
        ALLOCATOR, COPIES, CORE, GATEWAY, HASHES, HTTP, LIBRARY_REST, REST, TABLES, area, heaviest, module,
    };
    use crate::callgrind::{Cost, Costs, Place};

    fn place(file: &str, function: &str) -> Place {
        Place { file: file.to_owned(), function: function.to_owned() }
    }

    #[test]
    fn areas() {
        let registry = "/home/me/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";
        for (file, function, expected, own) in [
            // By the source, however it was inlined.
            (&*format!("{registry}/hyper-util-0.1.21/src/rt.rs"), "gateway::call::answer", HTTP, None),
            (&format!("{registry}/sha2-0.10.9/src/sha256.rs"), "sha2::compress256", HASHES, None),
            (&format!("{registry}/secp256k1-sys-0.10.1/src/lib.rs"), "verify", HASHES, None),
            (&format!("{registry}/governor-0.10.1/src/gcra.rs"), "x", REST, None),
            ("/src/farthing/crates/gateway/src/charge/hold.rs", "x", GATEWAY, Some("gateway::charge")),
            ("crates/money/src/lib.rs", "x", CORE, Some("money")),
            // The language's library by whom it serves.
            (
                "/rustc/59807616/library/core/src/option.rs",
                "<core::option::Option<T> as core::fmt::Debug>::fmt",
                LIBRARY_REST,
                None,
            ),
            (
                "/rustc/59807616/library/core/src/ptr/mod.rs",
                "core::ptr::drop_in_place<alloc::vec::Vec<hyper::body::Incoming>>",
                HTTP,
                None,
            ),
            (
                "/rustc/59807616/library/alloc/src/vec.rs",
                "<wire::x402::Offer as serde::Serialize>::serialize",
                CORE,
                Some("wire::x402"),
            ),
            ("./malloc/./malloc/malloc.c", "_int_malloc", ALLOCATOR, None),
            ("???", "free", ALLOCATOR, None),
            (
                &format!("{registry}/libmimalloc-sys-0.1.49/c_src/mimalloc/v3/src/free.c"),
                "mi_free",
                ALLOCATOR,
                None,
            ),
            ("./string/memmove-vec-unaligned-erms.S", "__memcpy_avx_unaligned_erms", COPIES, None),
            ("./socket/recv.c", "recv", LIBRARY_REST, None),
            (
                "library/core/src/hash/sip.rs",
                "<core::hash::sip::Hasher<S> as core::hash::Hasher>::write",
                TABLES,
                None,
            ),
        ] {
            let place = place(file, function);
            assert_eq!((area(&place), module(&place).as_deref()), (expected, own), "{file} {function}");
        }
    }

    #[test]
    fn threads() {
        let thread = |function: &str, instructions| -> Costs {
            [(place("", function), Cost { instructions, kernel_calls: 0 })].into()
        };
        let threads = [thread("a", 1), thread("store::writer::run", 5), thread("hyper::serve", 9)];
        let of = |start: &str| heaviest(&threads, |place| place.function.starts_with(start));
        assert_eq!((of("store::writer::"), of("hyper::"), of("nobody::")), (Some(1), Some(2), None));
    }
}
