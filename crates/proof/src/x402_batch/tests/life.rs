//! What vouchers do to a channel, one by one and in any order.

use super::{NOW, config, genuine, mirror, offer, signed};
use crate::eip712;
use crate::secp::{SecretKey, Signature, SignatureError};
use crate::x402_batch::claim::{Row, sign_refund};
use crate::x402_batch::{Acceptance, BatchError as E, Channel, Mirror, Verdict, verify};
use proptest::prelude::*;
use wire::x402::batch::ClaimEntry;

/// The error, and what a corrective challenge may show; `None` for a plain refusal.
type Refusal = (E, Option<bool>);

fn accepted(channel: &Channel, max: u128, amount: u128) -> Result<Acceptance, Refusal> {
    match channel.accept(&genuine(max), amount, NOW) {
        Verdict::Accepted(acceptance) => Ok(acceptance),
        Verdict::Corrective { error, voucher } => Err((error, Some(voucher))),
        Verdict::Refused(error) => Err((error, None)),
    }
}

fn corrective(error: E, voucher: bool) -> Result<Acceptance, Refusal> {
    Err((error, Some(voucher)))
}

/// One row per situation: X402-22, X402-28, X402-29, and X402-30 where no record is left.
#[test]
fn x402_22_28_29_what_becomes_of_a_voucher() {
    let open = Channel::opened(mirror(100_000));
    let first = accepted(&open, 20_000, 20_000).unwrap();
    assert_eq!((first.charge, first.from_carry), (20_000, 0));
    // Streamed: the head charges everything, the rest comes back as carry.
    let streaming = open.charge_at_head(&first);
    assert_eq!((streaming.charged, streaming.used(), streaming.claimable()), (20_000, 0, None));
    assert_eq!(accepted(&streaming, 40_000, 20_000), Err((E::Busy, None)));
    let after = streaming.metered(1_858);
    assert_eq!((after.charged, after.carry, after.used()), (20_000, 18_142, 1_858));

    let mismatch = |charged| E::CumulativeMismatch { charged };
    // The next call's charge is lowered by the carry, its voucher continues from what was charged.
    let second = accepted(&after, 40_000, 20_000).unwrap();
    assert_eq!((second.charge, second.from_carry), (1_858, 18_142));
    for (what, channel, max, amount, expected) in [
        ("A20 from an older base", &after, 21_858, 20_000, corrective(mismatch(20_000), true)),
        ("more than asked", &after, 40_001, 20_000, corrective(mismatch(20_000), true)),
        ("the accepted one, carry too small", &after, 20_000, 18_143, corrective(mismatch(20_000), true)),
        ("beyond the deposit", &after, 100_001, 80_001, Err((E::ExceedsBalance, None))),
        ("overflow", &after, u128::MAX, u128::MAX, corrective(mismatch(20_000), true)),
    ] {
        assert_eq!(accepted(channel, max, amount), expected, "{what}");
    }
    // The accepted one again, for another request: the carry pays, nothing is charged.
    let again = accepted(&after, 20_000, 18_142).unwrap();
    assert_eq!((again.charge, again.from_carry), (0, 18_142));
    assert_eq!(after.charge_at_head(&again).metered(18_142).used(), 20_000);
    // All of the deposit, and not one unit more.
    assert!(accepted(&after, 100_000, 80_000).is_ok());

    let withdrawing = after.refreshed(Mirror { withdrawing: 70_000, ..mirror(100_000) });
    let gone = Err((E::ExceedsBalance, None));
    assert_eq!(accepted(&withdrawing, 40_000, 20_000), gone, "a pending withdrawal counts as gone");
    let claimed =
        Channel { charged: 0, ..open.refreshed(Mirror { total_claimed: 20_000, ..mirror(100_000) }) };
    assert_eq!(accepted(&claimed, 20_000, 20_000), corrective(E::BelowClaimed, true));
    // State loss: what was claimed is where the channel stands.
    let lost = Channel::opened(Mirror { total_claimed: 5_574, ..mirror(100_000) });
    assert!(accepted(&lost, 25_574, 20_000).is_ok());
}

/// X402-23: the age of our view is bounded by a third of the delay, within half a minute and five.
#[test]
fn x402_23_an_old_view_does_not_decide() {
    for (delay, fresh_for) in [(60, 30), (120, 40), (900, 300), (2_592_000, 300)] {
        assert!(mirror(0).is_fresh(delay, NOW + fresh_for), "{delay}");
        assert!(!mirror(0).is_fresh(delay, NOW + fresh_for + 1), "{delay}");
    }
    let channel = Channel::opened(mirror(100_000));
    let verdict = channel.accept(&genuine(20_000), 20_000, NOW + 301);
    assert_eq!(verdict, Verdict::Refused(E::StaleMirror));
    assert!(E::StaleMirror.needs_facilitator() && !E::Busy.needs_facilitator());
}

