use std::sync::Arc;

use super::claim::{Row, sign_claim, sign_refund};
use super::{
    BatchError as E, Channel, GenuineVoucher, Mirror, Offer, SignedVoucher, Verdict, channel_id, deposit,
    verify, verify_v2,
};
use crate::eip712;
use crate::quote::{QuoteKey, QuoteScope};
use crate::secp::{SecretKey, Signature, SignatureError};
use crate::x402_echo;
use crate::x402_exact::{Binding, EvmToken, ExactError};
use money::{Amount, Asset};
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::hex;
use wire::x402::asset::default_token;
use wire::x402::batch::{
    BatchPayload, ChannelConfig, ClaimEntry, ClaimPayload, Deposit, DepositAuthorization, Voucher,
};
use wire::x402::{Permit, contracts, decode_payment_signature, test_keys, uint256, v2};

/// 2026-11-20T10:34:12Z.
const NOW: u64 = 1_795_170_852;
const FLOWS: [&str; 3] = [
    include_str!("../../../../specs/vectors/x402/v2_batch_settlement_deposit.json"),
    include_str!("../../../../specs/vectors/x402/v2_batch_settlement_voucher.json"),
    include_str!("../../../../specs/vectors/x402/v2_batch_settlement_voucher2.json"),
];

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn offer() -> Offer {
    let known = default_token("eip155:84532").unwrap();
    let token = EvmToken::new(known.network, known.address, known.name, known.version).unwrap();
    Offer {
        token: Arc::new(token),
        receiver: test_keys::EVM[7].parse().unwrap(),
        receiver_authorizer: test_keys::EVM[7].parse().unwrap(),
        withdraw_delay: 900,
        min_deposit: Some(200_000),
        amount: 20_000,
        max_timeout_s: 3600,
        quote: None,
    }
}

fn captured(flow: &Value) -> v2::PaymentPayload {
    let header = flow["steps"][1]["request"]["headers"]["payment-signature"].as_str().unwrap();
    decode_payment_signature(header).unwrap()
}

fn mirror(balance: u128) -> Mirror {
    Mirror {
        balance,
        total_claimed: 0,
        withdrawing: 0,
        withdraw_requested_at: 0,
        refund_nonce: [0; 32],
        synced_at_s: NOW,
    }
}

fn payer() -> SecretKey {
    SecretKey::from_bytes(&[0x21; 32]).unwrap()
}

fn config() -> ChannelConfig {
    ChannelConfig {
        payer: payer().address(),
        payer_authorizer: payer().address(),
        receiver: offer().receiver,
        receiver_authorizer: offer().receiver_authorizer,
        token: *offer().token.contract(),
        withdraw_delay: 900,
        salt: [0; 32],
    }
}

fn signed(max_claimable_amount: u128) -> Voucher {
    let channel_id = channel_id(&offer(), &config());
    let digest = offer().token.batch_separator().digest(&eip712::voucher(&channel_id, max_claimable_amount));
    let signature = hex::encode_0x(payer().sign(&digest).unwrap().as_bytes());
    Voucher { channel_id, max_claimable_amount, signature }
}

fn genuine(max_claimable: u128) -> GenuineVoucher {
    // The sum in the signature: a check of genuineness is another test's matter.
    let mut signature = [7; 65];
    signature[..16].copy_from_slice(&max_claimable.to_be_bytes());
    let signed = SignedVoucher { max_claimable, signature };
    GenuineVoucher { channel_id: [0xcc; 32], config: config(), signed }
}

