//! One line of the log for each call, when it has ended (UX-25).
//!
//! A span that learns a call's payer, price and sum one after the other is parsed and written anew each time, which costs
//! more than the proxy around it. So what is to be said of a call is noted beside it, and its line is written once, by hand,
//! into a buffer of the thread: many lines leave in one write.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io::Write as _;
use std::mem;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use ledger::AccountId;
use meter::Metered;
use money::Amount;
use tokio::sync::Notify;
use wire::rfc3339;

use crate::call_id::CallId;
use crate::clock::Now;
use crate::config::Route;
use crate::facts;
use crate::identity::Agent;
use crate::payer::Payer;
use crate::refusal::Code;

/// Lines that are written together at most, in bytes ...
const LINES_BYTES: usize = 16 * 1024;
/// ... and how long the first of them waits for others.
const GATHERED_FOR: Duration = Duration::from_millis(50);

/// A thread's lines on their way out. They go to stderr, as everything does that is logged; `RUST_LOG=gateway::call=warn` leaves
/// them out.
pub(crate) struct CallLog {
    is_pretty: bool,
    lines: RefCell<Vec<u8>>,
    /// The second that was written last, and its text.
    second: RefCell<(u64, String)>,
    waits: Rc<Notify>,
}

impl CallLog {
    /// Starts the task that writes what has been gathered. Called on the thread whose lines it takes.
    pub(crate) fn start(is_pretty: bool) -> Rc<Self> {
        let log = Rc::new(Self {
            is_pretty,
            lines: RefCell::default(),
            second: RefCell::default(),
            waits: Rc::default(),
        });
        tokio::task::spawn_local(write_behind(Rc::downgrade(&log), Rc::clone(&log.waits)));
        log
    }

    fn add(
        &self,
        message: &str,
        of_call: impl FnOnce(&mut Fields<'_>),
        of_end: impl FnOnce(&mut Fields<'_>),
    ) {
        if !tracing::enabled!(target: "gateway::call", tracing::Level::INFO) {
            return;
        }
        if self.is_pretty {
            let mut line = Vec::new();
            of_call(&mut Fields::new(&mut line, true));
            of_end(&mut Fields::new(&mut line, true));
            tracing::info!(target: "gateway::call", "{message}{}", String::from_utf8_lossy(&line));
            return;
        }
        let mut lines = self.lines.borrow_mut();
        let is_first = lines.is_empty();
        self.begin(&mut lines);
        let mut fields = Fields::new(&mut lines, false);
        fields.text("message", message);
        of_end(&mut fields);
        lines.extend_from_slice(br#"},"target":"gateway::call","span":{"#);
        of_call(&mut Fields::new(&mut lines, false));
        lines.extend_from_slice(b",\"name\":\"call\"}}\n");
        let is_full = lines.len() >= LINES_BYTES;
        drop(lines);
        if is_full {
            self.write();
        } else if is_first {
            self.waits.notify_one();
        }
    }

    fn begin(&self, line: &mut Vec<u8>) {
        let now = Now::read();
        let mut second = self.second.borrow_mut();
        if second.0 != now.seconds() || second.1.is_empty() {
            let text = rfc3339::format(now.seconds()).unwrap_or_default();
            // Its milliseconds are those of this line.
            *second = (now.seconds(), text.get(..19).unwrap_or_default().to_owned());
        }
        let begins = format_args!(
            "{{\"timestamp\":\"{}.{:03}Z\",\"level\":\"INFO\",\"fields\":{{",
            second.1,
            now.millis() % 1000
        );
        // Writing to memory does not fail.
        let _ = line.write_fmt(begins);
    }

    fn write(&self) {
        let mut lines = mem::take(&mut *self.lines.borrow_mut());
        // Nobody could be told that the log cannot be written.
        let _ = std::io::stderr().lock().write_all(&lines);
        lines.clear();
        *self.lines.borrow_mut() = lines;
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        self.write();
    }
}

async fn write_behind(log: Weak<CallLog>, waits: Rc<Notify>) {
    loop {
        waits.notified().await;
        tokio::time::sleep(GATHERED_FOR).await;
        let Some(log) = log.upgrade() else { return };
        log.write();
    }
}

/// What is known of a call, for its line.
pub(crate) struct Noted {
    log: Rc<CallLog>,
    call: CallId,
    route: OnceCell<Arc<Route>>,
    protocol: Cell<Option<&'static str>>,
    payer: Cell<Option<AccountId>>,
    quote: Cell<Option<Amount>>,
    identity: Cell<Option<&'static str>>,
    agent: OnceCell<Rc<Agent>>,
}

/// How a call ended.
pub(crate) struct Ended<'c> {
    pub(crate) status: StatusCode,
    pub(crate) asset: &'static str,
    pub(crate) captured: Amount,
    pub(crate) estimated: bool,
    pub(crate) metered: &'c Metered,
    pub(crate) started: Now,
}

impl Noted {
    pub(crate) fn new(log: Rc<CallLog>, call: CallId) -> Self {
        Self {
            log,
            call,
            route: OnceCell::new(),
            protocol: Cell::default(),
            payer: Cell::default(),
            quote: Cell::default(),
            identity: Cell::default(),
            agent: OnceCell::new(),
        }
    }

    pub(crate) fn route(&self, route: &Arc<Route>) {
        let _ = self.route.set(Arc::clone(route));
    }

    pub(crate) fn protocol(&self, protocol: &'static str) {
        self.protocol.set(Some(protocol));
    }

    pub(crate) fn payer(&self, payer: &Payer) {
        self.protocol.set(Some(payer.protocol));
        self.payer.set(Some(payer.account.id()));
    }

    pub(crate) fn quote(&self, ceiling: Amount) {
        self.quote.set(Some(ceiling));
    }

    /// Whether it was signed, and who signed it where that counts (IDN-37).
    pub(crate) fn identity(&self, state: &'static str, agent: Option<&Rc<Agent>>) {
        self.identity.set(Some(state));
        if let Some(agent) = agent {
            let _ = self.agent.set(Rc::clone(agent));
        }
    }

    /// Writes the line of a call that was served, whatever came of it.
    pub(crate) fn ended(&self, ended: &Ended<'_>) {
        self.log.add(
            "call",
            |line| {
                self.tell(line);
                line.text("captured", &ended.captured.units().to_string());
            },
            |line| {
                line.number("status", ended.status.as_u16());
                line.text("asset", ended.asset);
                line.number("estimated", ended.estimated);
                line.text("basis", facts::basis_name(ended.metered.basis));
                line.text("terminal", facts::terminal_name(ended.metered.terminal));
                line.number("took_ms", Now::read().millis().saturating_sub(ended.started.millis()));
            },
        );
    }

    /// Writes the line of a request that was refused. Whoever has not paid yet is nobody's trouble: a line for each would
    /// cost as much as the challenge (PERF-33).
    pub(crate) fn refused(&self, code: Code) {
        if code == Code::PaymentRequired {
            tracing::debug!(call = %self.call, code = code.name(), "refused");
            return;
        }
        self.log.add(
            "refused",
            |line| self.tell(line),
            |line| {
                line.text("code", code.name());
                line.number("status", code.status().as_u16());
            },
        );
    }

    fn tell(&self, line: &mut Fields<'_>) {
        line.text("id", &self.call.to_string());
        if let Some(route) = self.route.get() {
            line.text("route", &route.name);
        }
        if let Some(protocol) = self.protocol.get() {
            line.text("protocol", protocol);
        }
        if let Some(payer) = self.payer.get() {
            line.text("payer", &wire::hex::encode(&payer.0));
        }
        if let Some(quote) = self.quote.get() {
            line.number("quote", quote.units());
        }
        if let Some(identity) = self.identity.get() {
            line.text("identity", identity);
        }
        if let Some(agent) = self.agent.get() {
            line.text("agent", &agent.to_string());
        }
    }
}

/// Names and values, for programs or for a person.
struct Fields<'l> {
    out: &'l mut Vec<u8>,
    is_pretty: bool,
    is_first: bool,
}

impl<'l> Fields<'l> {
    fn new(out: &'l mut Vec<u8>, is_pretty: bool) -> Self {
        Self { out, is_pretty, is_first: true }
    }