/// A claim shows the voucher to everybody. Nobody gets a call for it, nor the newest voucher, however old it is.
#[test]
fn a20_a_published_voucher_opens_nothing() {
    let open = Channel::opened(mirror(100_000));
    let channel = open.charge_metered(&accepted(&open, 20_000, 20_000).unwrap(), 1_858);
    let (promise, owed) = channel.claimable().unwrap();
    assert_eq!((promise.max_claimable, owed), (20_000, 1_858));
    // Before the claim, the payer may use what is left of his promise for a cheaper call.
    assert!(accepted(&channel, 20_000, 18_142).is_ok());
    let channel = channel.with_published(promise.max_claimable);
    let hidden = corrective(E::CumulativeMismatch { charged: 1_858 }, false);
    assert_eq!(accepted(&channel, 20_000, 18_142), hidden);
    assert_eq!(accepted(&channel, 20_000, 20_000), hidden);
    // The payer goes on, and his older promises stay dead.
    let channel = channel.charge_metered(&accepted(&channel, 21_858, 20_000).unwrap(), 2_000);
    let shown = corrective(E::CumulativeMismatch { charged: 3_858 }, true);
    assert_eq!(accepted(&channel, 21_857, 20_000), shown);
    let channel = channel.with_published(21_858);
    for max in [20_000, 21_858] {
        assert!(matches!(accepted(&channel, max, max - 3_858), Err((_, Some(false)))));
    }
    let many = (30_000..30_040).fold(channel, |channel, max| channel.with_published(max));
    assert_eq!((many.published.len(), many.published_floor), (32, 30_008));
    assert!(matches!(accepted(&many, 20_000, 16_142), Err((_, Some(false)))));
}

/// X402-31.
#[test]
fn x402_31_a_withdrawal_calls_for_a_claim() {
    let open = Channel::opened(mirror(100_000));
    let channel = open.charge_metered(&accepted(&open, 20_000, 20_000).unwrap(), 1_858);
    assert!(!channel.must_claim());
    let wanted = Mirror { withdraw_requested_at: NOW, withdrawing: 50_000, ..mirror(100_000) };
    assert!(channel.refreshed(wanted).must_claim());
    let paid = Mirror { total_claimed: 1_858, ..wanted };
    assert!(!channel.refreshed(paid).must_claim());
    assert_eq!(channel.refreshed(paid).claimable(), None);
}

#[test]
fn a_refund_gives_back_what_was_not_used() {
    let open = Channel::opened(mirror(100_000));
    let streamed = open.charge_at_head(&accepted(&open, 20_000, 20_000).unwrap());
    assert_eq!(streamed.refund(&genuine(20_000), None), Err(E::Busy));
    let channel = streamed.metered(1_858);
    let all = channel.refund(&genuine(20_000), None).unwrap();
    assert_eq!((all.amount, all.total_claimed), (98_142, 1_858));
    assert_eq!(channel.refund(&genuine(20_000), Some(80_000)).unwrap().amount, 80_000);
    for (what, max, amount, expected) in [
        ("promises more", 20_001, None, E::CumulativeMismatch { charged: 20_000 }),
        ("of nothing", 20_000, Some(0), E::RefundAmount),
        ("of more than is left", 20_000, Some(80_001), E::RefundAmount),
    ] {
        assert_eq!(channel.refund(&genuine(max), amount), Err(expected), "{what}");
    }
    let empty = Channel::opened(Mirror { total_claimed: 100_000, ..mirror(100_000) });
    assert_eq!(empty.refund(&genuine(100_000), None), Err(E::RefundNoBalance));

    // Both signatures of a refund are the authorizer's.
    let authorizer = SecretKey::from_bytes(&[0x31; 32]).unwrap();
    let separator = *offer().token.batch_separator();
    let asked = signed(20_000);
    let promise = verify(&offer(), &config(), &asked).unwrap().signed;
    let row = Row { config: config(), signed: promise, total_claimed: all.total_claimed };
    let payload = sign_refund(&authorizer, &separator, &config(), &asked, &all, Some(row)).unwrap();
    assert_eq!((payload.amount, payload.claims.len()), (98_142, 1));
    let digest = separator.digest(&eip712::refund(&asked.channel_id, &[0; 32], 98_142));
    let signature = Signature::parse(&payload.refund_authorizer_signature.unwrap()).unwrap();
    assert_eq!(signature.verify(&digest, &authorizer.address()), Ok(()));
    let entry = ClaimEntry { channel_id: asked.channel_id, max_claimable: 20_000, total_claimed: 1_858 };
    let signature = Signature::parse(&payload.claim_authorizer_signature.unwrap()).unwrap();
    assert_eq!(
        signature.verify(&separator.digest(&eip712::claim_batch(&[entry])), &authorizer.address()),
        Ok(())
    );
}

