//! Servers that never outlive the measurement, and what they have computed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
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

/// How every server of this run was started first, by name.
static COMMANDS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// How every server of this run was started: what several scenarios start, as the first of them did. Paths are from
/// `root` on.
pub(crate) fn commands(root: &Path) -> Vec<String> {
    let root = format!("{}/", root.display());
    let commands = COMMANDS.lock().unwrap_or_else(PoisonError::into_inner);
    commands.iter().map(|(name, words)| format!("{name}: {}", words.replace(&root, ""))).collect()
}

/// A server that lives as long as this value.
pub(crate) struct Server {
    name: String,
    leash: Child,
    log: PathBuf,
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
        let mut commands = COMMANDS.lock().unwrap_or_else(PoisonError::into_inner);
        commands.entry(name.to_owned()).or_insert_with(|| words.join(" "));
        drop(commands);
        let mut shell = Command::new("sh");
        shell.args(["-c", LEASH, "sh"]).args(pinning::measured(command));
        shell.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        shell.stdin(Stdio::piped()).stderr(output.try_clone().map_err(told)?).stdout(output);
        let leash = shell.process_group(0).spawn().map_err(told)?;
        let mut server = Self { name: name.to_owned(), leash, log: log.to_owned() };
        server.wait_until(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())?;
        Ok(server)
    }

    /// Waits until it is ready, as told by `is_ready`.
    pub(crate) fn wait_until(&mut self, is_ready: impl Fn() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + START_TIME_MAX;
        while !is_ready() {
            let ended = !matches!(self.leash.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                let what = if ended { "ended at once" } else { "is not ready in time" };
                return Err(format!("{} {what}: {}", self.name, self.last_words()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The last line that it has printed.
    fn last_words(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
    }

    /// What it said last, where it has ended before its time.
    pub(crate) fn epitaph(&self) -> Option<String> {
        self.processes().is_empty().then(|| format!("{} has ended: {}", self.name, self.last_words()))
    }

    /// Its process and that one's descendants.
    pub(crate) fn processes(&self) -> Vec<u32> {
        processes(self.leash.id())
    }

    /// Nanoseconds on a processor so far, by thread, of all processes of this server.
    pub(crate) fn processor_time(&self) -> ProcessorTime {
        let mut threads = BTreeMap::new();
        collect(self.leash.id(), &mut threads);
        ProcessorTime(threads)
    }

    /// Memory of all processes of this server, shared pages by their share, in KiB.
    pub(crate) fn pss_kib(&self) -> u64 {
        self.processes().into_iter().map(pss_kib).sum()
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
        let ended = self.processes();
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

/// Whether a process is there and one of its threads has not ended. The first may have, while another is still in a
/// write to the disk: until that comes back, files and sockets of the process are open.
fn runs(process: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    tasks.flatten().any(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    })
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::process::{Command, Stdio};

    use super::runs;

    /// Ends its first thread; another reads until its input ends.
    const HEADLESS: &str = "import ctypes, sys, threading\n\
        threading.Thread(target=sys.stdin.read).start()\n\
        ctypes.CDLL(None).pthread_exit(None)";

    /// A process whose first thread has ended still has its files: it runs until the last one has.
    #[test]
    fn a_process_runs_as_long_as_one_of_its_threads() {
        let started = Command::new("python3").args(["-c", HEADLESS]).stdin(Stdio::piped()).spawn();
        let mut process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => return println!("skipped: no python3"),
            Err(error) => panic!("{error}"),
        };
        let id = process.id();
        let first = || fs::read_to_string(format!("/proc/{id}/task/{id}/stat")).unwrap();
        while !first().contains(") Z") {
            std::thread::yield_now();
        }
        assert!(runs(id));
        // Its input ends, and with that its last thread.
        drop(process.stdin.take());
        process.wait().unwrap();
        assert!(!runs(id));
    }
}
