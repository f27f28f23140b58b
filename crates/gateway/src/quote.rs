//! What a request may cost at most, before it runs.

mod fit;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use meter::{
    CallTerms, Ceiling, Charge, ChargeError, Counted, Dialect, EstimateBasis, Head, HoldPolicy, InputBound,
    Meter, Metered, RequestFacts,
};
use money::{Amount, Rate};
use serde_json::Value;
use tariff::{Found, Rates, Tariff, Terms};

use crate::asked::Asked;
use crate::bill;
use crate::clock::Now;
use crate::config::{HoldInput, Metering, Route, RoutePrice, UnitPrice};
use crate::exchange::Exchange;
use crate::gate::Gate;
use crate::payer::Funds;
use crate::price_list::{PriceList, moment};
use crate::refusal::{Code, Refusal};
use crate::selling;
use crate::sending::Sending;
use crate::snapshot::{Snapshot, Upstream};
use crate::tokens::Asked as Counting;
use crate::tunnel::Coverage;
use crate::unseen::Unseen;

pub(crate) use fit::Fitted;
use fit::OPEN_END_TOKENS;

/// What a model may generate beyond the limit that it was given: words that end a call, the rest of a thought.
const BEYOND_LIMIT_TOKENS: u64 = 256;

/// What the template of a chat adds to its texts.
const TEMPLATE_TOKENS: u64 = 16;

/// What a provider may put before a prompt: how tools are to be used, a template's own words.
const PROVIDER_PROMPT_BYTES: u64 = 1024;

/// A priced request. Amounts are nano-USD. What configuration and price list say is shared with them, not copied.
#[derive(Debug)]
pub(crate) struct Quote {
    pub(crate) route: Arc<Route>,
    /// Where the call goes.
    pub(crate) upstream: Arc<Upstream>,
    /// The most it may cost.
    pub(crate) ceiling: Amount,
    /// What an offer for it asks for at least: at everybody's prices and by its bytes, so that an offer that was made to
    /// nobody in particular can be taken by whoever has a key; more only where that would not do.
    pub(crate) offered: Amount,
    /// The most it may cost if each byte of its prompt is a token; none where that is more than can be counted.
    worst: Option<Amount>,
    /// Where the price of a model is from, of whichever version.
    prices: Arc<PriceList>,
    /// Whose price it is, where that is one group's own.
    group: Option<String>,
    /// What the model costs; none where the route has a price of its own, which is `dearest` then.
    price: Option<Arc<Tariff>>,
    /// The dearest it may come to while the call runs (MTR-50), for a prompt as long as `policy` thinks it may be.
    dearest: Rates,
    /// When the call began, which decides its price (MTR-49).
    started: Now,
    /// When its hold ends at the latest, in milliseconds since 1970.
    until_ms: i64,
    /// Raise over the price, in basis points.
    pub(crate) markup_bp: u32,
    facts: Option<RequestFacts>,
    body: Bytes,
    /// How the call travels ...
    pub(crate) exchange: Exchange,
    /// ... and, where its request is on its way while it runs, what is known of that.
    pub(crate) sending: Option<Sending>,
    policy: HoldPolicy,
    /// Output tokens of each step of a hold that grows with its stream; none where holds do not grow.
    step: Option<u64>,
    inject_usage: bool,
}

impl Quote {
    /// Prices a request: reads its body for the model and the output it may ask for, and chooses the upstream
    /// by that. `target` is path and query; `group` that of the account which pays, as far as it is known.
    pub(crate) fn of(
        snapshot: &Snapshot,
        route: &Arc<Route>,
        target: &str,
        headers: &HeaderMap,
        body: Bytes,
        group: Option<String>,
        now: Now,
    ) -> Result<Box<Self>, Refusal> {
        let metering = &snapshot.config.metering;
        let exchange = Exchange::of(route);
        // What a stream carries is not known yet: its price depends on the bounds alone.
        let body = if exchange.streams() { Bytes::new() } else { body };
        let asked = Asked::read(snapshot, route, target, headers, &body)?;
        let mut quote = Box::new(Self {
            route: Arc::clone(route),
            upstream: asked.upstream,
            ceiling: Amount::ZERO,
            offered: Amount::ZERO,
            worst: None,
            prices: Arc::clone(&snapshot.prices),
            group,
            price: None,
            dearest: Rates::default(),
            started: now,
            until_ms: 0,
            markup_bp: 0,
            facts: asked.facts,
            body,
            exchange,
            sending: exchange.streams().then(|| Sending::new(upload_max(exchange, route))),
            policy: policy(metering),
            step: metering.step.map(u64::from),
            inject_usage: metering.inject_stream_usage,
        });
        match route.price {
            RoutePrice::ByModel => quote.by_model(snapshot.config.server.timeouts.call)?,
            RoutePrice::Units(price) => quote.by_units(&price)?,
            RoutePrice::PerCall(fee) => {
                quote.dearest.per_call = Some(fee);
                quote.ceiling = fee;
            }
            RoutePrice::Free => {}
        }
        quote.offered = quote.offered.max(quote.ceiling);
        Ok(quote)
    }