#[test]
fn deployed_codes_are_spelt_as_stock_clients_expect() {
    for (error, code) in [
        (E::CumulativeMismatch { charged: 1 }, "invalid_batch_settlement_evm_cumulative_amount_mismatch"),
        (E::BelowClaimed, "invalid_batch_settlement_evm_cumulative_below_claimed"),
        (E::ExceedsBalance, "invalid_batch_settlement_evm_cumulative_exceeds_balance"),
        (E::Busy, "invalid_batch_settlement_evm_channel_busy"),
        (E::Signature(SignatureError::HighS), "invalid_batch_settlement_evm_voucher_signature"),
    ] {
        assert_eq!(error.scheme_code(), Some(code));
    }
    assert_eq!(E::StaleMirror.scheme_code(), None);
}

#[test]
fn a_promise_is_not_printed() {
    let text = format!("{:?}", genuine(20_000));
    assert!(text.contains("signature hidden") && !text.contains("7, 7"), "{text}");
}

/// One step in the life of a channel.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// An honest voucher for a call of this price, streamed, that uses so much.
    Streamed(u64, u64),
    /// The same, held until it was metered.
    Buffered(u64, u64),
    /// Any sum at all.
    Wild(u64, u64),
    /// The voucher that was accepted last, for a call of this price.
    Again(u64),
    Deposit(u64),
    Claim,
}

fn step() -> impl Strategy<Value = Step> {
    let (price, used) = (0..3_000u64, 0..4_000u64);
    prop_oneof![
        (price.clone(), used.clone()).prop_map(|(price, used)| Step::Streamed(price, used)),
        (price.clone(), used).prop_map(|(price, used)| Step::Buffered(price, used)),
        (0..12_000u64, price.clone()).prop_map(|(max, price)| Step::Wild(max, price)),
        price.prop_map(Step::Again),
        (0..4_000u64).prop_map(Step::Deposit),
        Just(Step::Claim),
    ]
}

proptest! {
    /// Whatever comes: what was charged never sinks and never passes promise or deposit; each call is paid once, from
    /// the carry or the voucher; the chain is only asked for what calls used.
    #[test]
    fn a20_a21_sums_of_a_channel_hold(steps in proptest::collection::vec(step(), 1..60)) {
        let mut channel = Channel::opened(mirror(2_000));
        let (mut last, mut used_in_all, mut published) = (None, 0u128, Vec::new());
        for step in steps {
            let before = channel.clone();
            let (max, price, used, streamed) = match step {
                Step::Deposit(amount) => {
                    channel = channel.with_deposit(u128::from(amount));
                    continue;
                }
                Step::Claim => {
                    if let Some((promise, total)) = channel.claimable() {
                        prop_assert!(total <= promise.max_claimable && total == used_in_all);
                        published.push(promise.max_claimable);
                        let seen = Mirror { total_claimed: total, ..channel.mirror };
                        channel = channel.with_published(promise.max_claimable).refreshed(seen);
                    }
                    continue;
                }
                Step::Streamed(price, used) => (channel.charged + u128::from(price), price, used, true),
                Step::Buffered(price, used) => (channel.charged + u128::from(price), price, used, false),
                Step::Wild(max, price) => (u128::from(max), price, price, true),
                Step::Again(price) => (last.unwrap_or_default(), price, price, true),
            };
            let (price, used) = (u128::from(price), u128::from(used));
            let voucher = genuine(max);
            // The same voucher against the same state: the same verdict.
            let verdict = channel.accept(&voucher, price, NOW);
            prop_assert_eq!(verdict, channel.accept(&voucher, price, NOW));
            let Verdict::Accepted(acceptance) = verdict else { continue };
            prop_assert!(!published.contains(&max), "a published voucher was taken");
            prop_assert!(acceptance.amount() == price && acceptance.from_carry <= before.carry);
            channel = if streamed {
                let head = channel.charge_at_head(&acceptance);
                prop_assert!(head.charged - before.charged == acceptance.charge);
                prop_assert!(head.charged <= head.mirror.balance);
                head.metered(used)
            } else {
                channel.charge_metered(&acceptance, used)
            };
            used_in_all += used.min(price);
            if acceptance.charge > 0 {
                last = Some(max);
                // Once charged in full, the same voucher pays for nothing but out of the carry.
                if channel.charged == max {
                    match channel.accept(&voucher, price, NOW) {
                        Verdict::Accepted(again) => prop_assert_eq!(again.charge, 0),
                        Verdict::Corrective { .. } | Verdict::Refused(_) => {}
                    }
                }
            }
            prop_assert!(channel.charged >= before.charged);
            prop_assert!(channel.charged <= channel.mirror.balance);
            prop_assert!(channel.newest.is_none_or(|newest| newest.max_claimable >= channel.charged));
            let promise = |channel: &Channel| channel.newest.map(|newest| newest.max_claimable);
            prop_assert!(promise(&channel) >= promise(&before));
            prop_assert_eq!(channel.used(), used_in_all);
            prop_assert!(channel.used() + channel.carry == channel.charged);
        }
    }
}
