//! What an upstream has answered, before its body: what of its head goes on, and what is told of the call beside that.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, response};
use hyper::upgrade::OnUpgrade;
use meter::{Head, Meter};
use money::{Amount, Asset};
use wire::l402::grpc::GRPC_STATUS;

use crate::call_id::CallId;
use crate::clock::Now;
use crate::config::RoutePrice;
use crate::exchange::Exchange;
use crate::gate::Gate;
use crate::identity;
use crate::mpp::{Paid, Told};
use crate::payer::Payer;
use crate::payments::Brought;
use crate::quote::Quote;
use crate::refusal::{Code, Refusal};
use crate::sending::Sending;
use crate::tape::Tape;
use crate::upstream::grpc::GrpcEnd;
use crate::upstream::{AnswerHead, FIELDS, FREE_FIELDS, UpstreamBody, is_out_of_credit};

const REQUEST_ID: HeaderName = HeaderName::from_static("farthing-request-id");
const PRICE: HeaderName = HeaderName::from_static("farthing-price");
const CLAMPED: HeaderName = HeaderName::from_static("farthing-clamped");
const FREE_CALLS_LEFT: HeaderName = HeaderName::from_static("farthing-free-calls-left");
const HOLD: HeaderName = HeaderName::from_static("farthing-hold");
const BALANCE: HeaderName = HeaderName::from_static("farthing-balance");
const RECEIPT: HeaderName = HeaderName::from_static("farthing-receipt");

/// An answer that may go on.
pub(crate) struct Answered {
    /// Its head as it came.
    parts: response::Parts,
    pub(crate) body: UpstreamBody,
    /// What it counts as.
    pub(crate) status: StatusCode,
    /// What goes down.
    pub(crate) headers: HeaderMap,
}

/// A call, as far as the head of its answer tells of it.
pub(crate) struct About<'c> {
    pub(crate) call: CallId,
    pub(crate) quote: &'c Quote,
    /// Output limit that was written into the request.
    pub(crate) clamp: Option<u64>,
    /// Calls that are left of those that the route gives away.
    pub(crate) given: Option<u32>,
    /// Who pays, and what is held of his.
    pub(crate) held: Option<(&'c Payer, Amount)>,
    pub(crate) brought: Option<&'c Brought>,
    pub(crate) told: Option<&'c Told>,
    /// Whether it is a crawler's.
    pub(crate) is_crawl: bool,
}

/// Whether an error says, within `patience`, that the operator's credit there is used up.
pub(crate) async fn says_out_of_credit(response: &mut Response<UpstreamBody>, patience: Duration) -> bool {
    let status = response.status();
    let looking = is_out_of_credit(status, response.body_mut());
    tokio::time::timeout(patience, looking).await.unwrap_or(false)
}

impl Answered {
    /// Looks at the head of an answer; `is_out` says that it is about the operator's credit at the upstream.
    ///
    /// # Errors
    /// It is about the operator's own account with the upstream: nothing of it may go on.
    pub(crate) fn look(
        gate: &Gate,
        call: CallId,
        quote: &Quote,
        response: Response<UpstreamBody>,
        is_out: bool,
    ) -> Result<Self, Refusal> {
        let upstream = &quote.upstream;
        let refused = || Refusal::new(Code::UpstreamFailed, "The upstream refused this gateway.");
        let (parts, body) = response.into_parts();
        if is_out {
            gate.metrics.out_of_credit(&upstream.name);
            tracing::error!(%call, upstream = %upstream.name, "ALARM: the upstream says that this gateway's credit there is used up");
            return Err(refused());
        }
        let fields = if quote.is_free() { FREE_FIELDS } else { FIELDS };
        let AnswerHead::Relay(headers) = quote.exchange.answer_head(&parts, upstream, fields) else {
            let status = parts.status.as_u16();
            tracing::warn!(%call, status, upstream = %upstream.name, "answer of the upstream withheld");
            return Err(refused());
        };
        let status = quote.exchange.counted_as(parts.status);
        Ok(Self { parts, body, status, headers })
    }