    /// `name` is a word of ours, of which JSON escapes nothing.
    fn name(&mut self, name: &str) {
        let (before, behind): (&[u8], &[u8]) = match (self.is_pretty, self.is_first) {
            (true, _) => (b" ", b"="),
            (false, true) => (b"\"", b"\":"),
            (false, false) => (b",\"", b"\":"),
        };
        self.is_first = false;
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(behind);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        if self.is_pretty {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            // Writing to memory does not fail, and neither does text as JSON.
            let _ = serde_json::to_writer(&mut *self.out, value);
        }
    }

    /// Of numbers, and of what else JSON writes without quotes.
    fn number(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        let _ = write!(self.out, "{value}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use serde_json::{Value, json};

    use super::{CallLog, Fields};
    use crate::refusal::Code;

    fn line(is_pretty: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut fields = Fields::new(&mut out, is_pretty);
        fields.text("route", "/a \"b\"\n");
        fields.number("quote", -5);
        fields.number("estimated", true);
        out
    }

    #[test]
    fn what_a_configuration_names_stays_in_its_line() {
        let object: Value = serde_json::from_slice(&[b"{".as_slice(), &line(false), b"}"].concat()).unwrap();
        assert_eq!(object, json!({"route": "/a \"b\"\n", "quote": -5, "estimated": true}));
        assert_eq!(line(true), b" route=/a \"b\"\n quote=-5 estimated=true");
    }

    #[test]
    fn a_line_begins_with_its_time() {
        let log = CallLog {
            is_pretty: false,
            lines: RefCell::default(),
            second: RefCell::default(),
            waits: Rc::default(),
        };
        let mut line = Vec::new();
        log.begin(&mut line);
        line.extend_from_slice(format!("\"code\":\"{}\"}}}}", Code::RouteNotFound.name()).as_bytes());
        let line: Value = serde_json::from_slice(&line).unwrap();
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.len() == 24 && wire::rfc3339::parse(time).is_some(), "{time}");
        assert_eq!((&line["level"], &line["fields"]["code"]), (&json!("INFO"), &json!("route_not_found")));
    }
}
