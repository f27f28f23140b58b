//! What a request would cost, and how it can be paid for, before anybody pays: nothing is held, nothing claimed.

use http::uri::Uri;
use http::{HeaderName, Method, Response};
use hyper::body::Incoming;
use money::Asset;
use serde_json::{Value, json};

use super::document;
use crate::admission;
use crate::body::{self, GateBody};
use crate::call::{Arrived, Worker};
use crate::challenge::{Ask, Offered, top_up_url};
use crate::facts;
use crate::identity::Content;
use crate::payer::{HoldTerms, Payer};
use crate::quote::Quote;
use crate::refusal::{Code, Refusal};
use crate::wall;

/// The request that is asked about.
struct AskedAbout {
    method: Method,
    path: String,
    /// Path and query.
    target: String,
}

/// Prices the body as a request to `?path=` (and `?method=`, POST by default) would be priced.
pub(super) async fn quote(
    worker: &Worker,
    arrived: &Arrived,
    body: Incoming,
) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let _slot = admission::slot(gate, snapshot)?;
    let presented = admission::credentials(worker, arrived)?;
    if presented.payment.is_some() || presented.malformed || presented.token || presented.ecash.is_some() {
        return Err(bad("A quote takes no payment: send it with the call itself."));
    }
    let about = AskedAbout::read(arrived)?;
    let route = snapshot.route(&about.method, &about.path)?;
    let take = body::Take::of(snapshot, route, &about.path);
    let body = body::read(body, &arrived.head.headers, take).await?;
    let payer = admission::key_payer(worker, arrived, &presented, Content::Here(&body))?;
    if let Some(payer) = &payer {
        snapshot.limiters.account(payer.account.id()).admit_read()?;
    }
    let group = payer.as_ref().and_then(|payer| gate.group(payer.account.id()));
    let headers = &arrived.head.headers;
    let mut quote = Quote::of(snapshot, route, &about.target, headers, body, group, arrived.now)?;
    quote.follow(&gate.unseen);
    // As the call itself would be, or the two would tell different holds.
    let funds = || payer.as_ref().map(|payer| payer.funds(gate, snapshot, arrived.now.seconds()));
    quote.count_tokens(gate, &snapshot.config.metering, funds).await;
    if let Some(payer) = &payer {
        payer.permits(arrived, route, &quote)?;
    }
    let usual = snapshot.tills.first().map_or(Asset::Usd, |till| till.asset);
    let asset = payer.as_ref().map_or(usual, |payer| payer.account.asset());
    let bound = quote.bound();
    let mut answer = json!({
        "method": about.method.as_str(), "path": about.target, "route": route.name, "model": quote.model(),
        "dialect": quote.dialect().name(), "ceiling": facts::amount(quote.ceiling, asset),
        "input_tokens_max": bound.map(|bound| bound.input_tokens),
        "output_tokens_max": bound.map(|bound| bound.output_tokens),
        "choices": bound.map(|_| quote.choices()),
        "price_version": quote.tariff(), "rates": quote.rates(),
        "account": payer.as_ref().map(|payer| fits(worker, arrived, payer, &quote)),
    });
    if quote.is_free() {
        return Ok(document(&answer, "no-store"));
    }
    let body = quote.body();
    let ask = Ask::of(snapshot, &quote, &about.method, &about.target, &body).with_head(headers);
    let offered = Offered::new(gate, snapshot, &ask, Code::PaymentRequired.name(), arrived.now);
    answer["x402Version"] = 1.into();
    (answer["accepts"], answer["payment_required"]) = offered.values();
    answer["top_up_url"] = top_up_url(snapshot).into();
    let mut response = document(&answer, "no-store");
    response.headers_mut().insert(HeaderName::from_static("payment-required"), offered.header);
    Ok(response)
}

/// What would be held on the account of a key, or why it would be refused.
fn fits(worker: &Worker, arrived: &Arrived, payer: &Payer, quote: &Quote) -> Value {
    let (gate, config) = (&worker.gate, &arrived.snapshot.config);
    let terms = HoldTerms {
        credit: None,
        limits: gate.spend_limits(payer.account.id(), &config.limits),
        may_clamp: config.metering.fit_to_balance,
        now_s: arrived.now.seconds(),
    };
    let asset = payer.account.asset();
    let balance = gate.book.balance(&payer.account);
    let mut account = json!({
        "account": payer.account.id().to_string(), "balance": facts::amount(balance.available, asset),
        "held": facts::amount(balance.held, asset), "fits": true,
    });
    if quote.is_free() {
        return account;
    }
    match payer.would_hold(gate, quote, terms) {
        Ok(fitted) => {
            account["hold"] = facts::amount(fitted.hold, asset);
            account["max_tokens"] = fitted.clamp.into();
        }
        Err(refusal) => {
            account["fits"] = false.into();
            account["refused"] = refusal.summary();
        }
    }
    account
}

impl AskedAbout {
    fn read(arrived: &Arrived) -> Result<Self, Refusal> {
        let query = arrived.target.split_once('?').map_or("", |(_, query)| query);
        let (mut method, mut target) = (Method::POST, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = wall::decoded(value).and_then(|bytes| String::from_utf8(bytes).ok());
            let value = value.ok_or_else(|| bad("The query has a percent triplet that is none."))?;
            match name {
                "path" if target.is_none() => target = Some(value),
                "method" => {
                    method = value.parse().map_err(|_| bad("The method is no method."))?;
                }
                _ => return Err(bad("A quote takes one path and a method, and nothing else.")),
            }
        }
        let missing =
            || bad("Name the path that the request is for: /farthing/quote?path=/v1/chat/completions");
        let text = target.ok_or_else(missing)?;
        let unfit = || bad("The path is the one that a request to this gateway would have.");
        let uri: Uri = text.parse().map_err(|_| unfit())?;
        if uri.authority().is_some() {
            return Err(unfit());
        }
        let checked = wall::target(&uri, arrived.snapshot.bounds())?;
        Ok(Self { method, path: checked.path.to_owned(), target: checked.to_text() })
    }
}

fn bad(detail: &'static str) -> Refusal {
    Refusal::new(Code::BadRequest, detail)
}
