//! The operator's socket, spoken to directly: an answer, or none because the gateway is gone. The command
//! line would open the store itself then.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use crate::gateway::{Gateway, PATIENCE};

/// Where a gateway takes commands.
#[derive(Clone, Debug)]
pub struct Office(PathBuf);

impl Gateway {
    /// Its socket, also while no process listens there.
    pub fn office(&self) -> Office {
        Office(self.folder().join("store/admin.sock"))
    }
}

impl Office {
    /// Gives a command: `{"command": "credit", ...}`. `None` when there was no answer.
    ///
    /// # Panics
    /// When it was refused.
    pub fn ask(&self, command: &Value) -> Option<Value> {
        let mut stream = UnixStream::connect(&self.0).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("{command}\n").as_bytes()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        let answer: Value = serde_json::from_str(line.strip_suffix('\n')?).unwrap();
        assert!(answer["error"].is_null(), "{command}: {answer}");
        Some(answer["ok"].clone())
    }
}
