//! The captured flows and the vector of digests.

use super::{FLOWS, NOW, captured, json_of, mirror, offer};
use crate::eip712;
use crate::quote::{QuoteKey, QuoteScope};
use crate::secp::SecretKey;
use crate::x402_batch::claim::{Row, sign_claim};
use crate::x402_batch::{Channel, Verdict, channel_id, deposit, verify_v2};
use crate::x402_echo;
use crate::x402_exact::Binding;
use money::{Amount, Asset};
use serde_json::Value;
use wire::hex;
use wire::x402::batch::{BatchPayload, ChannelConfig, ClaimEntry, ClaimPayload, DepositAuthorization};
use wire::x402::{contracts, test_keys, uint256};

/// X402-26: the three captured calls, one after the other, end where the reference ended; and its claim is ours.
#[test]
fn the_captured_channel_is_kept_as_the_reference_kept_it() {
    let mut channel = Channel::opened(mirror(0));
    let key = QuoteKey::new(&[3; 32]);
    let scope = QuoteScope { request: &[7; 32], tariff_version: "t1", asset: Asset::Usd, store_epoch: 1 };
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
        json_of(include_str!("../../../../../specs/vectors/x402/v2_batch_settlement_claim_settle.json"));
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
    let file = json_of(include_str!("../../../../../specs/vectors/x402/eip712_vectors.json"));
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
