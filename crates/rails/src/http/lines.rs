//! An answer that is read line by line, while its service goes on writing.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;

use ::http::Response;
use bytes::{Buf as _, Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use super::ExchangeError;
use super::link::Connection;

/// The lines of one answer. Dropped, its connection closes.
pub(crate) struct Lines {
    status: u16,
    body: Incoming,
    /// Moves the bytes; none once it has moved them all.
    connection: Option<Connection>,
    deadline: Instant,
    /// How many bytes may still come.
    bytes_left: usize,
    buffer: BytesMut,
}

impl Lines {
    pub(super) fn new(
        response: Response<Incoming>,
        connection: Option<Connection>,
        deadline: Instant,
        bytes_left: usize,
    ) -> Self {
        let status = response.status().as_u16();
        Self { status, body: response.into_body(), connection, deadline, bytes_left, buffer: BytesMut::new() }
    }

    /// HTTP status.
    pub(crate) const fn status(&self) -> u16 {
        self.status
    }

    /// The next line that is not blank, without its end. None at the end of the answer; what stands there
    /// without a line's end is a line too.
    ///
    /// # Errors
    /// The connection broke, the answer is too long, or the time is over.
    ///
    /// # Cancel safety
    /// Nothing is lost: the next call goes on.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            let Some(bytes) = self.more().await? else {
                let last = self.buffer.split().freeze();
                return Ok((!last.trim_ascii().is_empty()).then_some(last));
            };
            self.bytes_left = self.bytes_left.checked_sub(bytes.len()).ok_or(ExchangeError::Lost)?;
            self.buffer.extend_from_slice(&bytes);
        }
    }

    async fn more(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        let Self { body, connection, deadline, .. } = self;
        let frame = poll_fn(|cx| {
            if connection.as_mut().is_some_and(|moving| Pin::new(moving).poll(cx).is_ready()) {
                *connection = None;
            }
            Pin::new(&mut *body).poll_frame(cx)
        });
        match tokio::time::timeout_at(*deadline, frame).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
            Ok(Some(Err(_))) | Err(_) => Err(ExchangeError::Lost),
        }
    }
}
