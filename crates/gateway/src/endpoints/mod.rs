//! What the gateway answers itself: health, its keys, and what belongs to the holder of a credit key.

mod catalogue;
mod llms;
mod openapi;
mod orders;
mod payout;
mod price_page;
mod prices;
mod quote;
mod receipts;
mod refund;
mod sign_in;
mod top_up;

pub(crate) use catalogue::Catalogue;
pub(crate) use orders::{Order, paid_amount};
pub(crate) use prices::Pages;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::admission;
use crate::body::GateBody;
use crate::call::{Arrived, Worker, only};
use crate::channels;
use crate::credential::{Payment, Presented};
use crate::extensions::offers;
use crate::facts;
use crate::identity::Content;
use crate::lightning;
use crate::payer::Payer;
use crate::payments;
use crate::refusal::{Code, Refusal};
use crate::till::Till;
use crate::till::{Named, Offer};

/// An endpoint of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Health,
    Keys,
    Balance,
    TopUp,
    /// Balance by order, or for a code.
    Order(Order),
    /// Where Alipay tells of payments.
    AlipayNotices,
    /// What is left in a payment channel, or of a balance that came in over Lightning.
    Refund,
    Receipt(String),
    /// That the entry of a receipt is in the journal.
    Proof(String),
    Models,
    /// Everything that is sold.
    Prices,
    /// How everything that is sold is called and paid, for programs.
    OpenApi,
    /// The same for language models.
    Llms,
    /// What a request would cost.
    Quote,
    /// A wallet's way to its balance.
    SignIn,
    /// Whose signatures speak for this host.
    Did,
    /// Below our prefix, and nothing.
    Nothing,
}

/// Where Alipay sends its notices.
pub(crate) const ALIPAY_NOTICES: &str = "/farthing/hooks/alipay";
const BALANCE: &str = "/farthing/balance";
pub(crate) const TOP_UP: &str = "/farthing/topup";
const QUOTE: &str = "/farthing/quote";
const PRICES: &str = "/farthing/prices";
const MODELS: &str = "/v1/models";

/// The endpoint at a path, if the path is ours (reference item 10).
pub(crate) fn find(path: &str) -> Option<Endpoint> {
    Some(match path {
        "/farthing/health" => Endpoint::Health,
        BALANCE => Endpoint::Balance,
        TOP_UP => Endpoint::TopUp,
        ALIPAY_NOTICES => Endpoint::AlipayNotices,
        "/farthing/refund" => Endpoint::Refund,
        QUOTE => Endpoint::Quote,
        "/farthing/sign-in" => Endpoint::SignIn,
        "/.well-known/did.json" => Endpoint::Did,
        PRICES => Endpoint::Prices,
        "/openapi.json" => Endpoint::OpenApi,
        "/llms.txt" => Endpoint::Llms,
        "/.well-known/farthing-keys.json" => Endpoint::Keys,
        MODELS => Endpoint::Models,
        _ => match path.strip_prefix("/farthing/receipts/") {
            Some(rest) => match rest.strip_suffix("/proof") {
                Some(id) => Endpoint::Proof(id.to_owned()),
                None => Endpoint::Receipt(rest.to_owned()),
            },
            None => match path.strip_prefix("/farthing/topup/").and_then(Order::find) {
                Some(order) => Endpoint::Order(order),
                None if path.starts_with("/farthing/") => Endpoint::Nothing,
                None => return None,
            },
        },
    })
}

/// Whether a request asks where the money of a channel can be had back: stock clients ask with `GET` at the place that
/// they have paid at, where nothing is sold for it.
pub(crate) fn is_for_refund(arrived: &Arrived) -> bool {
    let snapshot = &arrived.snapshot;
    let is_sold = || match snapshot.route(&arrived.head.method, &arrived.path) {
        Ok(_) => true,
        Err(refusal) => refusal.code() != Code::MethodNotAllowed,
    };
    arrived.head.method == Method::GET && snapshot.tills.iter().any(Till::is_channel) && !is_sold()
}

