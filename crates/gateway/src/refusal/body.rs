//! The body of a refusal: at once a problem (RFC 9457), an x402 v1 body and an error object of the SDK that called.
//!
//! Written without a tree of values: anybody may ask for one, and pays nothing (PERF-33).

use bytes::Bytes;
use meter::Sdk;
use serde_json::Value;
use wire::json_text::{self, Members};
use wire::mpp::problem;
use wire::x402::v1;

use super::code::google_status;
use super::{Fault, Refusal};
use crate::call_id::CallId;
use crate::mpp::problem_of;

/// What most refusals take besides their offers, in bytes.
const USUAL_BYTES: usize = 1024;

impl Refusal {
    pub(super) fn body(&self, sdk: Sdk, call: CallId) -> Bytes {
        let inner = &self.0;
        let (code, status) = (inner.code, inner.code.status().as_u16());
        let (money, _) = inner.money.facts();
        let request_id = call.to_string();
        let offers = inner.accepts.iter().flat_map(|accepts| accepts.iter()).map(String::len).sum::<usize>();
        let text = json_text::object_of(USUAL_BYTES + offers, |members| {
            match inner.problem.or(problem_of(code)) {
                Some(problem) => members.parts("type", &[problem::BASE, problem.name()]),
                None => members.parts("type", &["urn:farthing:problem:", code.name()]),
            }
            members.text("title", code.title());
            members.number("status", status.into());
            members.text("detail", &inner.detail);
            members.parts("instance", &["/requests/", &request_id]);
            members.text("code", code.name());
            members.text("fault", fault_name(code.fault()));
            members.text("money", money);
            members.text("request_id", &request_id);
            self.put_error(members, sdk);
            if let Some(accepts) = &inner.accepts {
                members.number("x402Version", v1::VERSION.into());
                members.array("accepts", accepts.iter().map(String::as_str));
            }
            members.some_text("top_up_url", inner.top_up_url.as_deref());
            if let Some((amount, asset)) = inner.facts.balance {
                members.object("balance", |balance| {
                    balance.text("amount", &amount.decimal(asset));
                    balance.text("currency", asset.name());
                });
            }
            // What clients of the `Payment` scheme look for.
            for (name, value) in &inner.extensions {
                members.json(name, &value.to_string());
            }
        });
        Bytes::from(text)
    }

    /// The error object of the SDK that called.
    fn put_error(&self, members: &mut Members<'_>, sdk: Sdk) {
        let (code, money_text) = (self.0.code, self.0.money.facts().1);
        let message = [self.0.detail.as_str(), " ", money_text];
        match sdk {
            Sdk::OpenAi => members.object("error", |error| {
                error.text("type", code.openai_type());
                error.text("code", code.name());
                error.null("param");
                error.parts("message", &message);
                self.put_facts(error);
                self.put_money(error);
            }),
            Sdk::Anthropic => members.object("error", |error| {
                error.text("type", code.anthropic_type());
                error.parts("message", &message);
                error.object("details", |details| self.put_details(details));
            }),
            Sdk::Gemini => members.object("error", |error| {
                error.number("code", code.status().as_u16().into());
                error.parts("message", &message);
                error.text("status", google_status(code.status()));
                let details = json_text::object(|details| self.put_details(details));
                error.array("details", [details.as_str()]);
            }),
            // It prints nothing but a text.
            Sdk::Ollama => members.parts("error", &message),
        }
    }

    fn put_details(&self, details: &mut Members<'_>) {
        details.text("error_code", self.0.code.name());
        self.put_facts(details);
        self.put_money(details);
    }

    fn put_money(&self, members: &mut Members<'_>) {
        members.text("money", self.0.money.facts().0);
    }

    fn put_facts(&self, members: &mut Members<'_>) {
        let facts = &self.0.facts;
        if let Some((amount, asset)) = facts.need {
            members.text("need", &amount.decimal(asset));
            members.text("currency", asset.name());
        }
        if let Some((amount, asset)) = facts.balance {
            members.text("balance", &amount.decimal(asset));
        }
        members.some_text("limit_source", facts.limit_source);
        if let Some(tokens) = facts.affordable_max_tokens {
            members.number("affordable_max_tokens", tokens);
        }
        members.some_text("reason", facts.reason.as_deref());
        members.some_text("top_up_url", self.0.top_up_url.as_deref());
    }

    /// What it would say, for an answer that is no refusal itself.
    pub(crate) fn summary(&self) -> Value {
        let text = json_text::object(|members| {
            members.text("code", self.0.code.name());
            members.number("status", self.0.code.status().as_u16().into());
            members.text("detail", &self.0.detail);
            self.put_facts(members);
        });
        serde_json::from_str(&text).unwrap_or_default()
    }
}

const fn fault_name(fault: Fault) -> &'static str {
    match fault {
        Fault::Payer => "payer",
        Fault::Caller => "caller",
        Fault::Operator => "operator",
        Fault::Gateway => "gateway",
    }
}