/// X402-26: the three captured calls, one after the other, end where the reference ended; and its claim is ours.
#[test]
fn the_captured_channel_is_kept_as_the_reference_kept_it() {
    let mut channel = Channel::opened(mirror(0));
    let key = QuoteKey::new(&[3; 32]);
    let scope = QuoteScope {
        method: "POST",
        path: b"/v1/chat/completions",
        tariff_version: "t1",
        asset: Asset::Usd,
        store_epoch: 1,
    };
    for (text, now) in [(FLOWS[0], NOW), (FLOWS[1], NOW + 1), (FLOWS[2], NOW + 2)] {
        let flow = json_of(text);
        let payment = captured(&flow);
        let url = payment.resource.clone().unwrap().url;
        let binding = Binding { key: &key, scope, ceiling: Amount::from_units(1), resource_url: &url };
        let offers = [offer()];
        let (found, payload, voucher) = verify_v2(&payment, &offers, &binding, now).unwrap();
        let written = serde_json::to_value(found.requirements_v2()).unwrap();
        assert_eq!(written, flow["steps"][0]["decoded"]["payment-required"]["accepts"][0]);
        if let BatchPayload::Deposit { deposit, .. } = &payload {
            let settled = deposit::verify(found, &voucher, deposit, now).unwrap();
            assert_eq!((settled.amount, settled.valid_before), (200_000, 1_795_174_451));
            channel = channel.with_deposit(settled.amount);
            // The reference asks to verify the ceiling, and to settle what the call cost.
            for (call, amount) in [(0, 20_000), (1, 1_858)] {
                let asked = x402_echo::facilitator_request(
                    found.requirements_v2(),
                    &payload,
                    payment.resource.clone(),
                    amount,
                );
                assert_eq!(serde_json::to_value(asked).unwrap(), flow["facilitator"][call]["request"]);
            }
        }
        let Verdict::Accepted(acceptance) = channel.accept(&voucher, found.amount, now) else { panic!() };
        channel = channel.charge_metered(&acceptance, 1_858);
        let result = &flow["steps"][1]["decoded"]["payment-response"]["extra"]["channelState"];
        assert_eq!(serde_json::to_value(channel.state(voucher.channel_id)).unwrap(), *result);
    }
    assert_eq!((channel.charged, channel.used()), (5_574, 5_574));

    let claims =
        json_of(include_str!("../../../../specs/vectors/x402/v2_batch_settlement_claim_settle.json"));
    let captured: ClaimPayload =
        serde_json::from_value(claims["facilitator"][0]["request"]["paymentPayload"]["payload"].clone())
            .unwrap();
    let (signed, total_claimed) = channel.claimable().unwrap();
    let rows = [Row { config: captured.claims[0].voucher.channel, signed, total_claimed }];
    let authorizer =
        SecretKey::parse("0x4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356").unwrap();
    assert_eq!(authorizer.address().to_string(), test_keys::EVM[7]);
    assert_eq!(sign_claim(&authorizer, offer().token.batch_separator(), &rows), Ok(captured));
}