pub(crate) async fn answer(
    worker: &Worker,
    arrived: &Arrived,
    endpoint: Endpoint,
    body: Incoming,
) -> Result<Response<GateBody>, Refusal> {
    let gate = &worker.gate;
    match endpoint {
        Endpoint::Health => {
            only(arrived, &[Method::GET, Method::HEAD])?;
            let mut response = Response::new(GateBody::whole(Bytes::new()));
            if !gate.is_ready() {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok(response)
        }
        Endpoint::Keys => {
            only(arrived, &[Method::GET])?;
            let keys = serde_json::to_value(gate.keys.jwks()).unwrap_or_default();
            Ok(document(&keys, "public, max-age=300"))
        }
        Endpoint::Models => {
            only(arrived, &[Method::GET])?;
            let models = Pages::of(&arrived.snapshot, arrived.now).models.clone();
            Ok(told(models, JSON, "public, max-age=60"))
        }
        Endpoint::Prices => {
            only(arrived, &[Method::GET])?;
            if !arrived.snapshot.config.discovery.price_page {
                return Err(nothing());
            }
            let pages = Pages::of(&arrived.snapshot, arrived.now);
            let (body, kind) =
                if wants_html(arrived) { (&pages.page, HTML) } else { (&pages.document, JSON) };
            let mut response = told(body.clone(), kind, "public, max-age=60");
            let headers = response.headers_mut();
            headers.insert(header::VARY, HeaderValue::from_static("accept"));
            // Nothing in it runs or is fetched, whatever a model is called.
            let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            Ok(response)
        }
        Endpoint::OpenApi => {
            only(arrived, &[Method::GET, Method::HEAD])?;
            if !arrived.snapshot.config.discovery.openapi {
                return Err(nothing());
            }
            Ok(open_to_all(Catalogue::of(gate, arrived).await.openapi.clone(), JSON))
        }
        Endpoint::Llms => {
            only(arrived, &[Method::GET, Method::HEAD])?;
            if !arrived.snapshot.config.discovery.llms_txt {
                return Err(nothing());
            }
            Ok(open_to_all(Catalogue::of(gate, arrived).await.llms.clone(), TEXT))
        }
        Endpoint::Balance => {
            only(arrived, &[Method::GET])?;
            let payer = holder(worker, arrived)?;
            Ok(document(&balance(worker, &payer), "no-store"))
        }
        Endpoint::Receipt(id) => {
            only(arrived, &[Method::GET])?;
            receipts::signed_receipt(worker, arrived, &id).await
        }
        Endpoint::Proof(id) => {
            only(arrived, &[Method::GET])?;
            receipts::inclusion(worker, arrived, &id).await
        }
        Endpoint::TopUp => {
            only(arrived, &[Method::GET, Method::POST])?;
            top_up::top_up(worker, arrived).await
        }
        Endpoint::Order(order) => {
            only(arrived, order.methods())?;
            orders::answer(worker, arrived, &order, body).await
        }
        Endpoint::AlipayNotices => {
            only(arrived, &[Method::POST])?;
            orders::notice(worker, arrived, "alipay", body).await
        }
        Endpoint::Refund => {
            only(arrived, &[Method::GET, Method::POST])?;
            if payout::is_asked(arrived) {
                payout::payout(worker, arrived, body).await
            } else {
                refund::refund(worker, arrived).await
            }
        }
        Endpoint::Quote => {
            only(arrived, &[Method::POST])?;
            quote::quote(worker, arrived, body).await
        }
        Endpoint::SignIn => {
            only(arrived, &[Method::GET, Method::POST])?;
            sign_in::sign_in(worker, arrived)
        }
        Endpoint::Did => {
            only(arrived, &[Method::GET])?;
            let did = offers::did_document(gate, &arrived.snapshot).ok_or_else(nothing)?;
            Ok(document(&did, "public, max-age=300"))
        }
        Endpoint::Nothing => Err(nothing()),
    }
}

fn nothing() -> Refusal {
    Refusal::new(Code::RouteNotFound, "The gateway has no such endpoint.")
}

/// Browsers name HTML first; programs take anything.
fn wants_html(arrived: &Arrived) -> bool {
    let accept = arrived.head.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let first =
        accept.unwrap_or_default().split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    first.take_while(|kind| *kind != JSON).any(|kind| kind == "text/html")
}

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

fn document(value: &Value, cache: &'static str) -> Response<GateBody> {
    told(Bytes::from(value.to_string()), JSON, cache)
}

/// What programs in browsers may read too, whatever site they are from.
fn open_to_all(body: Bytes, kind: &'static str) -> Response<GateBody> {
    let mut response = told(body, kind, "public, max-age=300");
    let anybody = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anybody);
    response
}