    /// Holds for the whole call at once where the model's output cannot be followed.
    pub(crate) fn follow(&mut self, unseen: &Unseen) {
        self.step = self.step.filter(|_| !unseen.has(self.model()));
    }

    /// As the request names it; the route's name where there is none.
    pub(crate) fn model(&self) -> &str {
        let named = self.facts.as_ref().map(|facts| facts.model.as_str());
        named.filter(|model| !model.is_empty()).unwrap_or(&self.route.name)
    }

    /// How request and answer are worded, as far as that matters.
    pub(crate) fn dialect(&self) -> Dialect {
        self.facts.as_ref().map_or(Dialect::Raw, RequestFacts::dialect)
    }

    /// The version of the prices.
    pub(crate) fn tariff(&self) -> &str {
        self.prices.version()
    }

    /// The same, shortened for people, as a header says it.
    pub(crate) fn tariff_label(&self) -> HeaderValue {
        self.prices.label()
    }

    /// The route's own price for units, where it has one.
    fn units(&self) -> Option<&UnitPrice> {
        match &self.route.price {
            RoutePrice::Units(price) => Some(price),
            RoutePrice::ByModel | RoutePrice::PerCall(_) | RoutePrice::Free => None,
        }
    }

    /// What the request says, where its price is that of a model's tokens.
    fn metered(&self) -> Option<&RequestFacts> {
        self.facts.as_ref().filter(|_| self.units().is_none())
    }