/// Every digest and signature of the typed data that the reference client made.
#[test]
fn the_captured_digests_are_ours() {
    for text in FLOWS {
        for data in json_of(text)["typedData"].as_array().unwrap() {
            let payload = BatchPayload::from_value(&captured(&json_of(text)).payload).unwrap();
            let voucher = payload.voucher();
            let (separator, struct_hash) = match (data["primaryType"].as_str(), &payload) {
                (Some("Voucher"), _) => (
                    *offer().token.batch_separator(),
                    eip712::voucher(&voucher.channel_id, voucher.max_claimable_amount),
                ),
                (Some("ReceiveWithAuthorization"), BatchPayload::Deposit { deposit, .. }) => {
                    let DepositAuthorization::Erc3009(sent) = &deposit.authorization else { panic!() };
                    let nonce = deposit::erc3009_nonce(&voucher.channel_id, &sent.salt);
                    assert_eq!(hex::encode_0x(&nonce), data["message"]["nonce"]);
                    let transfer = wire::x402::Transfer {
                        from: payload.channel_config().payer,
                        to: contracts::ERC3009_COLLECTOR,
                        value: deposit.amount,
                        valid_after: sent.valid_after,
                        valid_before: sent.valid_before,
                        nonce,
                    };
                    (*offer().token.separator(), eip712::receive_with_authorization(&transfer))
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(hex::encode_0x(separator.as_bytes()), data["domainSeparator"]);
            assert_eq!(hex::encode_0x(&struct_hash), data["structHash"]);
            assert_eq!(hex::encode_0x(&separator.digest(&struct_hash)), data["digest"]);
        }
    }
}

/// Voucher, refund, claim and channel id of the vector of digests.
#[test]
fn the_vectors_digests_and_signatures_are_ours() {
    let file = json_of(include_str!("../../../../specs/vectors/x402/eip712_vectors.json"));
    let key = SecretKey::parse(file["privateKey"].as_str().unwrap()).unwrap();
    let channel: ChannelConfig = serde_json::from_value(file["channelId"]["config"].clone()).unwrap();
    assert_eq!(hex::encode_0x(&channel_id(&offer(), &channel)), file["channelId"]["channelId"]);
    let (id, sum) = (
        |value: &Value| hex::decode_0x_array::<32>(value["channelId"].as_str().unwrap()).unwrap(),
        |value: &Value, name: &str| value[name].as_str().unwrap().parse::<u128>().unwrap(),
    );
    let mut seen = 0;
    for case in file["otherValid"].as_array().unwrap() {
        let message = &case["message"];
        let struct_hash = match case["primaryType"].as_str().unwrap() {
            "Voucher" => eip712::voucher(&id(message), sum(message, "maxClaimableAmount")),
            "Refund" => {
                let nonce = uint256::parse(message["nonce"].as_str().unwrap()).unwrap();
                eip712::refund(&id(message), &nonce, sum(message, "amount"))
            }
            "ClaimBatch" => {
                let entry = |row: &Value| ClaimEntry {
                    channel_id: id(row),
                    max_claimable: sum(row, "maxClaimableAmount"),
                    total_claimed: sum(row, "totalClaimed"),
                };
                let entries: Vec<_> = message["claims"].as_array().unwrap().iter().map(entry).collect();
                eip712::claim_batch(&entries)
            }
            _ => continue,
        };
        let digest = eip712::batch_separator(84532).digest(&struct_hash);
        assert_eq!(hex::encode_0x(&digest), case["digest"]);
        assert_eq!(hex::encode_0x(key.sign(&digest).unwrap().as_bytes()), case["signature"]);
        seen += 1;
    }
    assert_eq!(seen, 3);
}

/// X402-22: what the channel is, before anything is recovered.
#[test]
fn x402_22_a_channel_that_is_not_ours_is_refused() {
    let other = test_keys::EVM[3].parse().unwrap();
    let good = signed(20_000);
    assert!(verify(&offer(), &config(), &good).is_ok());
    for (what, changed, expected) in [
        ("payer", ChannelConfig { payer: other, ..config() }, E::Signature(SignatureError::WrongSigner)),
        ("token", ChannelConfig { token: other, ..config() }, E::TokenMismatch),
        ("receiver", ChannelConfig { receiver: other, ..config() }, E::ReceiverMismatch),
        (
            "authorizer",
            ChannelConfig { receiver_authorizer: other, ..config() },
            E::ReceiverAuthorizerMismatch,
        ),
        ("delay", ChannelConfig { withdraw_delay: 901, ..config() }, E::WithdrawDelayMismatch),
        (
            "contract signer",
            ChannelConfig { payer_authorizer: wire::x402::Address::ZERO, ..config() },
            E::ContractSigner,
        ),
        (
            "another signer",
            ChannelConfig { payer_authorizer: other, ..config() },
            E::Signature(SignatureError::WrongSigner),
        ),
        ("salt", ChannelConfig { salt: [1; 32], ..config() }, E::Signature(SignatureError::WrongSigner)),
    ] {
        // The id of another channel is no id of this one, and a signature for one is none for another.
        assert_eq!(verify(&offer(), &changed, &good), Err(E::ChannelIdMismatch), "{what}");
        let renamed = Voucher { channel_id: channel_id(&offer(), &changed), ..good.clone() };
        assert_eq!(verify(&offer(), &changed, &renamed), Err(expected), "{what}");
    }
    let more = Voucher { max_claimable_amount: 20_001, ..good.clone() };
    assert_eq!(verify(&offer(), &config(), &more), Err(E::Signature(SignatureError::WrongSigner)));
    let mut bytes = hex::decode_0x(&good.signature).unwrap();
    bytes[64] -= 27;
    let other_v = Voucher { signature: hex::encode_0x(&bytes), ..good.clone() };
    let refused = verify(&offer(), &config(), &other_v);
    assert!(matches!(refused, Err(E::Signature(SignatureError::RecoveryByte(_)))), "{refused:?}");
    // A8: another chain is another channel.
    let mut elsewhere = offer();
    let base = default_token("eip155:8453").unwrap();
    elsewhere.token = Arc::new(EvmToken::new(base.network, base.address, base.name, base.version).unwrap());
    assert_eq!(verify(&elsewhere, &config(), &good), Err(E::ChannelIdMismatch));
}

/// A deposit by EIP-3009 and by Permit2, and every way in which it is not one into this channel.
#[test]
fn a_deposit_goes_into_its_channel_only() {
    let flow = json_of(FLOWS[0]);
    let payload = captured(&flow).payload;
    let check = |change: &dyn Fn(&mut Value)| {
        let mut payload = payload.clone();
        change(&mut payload);
        let BatchPayload::Deposit { channel_config, voucher, deposit } =
            BatchPayload::from_value(&payload).unwrap()
        else {
            panic!()
        };
        let voucher = verify(&offer(), &channel_config, &voucher).unwrap();
        deposit::verify(&offer(), &voucher, &deposit, NOW).map(|_| ())
    };
    let stranger = Err(E::DepositSignature(SignatureError::WrongSigner));
    let member = |name: &'static str, text: &'static str| {
        move |payload: &mut Value| {
            payload["deposit"]["authorization"]["erc3009Authorization"][name] = json!(text);
        }
    };
    assert_eq!(check(&|_| {}), Ok(()));
    assert_eq!(check(&|payload| payload["deposit"]["amount"] = json!("200001")), stranger);
    assert_eq!(check(&|payload| payload["deposit"]["amount"] = json!("199999")), Err(E::DepositBelowMin));
    assert_eq!(check(&member("validAfter", "1")), stranger);
    assert_eq!(check(&member("validAfter", "1795170852")), Err(E::Terms(ExactError::NotYetValid(NOW))));
    assert_eq!(check(&member("validBefore", "1795170857")), Err(E::Terms(ExactError::Expired(NOW + 5))));
    assert_eq!(check(&member("validBefore", "1795174452")), stranger);
    assert_eq!(
        check(&member("salt", "0x0000000000000000000000000000000000000000000000000000000000000000")),
        stranger
    );
}

#[test]
fn a_permit2_deposit_goes_into_its_channel_only() {
    let voucher = verify(&offer(), &config(), &signed(20_000)).unwrap();
    let permit = Permit {
        from: config().payer,
        token: config().token,
        amount: 200_000,
        spender: contracts::PERMIT2_COLLECTOR,
        nonce: [9; 32],
        deadline: NOW + 60,
        to: contracts::PERMIT2_COLLECTOR,
        facilitator: None,
        valid_after: 0,
    };
    let digest =
        offer().token.permit2_separator().digest(&eip712::permit_deposit(&permit, &voucher.channel_id));
    let signature = hex::encode_0x(payer().sign(&digest).unwrap().as_bytes());
    let sent = json!({"amount": "200000", "authorization": {"permit2Authorization": {
        "from": permit.from, "permitted": {"token": permit.token, "amount": "200000"},
        "spender": permit.spender, "nonce": uint256::to_decimal(&permit.nonce),
        "deadline": permit.deadline.to_string(),
        "witness": {"channelId": hex::encode_0x(&voucher.channel_id)}, "signature": signature,
    }}});
    let check = |sent: &Value| {
        let deposit: Deposit = serde_json::from_value(sent.clone()).unwrap();
        deposit::verify(&offer(), &voucher, &deposit, NOW)
    };
    let good = check(&sent).unwrap();
    assert_eq!(good.deposit_key, crate::x402_permit2::key("eip155:84532", &permit));
    let elsewhere = Err(E::DepositElsewhere);
    let stranger = Err(E::DepositSignature(SignatureError::WrongSigner));
    for (member, value, expected) in [
        ("from", json!(test_keys::EVM[1]), elsewhere),
        ("permitted", json!({"token": test_keys::EVM[1], "amount": "200000"}), elsewhere),
        ("permitted", json!({"token": permit.token, "amount": "199999"}), elsewhere),
        ("spender", json!(contracts::ERC3009_COLLECTOR), elsewhere),
        ("witness", json!({"channelId": hex::encode_0x(&[1; 32])}), elsewhere),
        ("nonce", json!("10"), stranger),
        ("deadline", json!((NOW + 61).to_string()), stranger),
        ("deadline", json!((NOW + 5).to_string()), Err(E::Terms(ExactError::Expired(NOW + 5)))),
        ("signature", json!("0x"), Err(E::DepositSignature(SignatureError::Length(0)))),
    ] {
        let mut altered = sent.clone();
        altered["authorization"]["permit2Authorization"][member] = value;
        assert_eq!(check(&altered), expected, "{member}");
    }
}

/// The error, and what a corrective challenge may show; `None` for a plain refusal.
type Refusal = (E, Option<bool>);

fn accepted(channel: &Channel, max: u128, amount: u128) -> Result<super::Acceptance, Refusal> {
    match channel.accept(&genuine(max), amount, NOW) {
        Verdict::Accepted(acceptance) => Ok(acceptance),
        Verdict::Corrective { error, voucher } => Err((error, Some(voucher))),
        Verdict::Refused(error) => Err((error, None)),
    }
}

fn corrective(error: E, voucher: bool) -> Result<super::Acceptance, Refusal> {
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
