//! The echo of an offer: what a payer says he accepted, held against what we offered (X402-10).
//!
//! The echo only finds our offer. Price, asset, payee and chain come from ours.

use serde::Serialize;
use serde_json::{Map, Value};
use wire::hex;
use wire::x402::exact::decimal;
use wire::x402::facilitator::SettleRequest;
use wire::x402::v2;

use crate::quote;
use crate::x402_exact::{Binding, ExactError, check_amount};

/// Our private member of `extra`, checked by its HMAC instead of by equality.
const QUOTE: &str = "quote";

/// The one of our offers that is echoed, and as it is written. Those of other networks are not even written: the letter
/// case of an address is a hash.
///
/// # Errors
/// [`ExactError`] naming the first member by which no offer of ours is left.
pub(crate) fn find<'o, O>(
    accepted: &v2::PaymentRequirements,
    offers: &'o [O],
    network: impl Fn(&O) -> &str,
    written: impl Fn(&O) -> v2::PaymentRequirements,
) -> Result<(&'o O, v2::PaymentRequirements), ExactError> {
    let mut nearest = (0, ExactError::WrongNetwork);
    for offer in offers.iter().filter(|offer| network(offer) == accepted.network) {
        let written = written(offer);
        match compare(accepted, &written) {
            Ok(()) => return Ok((offer, written)),
            Err(further) if further.0 >= nearest.0 => nearest = further,
            Err(_) => {}
        }
    }
    Err(nearest.1)
}

/// That a payment echoes this offer, was made for this request, and brings back our quote if the offer carried one
/// (X402-10, X402-16).
///
/// # Errors
/// [`ExactError`]; nothing was consumed.
pub fn check(
    payment: &v2::PaymentPayload,
    offer: &v2::PaymentRequirements,
    binding: &Binding<'_>,
    now_unix_s: u64,
) -> Result<(), ExactError> {
    compare(&payment.accepted, offer).map_err(|(_, error)| error)?;
    if payment.resource.as_ref().is_some_and(|resource| resource.url != binding.resource_url) {
        return Err(ExactError::WrongResource);
    }
    if member(offer, QUOTE).is_none() {
        return Ok(());
    }
    check_quote(&payment.accepted, binding, now_unix_s)
}

/// Our quote must come back unaltered and stand for this request.
pub(crate) fn check_quote(
    accepted: &v2::PaymentRequirements,
    binding: &Binding<'_>,
    now_unix_s: u64,
) -> Result<(), ExactError> {
    let echoed = member(accepted, QUOTE).ok_or(ExactError::QuoteMissing)?;
    let text = echoed.as_str().ok_or(ExactError::Malformed)?;
    let quote = quote::verify(binding.key, text, &binding.scope, now_unix_s)?;
    if quote.ceiling != binding.ceiling {
        return Err(ExactError::QuotePrice);
    }
    Ok(())
}

/// What a facilitator is asked about a payment that passed here, all of it written anew from our values: `offer` as
/// we made it, without its private members (X402-11). `amount` is what is to be taken, where that differs from what
/// the payer accepted.
#[must_use]
pub fn facilitator_request<T: Serialize>(
    mut offer: v2::PaymentRequirements,
    payload: &T,
    resource: Option<v2::ResourceInfo>,
    amount: u128,
) -> SettleRequest {
    if let Some(extra) = &mut offer.extra {
        extra.remove(QUOTE);
    }
    let requirements = v2::PaymentRequirements { amount: amount.to_string(), ..offer.clone() };
    // Objects of ours have text keys and no floats, so writing them cannot fail.
    let payment = v2::PaymentPayload {
        x402_version: v2::VERSION,
        resource,
        accepted: offer,
        payload: serde_json::to_value(payload).unwrap_or_default(),
        extensions: None,
    };
    SettleRequest {
        x402_version: v2::VERSION,
        payment_payload: serde_json::to_value(payment).unwrap_or_default(),
        payment_requirements: serde_json::to_value(requirements).unwrap_or_default(),
    }
}

/// Puts our quote into `extra`.
pub(crate) fn with_quote(mut extra: Map<String, Value>, quote: Option<&str>) -> Map<String, Value> {
    if let Some(quote) = quote {
        extra.insert(QUOTE.to_owned(), Value::String(quote.to_owned()));
    }
    extra
}

/// How far the comparison came stands before the error: the payer is told about the offer nearest to his.
fn compare(
    accepted: &v2::PaymentRequirements,
    offer: &v2::PaymentRequirements,
) -> Result<(), (u8, ExactError)> {
    if accepted.scheme != offer.scheme || accepted.network != offer.network {
        return Err((0, ExactError::WrongNetwork));
    }
    if !same_party(&accepted.asset, &offer.asset) {
        return Err((1, ExactError::WrongAsset));
    }
    if !same_party(&accepted.pay_to, &offer.pay_to) {
        return Err((2, ExactError::WrongPayee));
    }
    let amount = |text| decimal(text).ok_or((3, ExactError::Malformed));
    let (paid, asked) = (amount(&accepted.amount)?, amount(&offer.amount)?);
    check_amount(paid, asked).map_err(|error| (3, error))?;
    let ours = offer.extra.iter().flatten().filter(|(name, _)| *name != QUOTE);
    let contained = ours.into_iter().all(|(name, value)| member(accepted, name) == Some(value));
    if accepted.max_timeout_seconds != offer.max_timeout_seconds || !contained {
        return Err((4, ExactError::OfferAltered));
    }
    Ok(())
}

fn member<'a>(offer: &'a v2::PaymentRequirements, name: &str) -> Option<&'a Value> {
    offer.extra.as_ref()?.get(name)
}

/// Addresses and public keys in hexadecimal are equal in any letter case, other names as they stand (X402-9).
fn same_party(theirs: &str, ours: &str) -> bool {
    let digits = |text: &str| hex::decode(text.strip_prefix("0x").unwrap_or(text));
    match (digits(theirs), digits(ours)) {
        (Ok(_), Ok(_)) => theirs.eq_ignore_ascii_case(ours),
        _ => theirs == ours,
    }
}
