//! Servers that never outlive the measurement, and what they have computed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::pinning;

/// Longest start of a server on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(180);

/// Longest end of a server that was killed.
const END_TIME_MAX: Duration = Duration::from_secs(10);

/// `$@` until our input ends; then the whole group is killed, this shell with it. The input ends when the
/// [`Server`] drops, and also when the measurement is killed itself.
const LEASH: &str = r#"( "$@" </dev/null; kill -USR1 $$ ) & cat >/dev/null; kill -KILL 0"#;

/// How every server of this run was started, once each.
static COMMANDS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// How every server of this run was started.
pub(crate) fn commands() -> Vec<String> {
    COMMANDS.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// A server that lives as long as this value.
pub(crate) struct Server {
    name: String,
    leash: Child,
}

impl Server {
    /// Starts `command` with all it prints in the file `log`, and waits until it listens on `address`.
    pub(crate) fn start(
        name: &str,
        command: &Command,
        log: &Path,
        address: SocketAddr,
    ) -> Result<Self, String> {
        let told = |error: io::Error| format!("cannot start {name}: {error}");
        let output = File::create(log).map_err(told)?;
        let words: Vec<_> = pinning::measured(command).iter().map(|word| word.to_string_lossy()).collect();
        COMMANDS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(format!("{name}: {}", words.join(" ")));
        let mut shell = Command::new("sh");
        shell.args(["-c", LEASH, "sh"]).args(pinning::measured(command));
        shell.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        shell.stdin(Stdio::piped()).stderr(output.try_clone().map_err(told)?).stdout(output);
        let leash = shell.process_group(0).spawn().map_err(told)?;
        let mut server = Self { name: name.to_owned(), leash };
        server.wait_until_listening(log, address)?;
        Ok(server)
    }

    fn wait_until_listening(&mut self, log: &Path, address: SocketAddr) -> Result<(), String> {
        let deadline = Instant::now() + START_TIME_MAX;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let ended = !matches!(self.leash.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                let said = fs::read_to_string(log).unwrap_or_default();
                let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
                let what = if ended { "ended at once" } else { "is not ready in time" };
                return Err(format!("{} {what}: {last}", self.name));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Nanoseconds on a processor so far, by thread, of all processes of this server.
    pub(crate) fn processor_time(&self) -> ProcessorTime {
        let mut threads = BTreeMap::new();
        collect(self.leash.id(), &mut threads);
        ProcessorTime(threads)
    }

    /// Memory of all processes of this server, shared pages by their share, in KiB.
    pub(crate) fn pss_kib(&self) -> u64 {
        processes(self.leash.id()).into_iter().map(pss_kib).sum()
    }
}

/// A process and its descendants; the shells of the leash weigh nothing that matters and are left out.
fn processes(leash: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut left = vec![leash];
    while let Some(process) = left.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            left.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        if !["sh", "cat"].contains(&name.trim()) {
            found.push(process);
        }
    }
    found
}

fn pss_kib(process: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = processes(self.leash.id());
        let group = format!("-{}", self.leash.id());
        // Where these fail, the group has ended already.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.leash.kill();
        let _ = self.leash.wait();
        // A process that is being ended still has its store and its sockets, and the next one may want them.
        let deadline = Instant::now() + END_TIME_MAX;
        while ended.iter().any(|process| runs(*process)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a process is there and has not ended.
fn runs(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The thread of our gateway that makes things durable.
const WRITER: &str = "store-writer";

/// What each thread has computed (PERF-41), in nanoseconds.
pub(crate) struct ProcessorTime(BTreeMap<u32, Thread>);

struct Thread {
    nanos: u64,
    is_writer: bool,
}

/// What was computed between two looks, in nanoseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Computed {
    /// By all threads.
    pub(crate) nanos: u64,
    /// Of it by our store's writer.
    pub(crate) writer_nanos: u64,
}

impl ProcessorTime {
    /// What was computed since `before`. What a thread did that has ended in between is not in it.
    pub(crate) fn since(&self, before: &Self) -> Computed {
        let mut computed = Computed::default();
        for (id, thread) in &self.0 {
            let earlier = before.0.get(id).map_or(0, |thread| thread.nanos);
            let nanos = thread.nanos.saturating_sub(earlier);
            computed.nanos += nanos;
            computed.writer_nanos += if thread.is_writer { nanos } else { 0 };
        }
        computed
    }
}

fn collect(process: u32, threads: &mut BTreeMap<u32, Thread>) {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return };
    for task in tasks.flatten() {
        let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let nanos = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        threads.insert(thread, Thread { nanos, is_writer: name.trim() == WRITER });
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            collect(child, threads);
        }
    }
}

/// A loopback address that nobody listens on, below the ports that the system gives to connections, and each once
/// in this process (PERF-43).
pub(crate) fn free_address() -> Result<SocketAddr, String> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(61);
    let free = (0..COUNT).find_map(|_| {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?));
        TcpListener::bind(address).is_ok().then_some(address)
    });
    free.ok_or_else(|| "no free port".to_owned())
}
