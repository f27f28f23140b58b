//! The HTTP interface of a node: one key, bounded questions, and reasons that can be printed (L402-71).

use std::fmt;
use std::time::Duration;

use ::http::Method;
use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::port::NodeError;
use crate::dial::{Dialer, Origin};
use crate::http::Lines;
use crate::{Exchange, ExchangeError, Secret};
use wire::form;

/// Largest answer of a node that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Longest reason of a node's that is passed on.
const REASON_BYTES_MAX: usize = 160;

/// Where a node listens, and how long it may take.
#[derive(Clone)]
pub(super) struct Rest {
    pub origin: Origin,
    /// Before every path.
    pub base: String,
    pub dialer: Dialer,
    /// For one question.
    pub time_max: Duration,
    /// How long a question for settlements waits for one.
    pub wait: Duration,
    /// What every request carries.
    pub key: Key,
}

/// The header that opens the door.
#[derive(Clone)]
pub(super) struct Key {
    pub name: HeaderName,
    pub value: Secret,
}

/// A whole answer.
pub(super) struct Reply {
    pub status: u16,
    pub body: Bytes,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rest({}{}, key hidden)", self.origin.authority(), self.base)
    }
}

impl Rest {
    pub(super) async fn get(&self, path: &str) -> Result<Reply, NodeError> {
        self.ask(Method::GET, path, Bytes::new(), false, self.time_max).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Reply, NodeError> {
        self.post_within(path, body, self.time_max).await
    }

    /// For what takes its time: a payment, or waiting.
    pub(super) async fn post_within(
        &self,
        path: &str,
        body: &Value,
        time_max: Duration,
    ) -> Result<Reply, NodeError> {
        self.ask(Method::POST, path, Bytes::from(body.to_string()), false, time_max).await
    }

    /// A form, as browsers send them.
    pub(super) async fn form(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        time_max: Duration,
    ) -> Result<Reply, NodeError> {
        self.ask(Method::POST, path, Bytes::from(form::encode(fields)), true, time_max).await
    }

    /// An answer that is read as it comes.
    pub(super) async fn lines(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        time_max: Duration,
    ) -> Result<Lines, NodeError> {
        let path = format!("{}{path}", self.base);
        let exchange = self.exchange(method, &path, body, time_max);
        exchange.lines(self.headers(false)?, &self.dialer).await.map_err(NodeError::from)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        is_form: bool,
        time_max: Duration,
    ) -> Result<Reply, NodeError> {
        let path = format!("{}{path}", self.base);
        let exchange = self.exchange(method, &path, body, time_max);
        let answer = exchange.run_with(self.headers(is_form)?, &self.dialer).await?;
        Ok(Reply { status: answer.status, body: answer.body })
    }

    const fn exchange<'a>(
        &'a self,
        method: Method,
        path: &'a str,
        body: Bytes,
        time_max: Duration,
    ) -> Exchange<'a> {
        Exchange { origin: &self.origin, method, path, body, time_max, answer_bytes_max: ANSWER_BYTES_MAX }
    }

    fn headers(&self, is_form: bool) -> Result<HeaderMap, NodeError> {
        let mut headers = HeaderMap::new();
        let mut value =
            HeaderValue::from_str(self.key.value.expose().trim()).map_err(|_| NodeError::NotAsked)?;
        value.set_sensitive(true);
        headers.insert(self.key.name.clone(), value);
        if is_form {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        Ok(headers)
    }
}

impl Reply {
    /// What it says, if it is the answer that was hoped for. Fields that nobody asks for never reach a value
    /// (L402-70).
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, NodeError> {
        match self.status {
            200 | 201 => serde_json::from_slice(&self.body).map_err(|_| NodeError::Lost),
            // What stands between us and the node, or a node that is not up.
            502..=504 => Err(NodeError::Lost),
            _ => Err(NodeError::Refused(self.reason())),
        }
    }

    /// Why not, in the node's words.
    pub(super) fn reason(&self) -> String {
        let said = match serde_json::from_slice::<Complaint>(&self.body) {
            Ok(complaint) => complaint.text(),
            // phoenixd complains in plain words.
            Err(_) => str::from_utf8(&self.body).ok().filter(|text| is_words(text)).map(str::to_owned),
        };
        said.map_or_else(|| format!("status {}", self.status), |said| printable(&said))
    }

    /// The node's own number of an error, where it has one.
    pub(super) fn code(&self) -> Option<i64> {
        serde_json::from_slice::<Complaint>(&self.body).ok()?.code
    }
}

/// What the nodes write when something is wrong.
#[derive(Deserialize)]
struct Complaint {
    code: Option<i64>,
    message: Option<Value>,
    error: Option<Value>,
    detail: Option<Value>,
}

impl Complaint {
    fn text(self) -> Option<String> {
        let said = [self.message, self.detail, self.error];
        said.into_iter().flatten().find_map(|value| value.as_str().map(str::to_owned))
    }
}

fn is_words(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// Somebody else's words, fit for a log and for a refusal.
pub(super) fn printable(text: &str) -> String {
    let fit = |char: char| if char.is_ascii_graphic() || char == ' ' { char } else { '?' };
    text.chars().take(REASON_BYTES_MAX).map(fit).collect()
}

impl From<ExchangeError> for NodeError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::NotSent => Self::NotAsked,
            ExchangeError::Lost => Self::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Reply, printable};

    #[test]
    fn reasons_are_printable_and_short() {
        for (body, expected) in [
            (r#"{"code":2,"message":"permission denied","details":[]}"#, "permission denied"),
            (r#"{"detail":"Wallet not found"}"#, "Wallet not found"),
            (r#"{"error":"nope\u001b[31m\n"}"#, "nope?[31m?"),
            (r#"{"error":{"message":"deep"}}"#, "status 500"),
            ("<html>", "status 500"),
            ("", "status 500"),
        ] {
            let reply = Reply { status: 500, body: Bytes::from_static(body.as_bytes()) };
            assert_eq!(reply.reason(), expected, "{body}");
        }
        assert_eq!(printable(&"x".repeat(1000)).len(), 160);
    }
}