fn told(body: Bytes, kind: &'static str, cache: &'static str) -> Response<GateBody> {
    let mut response = Response::new(GateBody::whole(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

/// Whoever shows a good credit key, or a token of a payment that came in, as often as its account may call.
fn holder(worker: &Worker, arrived: &Arrived) -> Result<Payer, Refusal> {
    let presented = admission::credentials(worker, arrived)?;
    let missing =
        || Refusal::new(Code::KeyUnknown, "This endpoint needs a credit key, or a token that was used.");
    let payer = match admission::key_payer(worker, arrived, &presented, Content::Unread)? {
        Some(payer) => payer,
        None => token_holder(worker, arrived, &presented)?.ok_or_else(missing)?,
    };
    arrived.snapshot.limiters.account(payer.account.id()).admit_read()?;
    Ok(payer)
}

/// The payer behind a token. None: there is no token, or nothing has come in by it yet.
fn token_holder(worker: &Worker, arrived: &Arrived, presented: &Presented) -> Result<Option<Payer>, Refusal> {
    let token = admission::paid_token(worker, arrived, presented, Content::Unread)?;
    let Some(token) = token else { return Ok(None) };
    let gate = &worker.gate;
    let known = gate.store.reader().payment(&token.open().verified.deposit_key());
    let known = known.map_err(|error| payments::store_refusal(&error))?;
    let own = known.filter(|payment| payment.account == token.open().account().0);
    let account = own.and_then(|payment| gate.account_of(&payment));
    Ok(account.map(|account| Payer {
        account,
        key: None,
        token: Some(token),
        session: None,
        protocol: lightning::PROTOCOL,
    }))
}

/// As [`holder`], or the payer of a channel by a voucher of it: he has no key.
async fn reader(worker: &Worker, arrived: &Arrived) -> Result<Payer, Refusal> {
    let presented = admission::credentials(worker, arrived)?;
    let (None, Some(Payment::V2(payment))) = (&presented.key, &presented.payment) else {
        return holder(worker, arrived);
    };
    let tills = arrived.snapshot.tills.iter();
    let offers = tills.filter_map(|till| match till.offer_of(0, &Named::Nobody, None)? {
        Offer::Channel(offer) => Some(offer),
        Offer::Exact(_) | Offer::Permit2(_) | Offer::Solana(_) => None,
    });
    let Some(account) = channels::shown(&worker.gate, offers.collect(), payment).await else {
        arrived.snapshot.limiters.count_invalid(arrived.source);
        return Err(Refusal::new(
            Code::KeyUnknown,
            "This endpoint needs a credit key, or a voucher of a channel.",
        ));
    };
    arrived.snapshot.limiters.account(account.id()).admit_read()?;
    Ok(Payer { account, key: None, token: None, session: None, protocol: "x402-v2" })
}

fn balance(worker: &Worker, payer: &Payer) -> Value {
    let balance = worker.gate.book.balance(&payer.account);
    let asset = payer.account.asset();
    json!({
        "account": payer.account.id().to_string(),
        "balance": facts::amount(balance.available, asset),
        "held": facts::amount(balance.held, asset),
    })
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Order, find};

    #[test]
    fn only_our_own_paths_are_ours() {
        for (path, expected) in [
            ("/farthing/health", Some(Endpoint::Health)),
            ("/farthing/receipts/req_1", Some(Endpoint::Receipt("req_1".into()))),
            ("/farthing/anything", Some(Endpoint::Nothing)),
            ("/v1/models", Some(Endpoint::Models)),
            ("/farthing/quote", Some(Endpoint::Quote)),
            ("/openapi.json", Some(Endpoint::OpenApi)),
            ("/llms.txt", Some(Endpoint::Llms)),
            ("/llms.txt/", None),
            ("/farthing/refund", Some(Endpoint::Refund)),
            ("/farthing/topup/orders", Some(Endpoint::Order(Order::New))),
            ("/farthing/topup/orders/ab", Some(Endpoint::Order(Order::One("ab".into())))),
            ("/farthing/topup/orders/ab/refund", Some(Endpoint::Order(Order::Refund("ab".into())))),
            ("/farthing/topup/codes", Some(Endpoint::Order(Order::Code))),
            ("/farthing/topup/", Some(Endpoint::Nothing)),
            ("/farthing/hooks/alipay", Some(Endpoint::AlipayNotices)),
            ("/v1/models/x", None),
            ("/farthingale", None),
        ] {
            assert_eq!(find(path), expected, "{path}");
        }
    }
}
