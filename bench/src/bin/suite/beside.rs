//! What goes on while something else is measured.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use std::process::{Command, Stdio};
use tokio::task::JoinHandle;

use crate::gateway::AUTHORIZER_KEY;
use crate::load::{self, Lane, Target};
use crate::records::Records;

/// Connections of a flood, each from a loopback address of its own.
const SOURCES: u8 = 32;

/// Something that goes on meanwhile.
#[derive(Clone)]
pub(crate) enum Beside {
    Nothing,
    /// So many a second of a request that nobody pays for, whatever is answered.
    Flood {
        target: Target,
        request: Bytes,
        per_second: u32,
    },
    /// The configuration is read anew, again and again.
    Reloads {
        binary: PathBuf,
        config: PathBuf,
        every: Duration,
    },
    /// Records are pushed to the disk, in a store in this folder.
    Records {
        folder: PathBuf,
        per_second: u32,
    },
}

/// It goes on until it is ended.
pub(crate) struct GoesOn(Vec<JoinHandle<Result<(), String>>>);

impl Beside {
    /// Begins it; it ends by itself after `time`, or shortly after.
    pub(crate) fn begin(&self, time: Duration) -> GoesOn {
        match self.clone() {
            Self::Nothing => GoesOn(Vec::new()),
            Self::Flood { target, request, per_second } => {
                let share = (per_second / u32::from(SOURCES)).max(1);
                let one = |source: u8| {
                    let from = Ipv4Addr::new(127, 0, 1, source);
                    let (target, request) = (Target { from, ..target.clone() }, request.clone());
                    tokio::task::spawn_local(async move {
                        load::paced(&target, vec![Lane::Repeat(request)], None, time, share).await.map(drop)
                    })
                };
                GoesOn((1..=SOURCES).map(one).collect())
            }
            Self::Records { folder, per_second } => GoesOn(vec![tokio::task::spawn_local(async move {
                // What an earlier round has left would be in the way.
                if folder.exists() {
                    fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
                }
                fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
                let records = Records::start(folder, per_second);
                tokio::time::sleep(time).await;
                let ended = tokio::task::spawn_blocking(|| records.end().map(drop)).await;
                ended.map_err(|error| error.to_string())?
            })]),
            Self::Reloads { binary, config, every } => GoesOn(vec![tokio::task::spawn_local(async move {
                let begun = tokio::time::Instant::now();
                while begun.elapsed() < time {
                    let mut reload = Command::new(&binary);
                    reload.arg("reload").arg("--config").arg(&config).env("AUTHORIZER_KEY", AUTHORIZER_KEY);
                    reload.stdout(Stdio::null());
                    let status = tokio::task::spawn_blocking(move || reload.status()).await;
                    let status = status.map_err(|error| error.to_string())?;
                    let status = status.map_err(|error| format!("farthing reload: {error}"))?;
                    if !status.success() {
                        return Err(format!("farthing reload ended with {status}"));
                    }
                    tokio::time::sleep(every).await;
                }
                Ok(())
            })]),
        }
    }
}

impl GoesOn {
    /// Waits for its end.
    ///
    /// # Errors
    /// It did not go on as it should have: the round is void.
    pub(crate) async fn end(self) -> Result<(), String> {
        for task in self.0 {
            task.await.map_err(|error| error.to_string())??;
        }
        Ok(())
    }
}
