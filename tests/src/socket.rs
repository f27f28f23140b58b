//! A raw client connection: bytes as the test wrote them, read as they come.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::gateway::PATIENCE;
use crate::http::{self, Answer};

/// One connection and what has arrived on it.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// Everything received so far.
    pub got: Vec<u8>,
}

impl Socket {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Speaks on a connection that is there.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, got: Vec::new() }
    }

    /// Sends, as far as the other side takes it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Ends our side.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads once. False at the end of the connection.
    ///
    /// # Panics
    /// When nothing comes for as long as a test waits.
    pub fn read(&mut self) -> bool {
        let more = self.try_read();
        more.unwrap_or_else(|| panic!("nothing more came after {:?}", String::from_utf8_lossy(&self.got)))
    }

    /// Whether the other side ends the connection within the time that reads may take. What comes before
    /// is kept.
    pub fn closes(&mut self) -> bool {
        loop {
            match self.try_read() {
                Some(true) => {}
                Some(false) => return true,
                None => return false,
            }
        }
    }

    /// `None` when nothing came in time.
    fn try_read(&mut self) -> Option<bool> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Some(false),
            Ok(count) => {
                self.got.extend_from_slice(&buffer[..count]);
                Some(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(_) => Some(false),
        }
    }

    /// Reads until `text` has come, and says whether it did.
    pub fn read_until(&mut self, text: &str) -> bool {
        while !self.has(text) {
            if !self.read() {
                return self.has(text);
            }
        }
        true
    }

    /// Reads to the end of the connection.
    pub fn read_to_end(&mut self) {
        while self.read() {}
    }

    /// Reads one answer that has a length or chunks, and takes it off what was received.
    pub fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(end) = answer_end(&self.got) {
                let rest = self.got.split_off(end);
                let whole = std::mem::replace(&mut self.got, rest);
                return http::parse(&whole);
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// Whether `text` has come.
    pub fn has(&self, text: &str) -> bool {
        find(&self.got, text.as_bytes()).is_some()
    }

    /// The stream, for options of its own.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// First place of `needle`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len().max(1)).position(|window| window == needle)
}

/// Where the first answer ends, once all of it is there. Answers to HEAD are not for this.
fn answer_end(got: &[u8]) -> Option<usize> {
    let head = find(got, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&got[..head]).to_ascii_lowercase();
    if text.starts_with("http/1.1 100") {
        return answer_end(&got[head..]).map(|end| head + end);
    }
    if text.contains("transfer-encoding: chunked") {
        let mut at = head;
        loop {
            let line = find(&got[at..], b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(&got[at..at + line]).ok()?, 16).ok()?;
            at += line + 2;
            if size == 0 {
                let tail = &got[at..];
                return if tail.starts_with(b"\r\n") {
                    Some(at + 2)
                } else {
                    Some(at + find(tail, b"\r\n\r\n")? + 4)
                };
            }
            at += size + 2;
            if at > got.len() {
                return None;
            }
        }
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let end = head + length.unwrap_or(0);
    (got.len() >= end).then_some(end)
}
