//! The command socket: one JSON object a line, one answer a line. Only its owner may open it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::office::{Command, Office, SharedGate};
use crate::server::Order;

const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Serves commands until the process ends. `orders` goes to the server: reload and drain.
pub(crate) async fn serve_commands(listener: UnixListener, gate: SharedGate, orders: mpsc::Sender<Order>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (gate, orders) = (Arc::clone(&gate), orders.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &gate, &orders).await {
                        tracing::debug!(%error, "admin connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Binds the socket with mode 0600. A socket left behind by a dead process is replaced.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    // The folder of the store is 0700; the mode of the socket itself closes the rest.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn converse(stream: UnixStream, gate: &SharedGate, orders: &mpsc::Sender<Order>) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading.take(LINE_BYTES_MAX)).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match carry_out(&line, gate, orders).await {
            Ok(value) => json!({"ok": value}),
            Err(error) => json!({"error": error}),
        };
        writing.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

async fn carry_out(line: &str, gate: &SharedGate, orders: &mpsc::Sender<Order>) -> Result<Value, String> {
    let command: Command = serde_json::from_str(line).map_err(|error| format!("not a command: {error}"))?;
    let stopping = "the gateway is stopping";
    if matches!(command, Command::Reload) {
        let (answer, done) = tokio::sync::oneshot::channel();
        orders.send(Order::Reload(Some(answer))).await.map_err(|_| stopping)?;
        return done.await.map_err(|_| stopping)?;
    }
    if let Command::PricesApply { version } = command {
        let (answer, done) = tokio::sync::oneshot::channel();
        orders.send(Order::ApplyPrices { version, answer }).await.map_err(|_| stopping)?;
        return done.await.map_err(|_| stopping)?;
    }
    if matches!(command, Command::Drain) {
        orders.send(Order::Drain).await.map_err(|_| stopping)?;
        return Ok(json!("draining"));
    }
    Office::Running(gate).run(command).await.map_err(|error| error.to_string())
}

/// Why a running gateway could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No gateway runs on this store.
    #[error("no gateway runs")]
    NotRunning,
    /// It runs, and did not answer as it should.
    #[error("the gateway did not answer: {0}")]
    Broken(String),
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks a running gateway over its socket.
///
/// # Errors
/// [`AskError::NotRunning`] when nobody listens: the store may then be opened alone.
pub async fn ask(socket: &Path, command: &Command) -> Result<Value, AskError> {
    let mut stream = UnixStream::connect(socket).await.map_err(|error| {
        let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind());
        if nobody { AskError::NotRunning } else { AskError::Broken(error.to_string()) }
    })?;
    let broken = |error: io::Error| AskError::Broken(error.to_string());
    let line = serde_json::to_string(command).map_err(|error| AskError::Broken(error.to_string()))?;
    stream.write_all(format!("{line}\n").as_bytes()).await.map_err(broken)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await.map_err(broken)?;
    let answer: Value = serde_json::from_str(&answer).map_err(|error| AskError::Broken(error.to_string()))?;
    match (answer.get("ok"), answer.get("error").and_then(Value::as_str)) {
        (Some(value), None) => Ok(value.clone()),
        (_, Some(error)) => Err(AskError::Refused(error.to_owned())),
        (None, None) => Err(AskError::Broken("no answer".to_owned())),
    }
}
