//! The bill of a call beyond usage times price: units that only the gateway counts, and what the operator's policy
//! says of calls that did not end as they should.

use std::borrow::Cow;

use meter::{Basis, Bucket, Charge, ChargeError, Dialect, Line, Metered, Terminal};
use money::{Amount, AmountError, FEMTO_PER_NANO, Femto, Rate};
use tariff::Rates;

use crate::config::{Charged, MissingUsage, Policy, UnitPrice};

/// A route's price as the meter takes it. Bytes of the request and the minimum are not the meter's.
pub(crate) fn rates(price: &UnitPrice) -> Rates {
    Rates {
        per_call: Some(price.call),
        image: price.image,
        character: price.character,
        second: price.second,
        response_byte: price.byte_out,
        max_seconds: price.seconds_max,
        max_response_bytes: price.bytes_max,
        ..Rates::default()
    }
}

/// Whether what a dialect counts has a price: what has none is not sold, and never given away (MTR-47).
pub(crate) fn prices_units_of(price: &Rates, dialect: Dialect) -> bool {
    let spoken =
        price.character.is_some() || (price.response_byte.is_some() && price.max_response_bytes.is_some());
    let called = price.per_call.is_some_and(|fee| fee > Amount::ZERO);
    if dialect == Dialect::OpenAiSpeech {
        return spoken || called;
    }
    let by_unit = (dialect == Dialect::OpenAiImages && price.image.is_some())
        || (dialect == Dialect::OpenAiAudio && price.second.is_some());
    // A price of zero may be meant, but not beside a price for something else that is not counted here.
    by_unit || called || has_token_price(price) || !has_unit_price(price)
}

fn has_token_price(price: &Rates) -> bool {
    price.dearest_input(true, true) > Rate::FREE || price.dearest_output() > Rate::FREE
}

fn has_unit_price(price: &Rates) -> bool {
    [price.image, price.character, price.second, price.response_byte].iter().any(Option::is_some)
}

/// A worst case, and the request's own bytes.
pub(crate) fn with_request(cost: Femto, price: &UnitPrice, request_bytes: u64) -> Result<Femto, AmountError> {
    price.byte_in.map_or(Ok(cost), |rate| cost.add_units(request_bytes, rate))
}

/// What a connection costs that was open for so long and has carried so much; no less than its least.
pub(crate) fn cost_of(
    price: &UnitPrice,
    milliseconds: u64,
    up: u64,
    down: u64,
) -> Result<Femto, AmountError> {
    let rates = rates(price);
    let free = Rate::FREE;
    let fee = u64::try_from(price.call.units()).map_err(|_| AmountError)?;
    let cost = Femto::ZERO
        .add_units(fee, Rate::from_femto(1_000_000))?
        .add_units(milliseconds, rates.millisecond_rate().unwrap_or(free))?
        .add_units(up, price.byte_in.unwrap_or(free))?
        .add_units(down, price.byte_out.unwrap_or(free))?;
    let least = u128::try_from(price.min.units()).map_err(|_| AmountError)? * FEMTO_PER_NANO;
    Ok(Femto::from_units(cost.units().max(least)))
}

/// Adds the request's bytes to a bill, and what is missing to the least that a call costs. Not for a free one.
pub(crate) fn complete(
    charge: &mut Charge,
    price: &UnitPrice,
    request_bytes: u64,
) -> Result<(), ChargeError> {
    let mut add = |bucket, quantity, rate| {
        charge.femto = charge.femto.add_units(quantity, rate)?;
        charge.lines.push(Line { bucket, quantity, rate });
        Ok::<_, AmountError>(())
    };
    if let Some(rate) = price.byte_in.filter(|_| request_bytes > 0) {
        add(Bucket::RequestByte, request_bytes, rate)?;
    }
    let least = u128::try_from(price.min.units()).map_err(|_| AmountError)? * FEMTO_PER_NANO;
    let missing = least.saturating_sub(charge.femto.units());
    if missing > 0 {
        let missing = u64::try_from(missing).map_err(|_| AmountError)?;
        charge.femto = charge.femto.add_units(missing, Rate::from_femto(1))?;
        charge.lines.push(Line { bucket: Bucket::Minimum, quantity: missing, rate: Rate::from_femto(1) });
    }
    charge.nano = charge.femto.to_nano_up()?;
    Ok(())
}

