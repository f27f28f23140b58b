//! Child processes that never outlive their purpose.
//!
//! Servers run on a leash: a shell that kills them when its input ends, which happens when the
//! `Server` drops and also when this process dies without a chance to clean up.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::step;

/// How a program ended that was run to its end.
pub(crate) struct Ended {
    pub(crate) succeeded: bool,
    /// For people: "ended with 1", "stopped after 120 s" ...
    pub(crate) end: String,
    pub(crate) stdout: String,
}

impl Ended {
    fn never_started(why: String) -> Self {
        Self { succeeded: false, end: why, stdout: String::new() }
    }
}

/// Runs a program to its end or for `time_max`, with its complaints in the file `log`.
pub(crate) fn run(mut command: Command, log: &Path, time_max: Duration) -> Ended {
    let stderr = match create(log) {
        Ok(file) => file,
        Err(why) => return Ended::never_started(why),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    own_group(&mut command);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            return Ended::never_started(format!("cannot run {:?}: {error}", command.get_program()));
        }
    };
    let reader = child.stdout.take().map(|mut pipe| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What came before an error still counts.
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    });
    let (succeeded, end) = wait(&mut child, time_max);
    kill_group(&mut child);
    let stdout = reader.and_then(|thread| thread.join().ok()).unwrap_or_default();
    Ended { succeeded, end, stdout }
}

/// Runs a program to its end or for `time_max`, all it prints shown as it comes. Its input ends when this process does,
/// however that ends.
pub(crate) fn watch(mut command: Command, name: &str, time_max: Duration) -> Outcome {
    let started = Instant::now();
    println!("== {name}");
    own_group(&mut command);
    let held = command.stdin(Stdio::piped()).spawn().map(|mut child| {
        let (succeeded, end) = wait(&mut child, time_max);
        kill_group(&mut child);
        if !succeeded {
            println!("{name} {end}");
        }
        succeeded
    });
    step::report(name, &held, started)
}

fn wait(child: &mut Child, time_max: Duration) -> (bool, String) {
    let deadline = Instant::now() + time_max;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return (status.success(), format!("ended with {status}")),
            Err(error) => return (false, format!("cannot be waited for: {error}")),
            Ok(None) if Instant::now() > deadline => {
                return (false, format!("stopped after {} s", time_max.as_secs()));
            }
            Ok(None) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A server that lives as long as this value.
pub(crate) struct Server {
    name: &'static str,
    leash: Child,
}

/// `$@` until our input ends; then the whole process group is killed, this shell with it. The
/// group is one of its own, so an interrupt of the terminal ends us, and by that the input.
/// The shell ends early only if the server does.
const LEASH: &str = r#"( "$@" </dev/null; kill -USR1 $$ ) & cat >/dev/null; kill -KILL 0"#;

impl Server {
    /// Starts `command` with all it prints in the file `log`.
    pub(crate) fn start(name: &'static str, command: &Command, log: &Path) -> Result<Self, String> {
        let output = create(log)?;
        let errors = output.try_clone().map_err(|e| format!("cannot write {}: {e}", log.display()))?;
        let mut shell = Command::new("sh");
        shell.args(["-c", LEASH, "sh"]).arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        shell.stdin(Stdio::piped()).stdout(output).stderr(errors);
        own_group(&mut shell);
        let leash = shell.spawn().map_err(|e| format!("cannot start {name}: {e}"))?;
        Ok(Self { name, leash })
    }

    /// Waits until `ready` says so; `Err` if the server ends before, or is not ready in `time_max`.
    pub(crate) fn wait_until(
        &mut self,
        log: &Path,
        time_max: Duration,
        ready: impl Fn() -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + time_max;
        while !ready() {
            let ended = !matches!(self.leash.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                let said = fs::read_to_string(log).unwrap_or_default();
                let last = said.lines().last().unwrap_or("it said nothing");
                let what = if ended { "ended at once" } else { "is not ready in time" };
                return Err(format!("{} {what}: {last}", self.name));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill_group(&mut self.leash);
    }
}

/// A port that was free a moment ago, below those that the system gives to connections, and each once in
/// this process: otherwise somebody else may have it before it is used.
pub(crate) fn free_port() -> Result<u16, String> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(61);
    let free = (0..COUNT).find_map(|_| {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(port).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    });
    free.ok_or_else(|| "no free port".to_owned())
}

/// Whether somebody listens on this loopback port.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&loopback(port), Duration::from_secs(1)).is_ok()
}

/// Whether `GET path` on this loopback port is answered with 200.
pub(crate) fn answers(port: u16, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&loopback(port), Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.starts_with(b"HTTP/1.") && status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn create(log: &Path) -> Result<File, String> {
    let made = log.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create(log));
    made.map_err(|e| format!("cannot write {}: {e}", log.display()))
}

/// A group of its own, so that the child can be ended with whatever it started.
fn own_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    // `run` of the parent module starts nothing on other systems.
    #[cfg(not(unix))]
    let _ = command;
}

/// Ends the child and whatever it started.
fn kill_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{Server, free_port, listens, run};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn run_tells_output_and_end() {
        let log = std::env::temp_dir().join(format!("xtask-run-{}.log", std::process::id()));
        let ended = run(shell("echo out; echo err >&2; exit 3"), &log, Duration::from_secs(10));
        assert!(!ended.succeeded);
        assert_eq!(ended.stdout, "out\n");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "err\n");

        let begun = Instant::now();
        let ended = run(shell("sleep 60 & wait"), &log, Duration::from_millis(200));
        assert!(!ended.succeeded && ended.end.contains("stopped"), "{}", ended.end);
        assert!(begun.elapsed() < Duration::from_secs(10), "a grandchild kept us waiting");
        std::fs::remove_file(log).unwrap();
    }

    /// A dropped server leaves nothing behind, also when it is a shell with children.
    #[test]
    fn dropped_server_is_gone() {
        let log = std::env::temp_dir().join(format!("xtask-leash-{}.log", std::process::id()));
        let mut server = Server::start("sleeper", &shell("sleep 60 & echo $!; wait"), &log).unwrap();
        let pid = || std::fs::read_to_string(&log).unwrap().trim().parse::<u32>();
        server.wait_until(&log, Duration::from_secs(10), || pid().is_ok()).unwrap();
        let pid = pid().unwrap();
        let alive = || Command::new("kill").args(["-0", &pid.to_string()]).output().unwrap().status.success();
        assert!(alive());
        drop(server);
        // The system may take a moment to reap what was killed.
        let deadline = Instant::now() + Duration::from_secs(10);
        while alive() {
            assert!(Instant::now() < deadline, "the server outlived its leash");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn server_that_ends_is_not_waited_for() {
        let log = std::env::temp_dir().join(format!("xtask-ended-{}.log", std::process::id()));
        let mut server = Server::start("brief", &shell("echo bad configuration; exit 3"), &log).unwrap();
        let error = server.wait_until(&log, Duration::from_secs(60), || false).unwrap_err();
        assert_eq!(error, "brief ended at once: bad configuration");
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn free_port_is_free() {
        assert!(!listens(free_port().unwrap()));
    }
}
