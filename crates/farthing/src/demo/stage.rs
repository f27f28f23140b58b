//! What the demo plays on: a folder of its own, the pretend upstream, and the gateway as `serve` runs it.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use gateway::admin::{self, Command};
use gateway::config;
use gateway::server::ServeError;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Everything that runs.
pub(super) struct Stage {
    pub(super) address: SocketAddr,
    folder: PathBuf,
    gateway: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Stage {
    /// Starts upstream and gateway. With `usual_port` the gateway listens where `serve` does, if it can.
    pub(super) async fn set(usual_port: bool) -> Result<Self, String> {
        let folder = fresh_folder()?;
        let upstream = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let upstream_address = upstream.local_addr().map_err(|error| error.to_string())?;
        tokio::spawn(crate::upstream::serve(upstream));
        let usual = usual_port && TcpListener::bind("127.0.0.1:4402").await.is_ok();
        let port = if usual { 4402 } else { 0 };
        let text = configuration(&folder, upstream_address, port);
        let nothing = |_: &str| None;
        let no_files = |_: &Path| Err(std::io::Error::other("the demo reads no files"));
        let config =
            config::parse(&text, "demo.yaml", &nothing, &no_files).map_err(|found| found.to_string())?;
        let (started, listening) = oneshot::channel();
        let gateway = std::thread::Builder::new()
            .name("gateway".into())
            .spawn(move || {
                gateway::server::run(config, None, |listening| {
                    let _ = started.send(listening.public.first().copied());
                })
            })
            .map_err(|error| error.to_string())?;
        match listening.await {
            Ok(Some(address)) => Ok(Self { address, folder, gateway: Some(gateway) }),
            Ok(None) | Err(_) => {
                let why = gateway.join().map(|ended| ended.err().map(|error| error.to_string()));
                let _ = std::fs::remove_dir_all(&folder);
                Err(why.ok().flatten().unwrap_or_else(|| "the gateway did not start".to_owned()))
            }
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where the agent keeps its wallet.
    pub(super) fn agent_folder(&self) -> PathBuf {
        self.folder.join("agent")
    }

    /// Asks the gateway over its admin socket, as the operator's commands do.
    pub(super) async fn operator(&self, command: Command) -> Result<Value, String> {
        admin::ask(&self.folder.join("admin.sock"), &command).await.map_err(|error| error.to_string())
    }

    /// Waits until somebody stops the gateway with Ctrl-C.
    pub(super) async fn until_stopped(&self) {
        while self.gateway.as_ref().is_some_and(|thread| !thread.is_finished()) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// Stops the gateway as SIGTERM would, and removes the folder.
    pub(super) async fn strike(mut self) {
        let _ = self.operator(Command::Drain).await;
        if let Some(thread) = self.gateway.take() {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            if let Ok(Ok(Err(error))) = ended {
                eprintln!("farthing: the gateway ended badly: {error}");
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn fresh_folder() -> Result<PathBuf, String> {
    let mut name = [0u8; 8];
    getrandom::fill(&mut name).map_err(|error| error.to_string())?;
    let folder = std::env::temp_dir().join(format!("farthing-demo-{}", wire::hex::encode(&name)));
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn configuration(folder: &Path, upstream: SocketAddr, port: u16) -> String {
    let store = folder.join("store");
    let socket = folder.join("admin.sock");
    format!(
        r#"mode: test
server: {{ listen: ["127.0.0.1:{port}"] }}
store: {{ path: {store:?} }}
upstreams:
  openai: {{ url: "http://{upstream}", dialect: openai }}
  anthropic: {{ url: "http://{upstream}", dialect: anthropic }}
prices:
  "play-*": {{ input: 1 USD/Mtok, output: 4 USD/Mtok }}
rails:
  test: {{ deposit: 0.04 USD }}
admin: {{ listen: "127.0.0.1:0", socket: {socket:?} }}
"#
    )
}
