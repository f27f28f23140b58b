//! Vouchers and deposits that are not what they seem.

use std::sync::Arc;

use super::{FLOWS, NOW, captured, config, json_of, offer, payer, signed};
use crate::eip712;
use crate::secp::SignatureError;
use crate::x402_batch::{BatchError as E, channel_id, deposit, verify};
use crate::x402_exact::{EvmToken, ExactError};
use serde_json::{Value, json};
use wire::hex;
use wire::x402::asset::default_token;
use wire::x402::batch::{BatchPayload, ChannelConfig, Deposit, Voucher};
use wire::x402::{Permit, contracts, test_keys, uint256};

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