    /// What the whole tariff is.
    fn price(&self) -> Cow<'_, Tariff> {
        match &self.price {
            Some(listed) => Cow::Borrowed(listed),
            None => Cow::Owned(self.dearest.into()),
        }
    }

    /// Sold by what is counted here: by its worst case under the price's own bounds.
    fn by_units(&mut self, price: &UnitPrice) -> Result<(), Refusal> {
        self.dearest = bill::rates(price);
        let Some(facts) = &self.facts else { return Ok(()) };
        let ceiling = meter::ceiling(&self.dearest, facts, self.body_bytes(), &self.policy);
        let whole = ceiling.and_then(|ceiling| bill::with_request(ceiling.cost, price, self.body_bytes()));
        let too_big = |_| Refusal::new(Code::BadBody, "The call would cost more than can be counted.");
        self.ceiling = whole.and_then(money::Femto::to_nano_up).map_err(too_big)?.max(price.min);
        Ok(())
    }

    /// Sold by the tokens of its model; a call takes `longest` at most.
    fn by_model(&mut self, longest: Duration) -> Result<(), Refusal> {
        let Some(facts) = &self.facts else { return Ok(()) };
        let unpriced = || Refusal::new(Code::ModelNotPriced, "This model has no price here.");
        let group = self.group.as_deref();
        let found = self.listed(facts, group).ok_or_else(unpriced)?;
        let price = Arc::clone(found.tariff);
        sellable(facts, &price)?;
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.terms().started_ms.saturating_add_unsigned(longest);
        let markup_bp = self.prices.markup(group);
        (self.until_ms, self.markup_bp) = (until_ms, markup_bp);
        self.dearest = self.dearest_by(&price, facts, &self.policy);
        if !bill::prices_units_of(&self.dearest, self.dialect()) {
            return Err(unpriced());
        }
        let too_big = || Refusal::new(Code::BadBody, "The call would cost more than can be counted.");
        self.ceiling = self.ceiling_by(&self.dearest, facts, &self.policy).ok_or_else(too_big)?;
        self.worst = self.worst_at(&price, facts, markup_bp);
        let offered = if group.is_none() { self.worst } else { self.everybodys_worst(facts) };
        self.offered = offered.unwrap_or(Amount::ZERO);
        self.price = Some(price);
        Ok(())
    }

    /// What the price list has for the model when the call begins.
    fn listed(&self, facts: &RequestFacts, group: Option<&str>) -> Option<Found<'_>> {
        self.prices.lookup(&facts.model, group, moment(self.started))
    }

    /// The dearest rates of the call: how long its prompt may be decides which can apply.
    fn dearest_by(&self, price: &Tariff, facts: &RequestFacts, policy: &HoldPolicy) -> Rates {
        let (bytes, terms) = (self.body_bytes(), self.terms());
        meter::dearest_rates(price, facts, bytes, policy, &terms, self.until_ms)
    }

    /// What the call costs at most if each byte of its prompt is a token. Nobody counts the tokens of who has paid
    /// nothing yet: what an offer by this does not use stays the payer's.
    fn worst_at(&self, price: &Tariff, facts: &RequestFacts, markup_bp: u32) -> Option<Amount> {
        let longest = HoldPolicy { input_bound: InputBound::Bytes, ..self.policy };
        let dearest = self.dearest_by(price, facts, &longest);
        let ceiling = meter::ceiling(&dearest, facts, self.body_bytes(), &longest).ok()?;
        ceiling.cost.marked_up(markup_bp).ok()?.to_nano_up().ok()
    }

    /// The same for who is in no group; none where it is not sold to everybody.
    fn everybodys_worst(&self, facts: &RequestFacts) -> Option<Amount> {
        let price = self.listed(facts, None)?.tariff;
        self.worst_at(price, facts, self.prices.markup(None))
    }

    fn ceiling_by(&self, dearest: &Rates, facts: &RequestFacts, policy: &HoldPolicy) -> Option<Amount> {
        let ceiling = meter::ceiling(dearest, facts, self.body_bytes(), policy).ok()?;
        ceiling.cost.marked_up(self.markup_bp).ok()?.to_nano_up().ok()
    }

    /// The most that a report of the answer is believed: what the request can have used, whatever it was held for.
    /// A byte is a token at most, the provider may put a prompt of its own before that of the request, and
    /// the output is limited, with a little beyond, or was seen. None where all that is charged is counted here.
    pub(crate) fn believed(&self, clamp: Option<u64>, generated_bytes: u64) -> Option<Amount> {
        let mut facts = self.metered()?.clone();
        let open_end = || {
            let cap = self.dearest.max_output_tokens.unwrap_or(0);
            OPEN_END_TOKENS.max(cap).saturating_add(generated_bytes)
        };
        let limit = clamp.or(facts.max_output).unwrap_or_else(open_end);
        // Qwen's limit is that of the answer, not of the thoughts before it.
        let thinks_beyond = matches!(self.dialect(), Dialect::QwenChat | Dialect::DashScope);
        let beyond = if thinks_beyond { OPEN_END_TOKENS } else { BEYOND_LIMIT_TOKENS };
        facts.max_output = Some(limit.saturating_add(beyond));
        let bytes = self.body_bytes().saturating_add(PROVIDER_PROMPT_BYTES);
        let policy = HoldPolicy { input_bound: InputBound::Bytes, ..self.policy };
        let dearest =
            meter::dearest_rates(&self.price(), &facts, bytes, &policy, &self.terms(), self.until_ms);
        let ceiling = meter::ceiling(&dearest, &facts, bytes, &policy).ok()?;
        ceiling.cost.marked_up(self.markup_bp).ok()?.to_nano_up().ok()
    }

    /// Holds for the tokens of the request instead of its bytes, where the operator wants that or so little is
    /// there that it matters (MTR-33). Not for who shows no money: that buys no work.
    pub(crate) async fn count_tokens(
        &mut self,
        gate: &Gate,
        metering: &Metering,
        funds: impl FnOnce() -> Option<Funds>,
    ) {
        if self.metered().is_none() || metering.hold_input == HoldInput::Bytes {
            return;
        }
        let Some(funds) = funds().filter(|funds| funds.spendable > Amount::ZERO) else { return };
        let is_short = |amount| self.worst.is_none_or(|worst| amount < worst);
        if metering.hold_input == HoldInput::BytesHalf
            && !is_short(funds.balance)
            && !is_short(funds.spendable)
        {
            return;
        }
        // A limit says how much may be held, and what is more than that is not taken: so a dense prompt must not be
        // held for as less than it is. That it may be held for as less than its bytes is for a short balance.
        let only_more = metering.hold_input == HoldInput::BytesHalf && !is_short(funds.balance);
        let input_bound = match gate.estimator.count_request(self.body()).await {
            Counting::Tokens(tokens) => {
                let factor_bp = metering.factor_bp(self.model());
                let counted = Counted { input: Some(tokens), output: None, factor_bp };
                InputBound::Tokens(counted.raised_input().unwrap_or(u64::MAX).saturating_add(TEMPLATE_TOKENS))
            }
            // What was not counted is not thought to be little; half the bytes of a sound or a file are a lot.
            Counting::Long => InputBound::Bytes,
            Counting::NotText => return,
        };
        self.hold_by(HoldPolicy { input_bound, ..self.policy }, only_more);
    }

    fn hold_by(&mut self, policy: HoldPolicy, only_more: bool) {
        let Some(facts) = self.metered() else { return };
        let dearest = self.dearest_by(&self.price(), facts, &policy);
        let ceiling = self.ceiling_by(&dearest, facts, &policy);
        if let Some(ceiling) = ceiling.filter(|ceiling| !only_more || *ceiling > self.ceiling) {
            (self.policy, self.dearest, self.ceiling) = (policy, dearest, ceiling);
            self.offered = self.offered.max(ceiling);
        }
    }

    /// The request as the client sent it.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    fn terms(&self) -> CallTerms<'_> {
        CallTerms {
            started_ms: i64::try_from(self.started.millis()).unwrap_or(i64::MAX),
            service_tier: self.facts.as_ref().and_then(|facts| facts.service_tier.as_deref()),
            region: None,
        }
    }

    /// Whether the price was read from the body, too.
    pub(crate) const fn is_by_body(&self) -> bool {
        self.facts.is_some()
    }

    /// Bytes of the request at most.
    fn body_bytes(&self) -> u64 {
        self.sending.as_ref().map_or(self.body.len() as u64, Sending::bytes_max)
    }

    /// Those that have gone up.
    fn sent_bytes(&self) -> u64 {
        self.sending.as_ref().map_or(self.body.len() as u64, Sending::bytes)
    }

    /// Where a connection is sold by time or bytes, what its hold grows by.
    pub(crate) fn coverage(&self, most: Option<Amount>) -> Option<Coverage> {
        let price = self.units().filter(|_| self.is_tunnel())?;
        Some(Coverage::first(*price, most))
    }

    /// The worst case in tokens, where the price is by the model.
    pub(crate) fn bound(&self) -> Option<Ceiling> {
        let facts = self.facts.as_ref()?;
        meter::ceiling(&self.dearest, facts, self.body_bytes(), &self.policy).ok()
    }

    /// What each unit is sold for.
    pub(crate) fn rates(&self) -> Vec<Value> {
        match (&self.facts, self.units()) {
            (_, Some(price)) => selling::unit_lines(price),
            (Some(_), None) => {
                let input_total = self.bound().map_or(0, |bound| bound.input_tokens);
                let terms = Terms { at_ms: self.terms().started_ms, input_total, ..Terms::default() };
                selling::rate_lines(&self.price().rates(&terms), self.markup_bp)
            }
            (None, None) => selling::fee_lines(self.ceiling),
        }
    }

    /// How many answers are generated, at least 1.
    pub(crate) fn choices(&self) -> u64 {
        self.facts.as_ref().map_or(1, |facts| facts.choices.max(1))
    }

    /// Whether the client asked for the usage chunk of its stream.
    pub(crate) fn asked_usage(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.asked_usage)
    }

    /// The body that goes up: the client's bytes with at most two splices.
    pub(crate) fn rewritten(&self, clamp: Option<u64>) -> Bytes {
        let Some(facts) = &self.facts else { return self.body.clone() };
        match facts.rewrite(&self.body, clamp, self.inject_usage) {
            Cow::Borrowed(_) => self.body.clone(),
            Cow::Owned(body) => Bytes::from(body),
        }
    }

    /// Whether we ask for a usage chunk that the client did not ask for, and so must not see.
    pub(crate) fn hides_usage(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.will_inject(self.inject_usage))
    }

    /// What the call costs, now that it is metered: femto summed, marked up, rounded up once.
    pub(crate) fn charge(
        &self,
        metered: &Metered,
        clamp: Option<u64>,
        counted: Counted,
    ) -> Result<Charge, ChargeError> {
        let mut basis = match &self.facts {
            Some(facts) => EstimateBasis::new(facts, self.body_bytes(), clamp.or(facts.max_output)),
            None => EstimateBasis {
                body_bytes: self.body_bytes(),
                messages: 0,
                media_parts: 0,
                media_bytes: 0,
                max_output: None,
                choices: 1,
                counted: Counted::NOTHING,
            },
        };
        basis.counted = counted;
        let mut charge = meter::charge(&self.price(), metered, &basis, &self.terms())?;
        if let Some(price) = self.units().filter(|_| !meter::is_free(metered)) {
            bill::complete(&mut charge, price, self.sent_bytes())?;
        }
        charge.femto = charge.femto.marked_up(self.markup_bp)?;
        charge.nano = charge.femto.to_nano_up()?;
        Ok(charge)
    }

    /// What a stream has used that the upstream has opened and then failed, where that costs anything (WS-6, GRPC-4): nothing,
    /// unless something went up since, or it was open for longer than the first step of its time. `sent_before` are the
    /// bytes that were up when it was opened.
    pub(crate) fn used_in_vain(&self, open: Duration, sent_before: u64) -> Option<Charge> {
        let price = self.units().filter(|_| self.exchange.streams())?;
        let (sent, first) = (self.sent_bytes(), price.seconds_max.map(Duration::from_secs));
        if sent <= sent_before && first.is_none_or(|first| open <= first) {
            return None;
        }
        let milliseconds = u64::try_from(open.as_millis()).unwrap_or(u64::MAX);
        bill::of_use(price, milliseconds, sent).ok()
    }

    /// The version of the prices as journal entries have it: its first four bytes.
    pub(crate) fn price_version(&self) -> u32 {
        self.tariff().get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0)
    }

    /// The name under which the price list has the model: its own, or that of the pattern; empty where it does not matter.
    pub(crate) fn priced_as(&self) -> &str {
        let facts = self.facts.as_ref().filter(|_| self.price.is_some());
        facts.and_then(|facts| self.listed(facts, self.group.as_deref())).map_or("", |found| found.name)
    }

    /// Whether what is counted here goes on for as long as the answer is read, or with it the request: who has left has
    /// no use for that.
    pub(crate) fn grows_by_reading(&self) -> bool {
        self.exchange.streams()
            || self.units().is_some_and(|price| price.byte_out.is_some() || price.second.is_some())
    }

    /// The longest the call may take, where that is what it is sold by.
    pub(crate) fn time_max(&self) -> Option<Duration> {
        let units = self.units().filter(|_| self.dialect() == Dialect::Raw && !self.is_tunnel())?;
        units.seconds_max.map(Duration::from_secs)
    }

    fn is_tunnel(&self) -> bool {
        self.exchange == Exchange::WebSocket
    }

    /// The most bytes its answer may have, where that is what it is sold by.
    pub(crate) fn bytes_max(&self) -> Option<u64> {
        self.units().filter(|_| !self.is_tunnel())?.bytes_max
    }

    /// A meter for its answer.
    pub(crate) fn meter(&self, head: Head<'_>) -> Meter {
        let meter = Meter::new(self.dialect(), head);
        match &self.facts {
            Some(facts) => meter.with_request(facts),
            None => meter,
        }
    }

    /// Whether nothing can be owed for it.
    pub(crate) fn is_free(&self) -> bool {
        self.ceiling == Amount::ZERO
            && self.dearest.input == Rate::FREE
            && self.dearest.output == Rate::FREE
            && self.dearest.per_call.unwrap_or_default() == Amount::ZERO
    }
}