/// The bill of time and of bytes that went up, and of nothing else: nothing was given for them.
pub(crate) fn of_use(price: &UnitPrice, milliseconds: u64, up: u64) -> Result<Charge, ChargeError> {
    let mut charge = Charge { femto: Femto::ZERO, nano: Amount::ZERO, estimated: false, lines: Vec::new() };
    for (bucket, quantity, rate) in [
        (Bucket::Millisecond, milliseconds, rates(price).millisecond_rate()),
        (Bucket::RequestByte, up, price.byte_in),
    ] {
        if let Some(rate) = rate.filter(|_| quantity > 0) {
            charge.femto = charge.femto.add_units(quantity, rate)?;
            charge.lines.push(Line { bucket, quantity, rate });
        }
    }
    charge.nano = charge.femto.to_nano_up()?;
    Ok(charge)
}

/// What the policy makes of an answer before it is priced; `None` costs nothing.
pub(crate) fn governed<'a>(policy: &Policy, metered: &'a Metered) -> Option<Cow<'a, Metered>> {
    let terms = if metered.upstream_error {
        if metered.before_output {
            return Some(failed_at_once(policy, metered));
        }
        policy.upstream_error
    } else if metered.terminal == Terminal::ClientGone {
        policy.client_gone
    } else {
        Charged::ReportedOrEstimate
    };
    match terms {
        Charged::ReportedOrEstimate => Some(Cow::Borrowed(metered)),
        Charged::ReportedOnly => reported_only(metered).map(Cow::Owned),
        Charged::Free => None,
    }
}

/// The meter charges nothing for a failure before any output, unless it is told of none.
fn failed_at_once<'a>(policy: &Policy, metered: &'a Metered) -> Cow<'a, Metered> {
    if policy.bill_on_upstream_failure && metered.usage.is_some() && metered.basis == Basis::Reported {
        Cow::Owned(Metered { upstream_error: false, before_output: false, ..metered.clone() })
    } else {
        Cow::Borrowed(metered)
    }
}

/// What was reported and nothing that would be estimated.
pub(crate) fn reported_only(metered: &Metered) -> Option<Metered> {
    let mut metered = Metered { unreported_bytes: 0, ..metered.clone() };
    let usage = metered.usage.as_mut()?;
    if usage.total_only.is_none() && metered.basis != Basis::Counted {
        usage.input_total.get_or_insert(0);
        usage.output_total.get_or_insert(0);
    }
    Some(metered)
}

/// Whether all that was held stands in for a report.
pub(crate) fn takes_hold(policy: &Policy, metered: &Metered, charge: &Charge) -> bool {
    let owed = charge.estimated && metered.usage.is_none() && !charge.lines.is_empty();
    owed && policy.missing_usage == MissingUsage::Hold
}

#[cfg(test)]
mod tests {
    use meter::Dialect;
    use money::{Amount, Rate};
    use tariff::Rates;

    use super::prices_units_of;

    /// MTR-47: a model that is sold by one thing is not given away by another.
    #[test]
    fn what_is_not_counted_is_no_price() {
        let rate = Some(Rate::from_femto(1));
        let free = Rates::default();
        let tokens = Rates { input: Rate::from_femto(1), ..free };
        let (image, character, second) = (
            Rates { image: rate, ..free },
            Rates { character: rate, ..free },
            Rates { second: rate, ..free },
        );
        let called = Rates { per_call: Some(Amount::from_units(1)), ..free };
        use Dialect as D;
        for (price, sold, unsold) in [
            (free, &[D::OpenAiChat, D::OpenAiImages, D::OpenAiAudio][..], &[D::OpenAiSpeech][..]),
            (tokens, &[D::OpenAiChat, D::OpenAiImages, D::OpenAiAudio], &[D::OpenAiSpeech]),
            (image, &[D::OpenAiImages], &[D::OpenAiChat, D::OpenAiAudio, D::OpenAiSpeech]),
            (character, &[D::OpenAiSpeech], &[D::AnthropicMessages, D::OpenAiImages, D::OpenAiEmbeddings]),
            (second, &[D::OpenAiAudio], &[D::OpenAiChat, D::OpenAiImages, D::GeminiGenerate]),
            (called, &[D::OpenAiChat, D::OpenAiSpeech], &[]),
        ] {
            assert!(sold.iter().all(|dialect| prices_units_of(&price, *dialect)), "{price:?}");
            assert!(!unsold.iter().any(|dialect| prices_units_of(&price, *dialect)), "{price:?}");
        }
    }
}