    /// A meter for its body.
    pub(crate) fn meter(&self, quote: &Quote) -> Meter {
        let text = |name: HeaderName| self.parts.headers.get(name).and_then(|value| value.to_str().ok());
        quote.meter(Head {
            status: self.status.as_u16(),
            content_type: text(header::CONTENT_TYPE),
            content_encoding: text(header::CONTENT_ENCODING),
            hide_usage_chunk: quote.hides_usage(),
        })
    }

    /// Bytes that had gone up when it opened what is a stream. An answer of gRPC that is nothing but trailers has opened
    /// nothing.
    pub(crate) fn opened_at(&self, quote: &Quote) -> Option<u64> {
        let is_over = quote.exchange == Exchange::Grpc && self.parts.headers.contains_key(GRPC_STATUS);
        let is_open = self.status.is_success() && !is_over;
        quote.sending.as_ref().filter(|_| is_open).map(Sending::bytes)
    }

    /// How it ends, where that is gRPC's to say.
    pub(crate) fn grpc_end(&self, quote: &Quote) -> Option<GrpcEnd> {
        (quote.exchange == Exchange::Grpc).then(|| GrpcEnd::of_head(&self.parts.headers))
    }

    /// What is kept of it for who asks again: of a stream only that it was given.
    pub(crate) fn tape(&self, quote: &Quote, bytes_max: usize) -> Tape {
        match quote.exchange.streams() {
            true => Tape::without_body(self.parts.status, &self.headers),
            false => Tape::new(self.parts.status, &self.headers, bytes_max),
        }
    }

    /// The upstream's side of a connection that it has opened; none where it opened none.
    pub(crate) fn connection(&mut self) -> Option<Result<OnUpgrade, Refusal>> {
        let refused = || Refusal::new(Code::UpstreamFailed, "The upstream did not open the connection.");
        let is_open = self.parts.status == StatusCode::SWITCHING_PROTOCOLS;
        is_open.then(|| self.parts.extensions.remove::<OnUpgrade>().ok_or_else(refused))
    }

    /// The head that goes down, and the body that comes behind it.
    pub(crate) fn into_response(self) -> Response<UpstreamBody> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.parts.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// Says what is known of the call when its answer begins.
    pub(crate) fn tell(&mut self, about: &About<'_>) {
        let (is_success, headers) = (self.status.is_success(), &mut self.headers);
        let call = about.call.header();
        headers.insert(REQUEST_ID, call.clone());
        headers.insert(PRICE, about.quote.tariff_label());
        if let Some(Ok(limit)) = about.clamp.map(|limit| HeaderValue::try_from(format!("max_tokens={limit}")))
        {
            headers.insert(CLAMPED, limit);
        }
        if let Some(left) = about.given {
            headers.insert(FREE_CALLS_LEFT, HeaderValue::from(left));
        }
        if let Some((payer, held)) = about.held {
            let asset = payer.account.asset();
            for (name, amount) in [(HOLD, held), (BALANCE, payer.account.available())] {
                headers.extend(money(amount, asset).map(|value| (name, value)));
            }
            if is_success {
                headers.insert(RECEIPT, call);
            }
            if let Some(told) = about.told {
                told.tell(headers, self.status, &about.paid_by(payer, held));
            }
        }
        if let (true, true, RoutePrice::PerCall(_)) = (about.is_crawl, is_success, &about.quote.route.price) {
            identity::tell_charged(headers, about.quote.ceiling);
        }
    }
}

impl About<'_> {
    /// What a receipt of the `Payment` scheme says that the call was paid by.
    fn paid_by(&self, payer: &Payer, held: Amount) -> Paid {
        let reference = match (&payer.session, self.brought) {
            (Some(session), _) => session.reference().to_owned(),
            (None, Some(Brought::Deposit(deposit))) => deposit.reference.clone(),
            (None, Some(Brought::Promise(_)) | None) => self.call.to_string(),
        };
        let (balance, asset, now) = (payer.account.available(), payer.account.asset(), Now::read());
        let session = payer.session.as_ref();
        let session = session.map(|session| session.receipt_of_head(&payer.account, now.seconds()));
        Paid { reference, call: Some(self.call), held: Some(held), balance, asset, session, now }
    }
}

fn money(amount: Amount, asset: Asset) -> Option<HeaderValue> {
    let (digits, name) = (amount.digits(asset), asset.name());
    HeaderValue::try_from([&*digits, " ", name].concat()).ok()
}
