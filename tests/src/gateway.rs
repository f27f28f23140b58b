//! The binary under test, as a process of its own.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http;

/// Longest a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary: `FARTHING_BIN`, or built once by the cargo that runs the tests.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("FARTHING_BIN") {
            return path.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // What cargo told this test about its own package would make it build others anew.
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];
        for (name, _) in std::env::vars_os() {
            if ours.iter().any(|start| name.to_string_lossy().starts_with(start)) {
                build.env_remove(name);
            }
        }
        // This test runs from <target>/<profile>/deps, and tests the binary of its own profile.
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().unwrap().parent().unwrap();
        let released = if profile.ends_with("release") { ["--release"].as_slice() } else { &[] };
        let built = build
            .args(["build", "--quiet", "--locked", "--package", "farthing"])
            .args(released)
            .current_dir(root)
            .status()
            .unwrap();
        assert!(built.success(), "the binary does not build");
        profile.join("farthing")
    })
}

/// A loopback address nobody listens on.
///
/// Below the ports that the system gives to connections and to `:0`, and each once in this process: otherwise
/// another test may have it before it is used.
pub fn free_address() -> SocketAddr {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(61);
    let free = (0..COUNT).find_map(|_| {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        TcpListener::bind(address).is_ok().then_some(address)
    });
    free.unwrap()
}

/// Calls `look` until it finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A gateway process with a store of its own. Killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
    folder: tempfile::TempDir,
    child: Child,
    environment: Vec<(String, String)>,
}

impl Gateway {
    /// Starts a gateway in test mode before `upstream`, with the `test` rail and a price for every model
    /// (1 USD per million input tokens, 4 USD output). `more` is YAML added at the top level; sections it
    /// names replace the usual ones.
    pub fn start(upstream: SocketAddr, more: &str) -> Self {
        Self::start_in(upstream, more, &[])
    }

    /// As [`Gateway::start`], with more in the process's environment.
    pub fn start_in(upstream: SocketAddr, more: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (address, admin) = (free_address(), free_address());
        let usual = [
            ("mode", "test".to_owned()),
            ("server", format!("{{ listen: [\"{address}\"], threads: 2 }}")),
            ("store", format!("{{ path: \"{}\" }}", folder.path().join("store").display())),
            (
                "upstreams",
                format!(
                    "{{ openai: {{ url: \"http://{upstream}\", dialect: openai, auth: {{ bearer: \"${{env:UPSTREAM_KEY}}\" }} }}, \
                     claude: {{ url: \"http://{upstream}\", dialect: anthropic, auth: {{ header: x-api-key, value: \"${{env:UPSTREAM_KEY}}\" }} }} }}"
                ),
            ),
            ("prices", "{ \"*\": { input: 1 USD/Mtok, output: 4 USD/Mtok } }".to_owned()),
            ("rails", "{ test: {} }".to_owned()),
            (
                "limits",
                "{ unpaid: { per_ip: 100000/min }, invalid_proofs: { per_ip: 100000/min, burst: 100000 }, default: { rpm: 100000, concurrent: 1000 } }"
                    .to_owned(),
            ),
            ("admin", format!("{{ listen: \"{admin}\" }}")),
        ];
        let mut text = String::new();
        for (section, value) in usual {
            if !more.lines().any(|line| line.starts_with(&format!("{section}:"))) {
                text.push_str(&format!("{section}: {value}\n"));
            }
        }
        let here = folder.path().display().to_string();
        text.push_str(&more.replace("{address}", &address.to_string()).replace("{folder}", &here));
        std::fs::write(folder.path().join("farthing.yaml"), text).unwrap();
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let child = spawn(folder.path(), &environment);
        let mut gateway = Self { address, admin, folder, child, environment };
        gateway.wait_until_ready();
        gateway
    }

    /// The configuration file, to be changed for a reload.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("farthing.yaml")
    }

    /// The folder that goes with this gateway.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every byte of the store, to look for what must not be there.
    pub fn store_file(&self) -> String {
        let file = |name: &str| std::fs::read(self.folder.path().join("store").join(name)).unwrap();
        let bytes = [file("farthing.redb"), file("farthing.log")].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Everything the process has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn wait_until_ready(&mut self) {
        let admin = self.admin;
        wait_for("the gateway to be ready", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the gateway ended with {status}: {}", self.log());
            }
            http::try_get(admin, "/readyz").filter(|answer| answer.status == 200)
        });
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its number: 1 HUP, 9 KILL, 15 TERM.
    pub fn signal(&self, number: i32) {
        let sent = Command::new("kill").args([format!("-{number}"), self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the gateway to end", || child.try_wait().unwrap())
    }

    /// Kills the process with SIGKILL and starts another on the same store.
    pub fn crash_and_restart(&mut self) {
        self.signal(9);
        self.wait();
        self.restart();
    }

    /// Starts another process on the same store, when the one before has ended.
    pub fn restart(&mut self) {
        self.child = spawn(self.folder.path(), &self.environment);
        self.wait_until_ready();
    }

    /// Runs a command of the binary with this gateway's configuration.
    pub fn command(&self, words: &[&str]) -> Output {
        Command::new(binary())
            .args(words)
            .arg("--config")
            .arg(self.config())
            .env("UPSTREAM_KEY", crate::upstream::KEY)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap()
    }

    /// Runs an operator's command: `["key", "new", "--credit", "1 TEST"]`.
    pub fn operator(&self, words: &[&str]) -> Value {
        let output = self.command(&[words, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{words:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).unwrap()
    }

    /// A new credit key with so much in its account: `"1 TEST"`.
    pub fn key(&self, credit: &str) -> String {
        self.operator(&["key", "new", "--credit", credit])["key"].as_str().unwrap().to_owned()
    }

    /// Balance and held amount of a key's account, in nano units.
    pub fn balance(&self, key: &str) -> (i64, i64) {
        let answer =
            http::get(self.address, "/farthing/balance", &[("authorization", &format!("Bearer {key}"))]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        (nano(&body["balance"]["amount"]), nano(&body["held"]["amount"]))
    }

    /// The balance once no call of the account is open any more.
    pub fn settled_balance(&self, key: &str) -> i64 {
        wait_for("holds to end", || {
            let (balance, held) = self.balance(key);
            (held == 0).then_some(balance)
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- log of the gateway\n{}", self.log());
        }
    }
}

/// Nano units of a decimal text in JSON, exact.
pub fn nano(text: &Value) -> i64 {
    let text = text.as_str().unwrap_or_else(|| panic!("{text} is no decimal text"));
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap();
    assert_eq!(fraction.len(), 9, "{text}");
    sign * (whole.parse::<i64>().unwrap() * 1_000_000_000 + fraction.parse::<i64>().unwrap())
}

fn spawn(folder: &Path, environment: &[(String, String)]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    Command::new(binary())
        .args(["serve", "--config"])
        .arg(folder.join("farthing.yaml"))
        .env("UPSTREAM_KEY", crate::upstream::KEY)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