/// What cannot be bounded or priced is not sold: nothing of it is ever estimated down.
fn sellable(facts: &RequestFacts, price: &Tariff) -> Result<(), Refusal> {
    let refused = |detail: &'static str| Err(Refusal::new(Code::BadBody, detail));
    if facts.fetched_documents {
        return refused(
            "Documents, sounds and films that the upstream would have to fetch are not sold here: send them in the body.",
        );
    }
    if facts.extras {
        return refused(
            "Tools that the provider runs, and terms with prices of their own, are not sold here.",
        );
    }
    if facts.background {
        return refused("Background responses are not sold here.");
    }
    if facts.stored_input {
        // Its size is not known here, and it might be another payer's.
        return refused(
            "Input that the upstream has stored (previous_response_id and the like) is not sold here.",
        );
    }
    if !price.sells_tier(facts.service_tier.as_deref()) {
        return refused("This service tier has no price here.");
    }
    Ok(())
}

/// The most that a stream may carry up: what the route takes; of a tunnel what its first hold is for.
fn upload_max(exchange: Exchange, route: &Route) -> u64 {
    match (exchange, route.price) {
        (Exchange::WebSocket, RoutePrice::Units(price)) => {
            price.bytes_max.filter(|_| price.byte_in.is_some()).unwrap_or(0)
        }
        (Exchange::WebSocket, RoutePrice::ByModel | RoutePrice::PerCall(_) | RoutePrice::Free) => 0,
        (Exchange::Document | Exchange::Grpc, _) => route.body_bytes as u64,
    }
}

fn policy(metering: &Metering) -> HoldPolicy {
    HoldPolicy {
        input_bound: match metering.hold_input {
            HoldInput::BytesHalf => InputBound::BytesHalf,
            HoldInput::Bytes => InputBound::Bytes,
            // Until it is counted.
            HoldInput::Tokenizer => InputBound::Bytes,
        },
        default_output: u64::from(metering.default_output),
        min_output: u64::from(metering.min_output),
    }
}
