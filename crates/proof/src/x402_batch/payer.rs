//! The payer's side of a channel: what to sign next, and whether to believe what the seller says about it.
//!
//! A payer signs nothing that follows from a seller's word alone. Whoever contradicts what was agreed gets no further
//! voucher (X402-27).

use wire::hex;
use wire::x402::batch::{
    ChannelConfig, ChannelState, Deposit, DepositAuthorization, Erc3009Deposit, ResponseExtra, Voucher,
    VoucherState,
};
use wire::x402::{Transfer, contracts};

use super::deposit::erc3009_nonce;
use crate::eip712::{self, Separator};
use crate::secp::{SecretKey, Signature, SignatureError};

/// A channel as its payer keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayerChannel {
    /// Names the channel; computed from its description, never taken from the seller.
    pub channel_id: [u8; 32],
    /// Charged in all.
    pub charged: u128,
    /// Deposited and not given back.
    pub balance: u128,
}

/// What a payer sees on the chain himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnChain {
    /// Deposited and not withdrawn or refunded.
    pub balance: u128,
    /// Claimed in all.
    pub total_claimed: u128,
}

/// Why a seller is not believed. Sign nothing more, and withdraw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// No word about the channel, or about another one.
    #[error("result does not speak of the channel")]
    Channel,
    /// More than the call could cost.
    #[error("charged {charged} of at most {amount}")]
    Overcharged {
        /// What was charged.
        charged: u128,
        /// What was agreed.
        amount: u128,
    },
    /// The sums do not add up.
    #[error("charged in all {told} instead of {expected}")]
    Sum {
        /// What the seller says.
        told: u128,
        /// What follows from before.
        expected: u128,
    },
    /// Less is in the channel than was put in.
    #[error("balance {told} instead of {expected}")]
    Balance {
        /// What the seller says.
        told: u128,
        /// What follows from before.
        expected: u128,
    },
    /// A correction that the chain or the payer's own signature does not bear out.
    #[error("correction is not borne out")]
    Correction,
}

impl PayerChannel {
    /// What the next voucher promises in all, for a call that may cost `amount`; `None` beyond any sum.
    #[must_use]
    pub const fn promise(&self, amount: u128) -> Option<u128> {
        self.charged.checked_add(amount)
    }

    /// What is missing in the channel for that promise; 0 when a voucher alone does.
    #[must_use]
    pub fn missing(&self, amount: u128) -> u128 {
        self.charged.saturating_add(amount).saturating_sub(self.balance)
    }

    /// The channel after a call that may cost `amount`, with which `deposited` went in.
    ///
    /// # Errors
    /// [`Contradiction`]
    pub fn after_call(
        &self,
        amount: u128,
        deposited: u128,
        told: &ResponseExtra,
    ) -> Result<Self, Contradiction> {
        let (Some(charged), Some(state)) = (told.charged_amount, &told.channel_state) else {
            return Err(Contradiction::Channel);
        };
        if state.channel_id != self.channel_id {
            return Err(Contradiction::Channel);
        }
        if charged > amount {
            return Err(Contradiction::Overcharged { charged, amount });
        }
        let expected = self.charged.saturating_add(charged);
        if let Some(told) = state.charged_cumulative_amount.filter(|told| *told != expected) {
            return Err(Contradiction::Sum { told, expected });
        }
        let balance = self.balance.saturating_add(deposited);
        if state.balance < balance {
            return Err(Contradiction::Balance { told: state.balance, expected: balance });
        }
        Ok(Self { charged: expected, balance, ..*self })
    }

    /// The channel as a corrective challenge tells it, borne out by the chain and by a signature of the payer's own
    /// (X402-29). It is used for one more try.
    ///
    /// # Errors
    /// [`Contradiction::Correction`], [`Contradiction::Channel`]
    pub fn corrected(
        &self,
        separator: &Separator,
        config: &ChannelConfig,
        state: &ChannelState,
        voucher: &VoucherState,
        chain: &OnChain,
    ) -> Result<Self, Contradiction> {
        let charged = state.charged_cumulative_amount.ok_or(Contradiction::Correction)?;
        if state.channel_id != self.channel_id {
            return Err(Contradiction::Channel);
        }
        // What he never signed he does not owe.
        let signed = voucher.signed_max_claimable;
        if charged < chain.total_claimed || charged > signed {
            return Err(Contradiction::Correction);
        }
        let digest = separator.digest(&eip712::voucher(&self.channel_id, signed));
        Signature::parse(&voucher.signature)
            .and_then(|signature| signature.verify(&digest, &config.payer_authorizer))
            .map_err(|_| Contradiction::Correction)?;
        Ok(Self { charged, balance: chain.balance, ..*self })
    }
}

/// Signs a promise as the channel's payer authorizer.
///
/// # Errors
/// [`SignatureError`] as [`SecretKey::sign`].
pub fn sign_voucher(
    key: &SecretKey,
    separator: &Separator,
    channel_id: [u8; 32],
    max_claimable_amount: u128,
) -> Result<Voucher, SignatureError> {
    let digest = separator.digest(&eip712::voucher(&channel_id, max_claimable_amount));
    let signature = hex::encode_0x(key.sign(&digest)?.as_bytes());
    Ok(Voucher { channel_id, max_claimable_amount, signature })
}

/// What a deposit by EIP-3009 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepositTerms {
    /// Names the channel.
    pub channel_id: [u8; 32],
    /// Atomic units.
    pub amount: u128,
    /// Unix seconds; valid strictly before.
    pub valid_before: u64,
    /// Random.
    pub salt: [u8; 32],
}

/// Signs a deposit by EIP-3009 as the channel's payer; `token` is the hash of the token's domain.
///
/// # Errors
/// [`SignatureError`] as [`SecretKey::sign`].
pub fn sign_deposit(
    key: &SecretKey,
    token: &Separator,
    terms: &DepositTerms,
) -> Result<Deposit, SignatureError> {
    let transfer = Transfer {
        from: key.address(),
        to: contracts::ERC3009_COLLECTOR,
        value: terms.amount,
        valid_after: 0,
        valid_before: terms.valid_before,
        nonce: erc3009_nonce(&terms.channel_id, &terms.salt),
    };
    let signature = key.sign(&token.digest(&eip712::receive_with_authorization(&transfer)))?;
    let authorization = DepositAuthorization::Erc3009(Erc3009Deposit {
        valid_after: transfer.valid_after,
        valid_before: transfer.valid_before,
        salt: terms.salt,
        signature: hex::encode_0x(signature.as_bytes()),
    });
    Ok(Deposit { amount: terms.amount, authorization })
}

#[cfg(test)]
mod tests {
    use super::{Contradiction as E, DepositTerms, OnChain, PayerChannel, sign_deposit, sign_voucher};
    use crate::eip712::batch_separator;
    use crate::secp::SecretKey;
    use crate::x402_exact::EvmToken;
    use serde_json::Value;
    use wire::x402::asset::default_token;
    use wire::x402::batch::{BatchPayload, ChannelState, ResponseExtra, VoucherState};

    const FLOWS: [&str; 3] = [
        include_str!("../../../../specs/vectors/x402/v2_batch_settlement_deposit.json"),
        include_str!("../../../../specs/vectors/x402/v2_batch_settlement_voucher.json"),
        include_str!("../../../../specs/vectors/x402/v2_batch_settlement_voucher2.json"),
    ];

    fn payload(flow: &Value) -> BatchPayload {
        BatchPayload::from_value(&flow["steps"][1]["decoded"]["payment-signature"]["payload"]).unwrap()
    }

    fn told(flow: &Value) -> ResponseExtra {
        let extra = &flow["steps"][1]["decoded"]["payment-response"]["extra"];
        ResponseExtra::from_extra(extra.as_object().unwrap()).unwrap()
    }

    fn flow(place: usize) -> Value {
        serde_json::from_str(FLOWS[place]).unwrap()
    }

    fn key() -> SecretKey {
        SecretKey::parse(flow(0)["payer"]["privateKey"].as_str().unwrap()).unwrap()
    }

    fn fresh() -> PayerChannel {
        PayerChannel { channel_id: payload(&flow(0)).voucher().channel_id, charged: 0, balance: 0 }
    }

    /// Three captured calls, signed by us: the same vouchers, the same deposit, and a seller who is believed.
    #[test]
    fn x402_27_a_payer_signs_what_the_reference_signs_and_believes_what_adds_up() {
        let known = default_token("eip155:84532").unwrap();
        let token = EvmToken::new(known.network, known.address, known.name, known.version).unwrap();
        let mut channel = fresh();
        for place in 0..3 {
            let flow = flow(place);
            let mut deposited = 0;
            let sent = payload(&flow);
            let promise = channel.promise(20_000).unwrap();
            let voucher = sign_voucher(&key(), &batch_separator(84532), channel.channel_id, promise).unwrap();
            assert_eq!(voucher, *sent.voucher());
            if let BatchPayload::Deposit { deposit, .. } = &sent {
                assert_eq!(channel.missing(20_000), 20_000);
                let wire::x402::batch::DepositAuthorization::Erc3009(authorization) = &deposit.authorization
                else {
                    panic!()
                };
                let terms = DepositTerms {
                    channel_id: channel.channel_id,
                    amount: 200_000,
                    valid_before: authorization.valid_before,
                    salt: authorization.salt,
                };
                assert_eq!(sign_deposit(&key(), token.separator(), &terms), Ok(deposit.clone()));
                deposited = deposit.amount;
            } else {
                assert_eq!(channel.missing(20_000), 0);
            }
            channel = channel.after_call(20_000, deposited, &told(&flow)).unwrap();
        }
        assert_eq!(channel, PayerChannel { charged: 5_574, balance: 200_000, ..fresh() });
        assert_eq!(channel.missing(194_427), 1);
    }

    #[test]
    fn x402_27_a_seller_who_contradicts_himself_gets_no_more() {
        let good = told(&flow(1));
        let before = PayerChannel { charged: 1_858, balance: 200_000, ..fresh() };
        let state = good.channel_state.unwrap();
        let with = |state: ChannelState| ResponseExtra { channel_state: Some(state), ..good.clone() };
        assert!(before.after_call(20_000, 0, &good).is_ok());
        for (what, told, expected) in [
            ("silence", ResponseExtra::default(), E::Channel),
            ("no charge", ResponseExtra { charged_amount: None, ..good.clone() }, E::Channel),
            ("another channel", with(ChannelState { channel_id: [1; 32], ..state }), E::Channel),
            (
                "too much",
                ResponseExtra { charged_amount: Some(20_001), ..good.clone() },
                E::Overcharged { charged: 20_001, amount: 20_000 },
            ),
            (
                "a sum that does not add up",
                with(ChannelState { charged_cumulative_amount: Some(3_717), ..state }),
                E::Sum { told: 3_717, expected: 3_716 },
            ),
            (
                "less in the channel",
                with(ChannelState { balance: 199_999, ..state }),
                E::Balance { told: 199_999, expected: 200_000 },
            ),
        ] {
            assert_eq!(before.after_call(20_000, 0, &told), Err(expected), "{what}");
        }
    }

    #[test]
    fn x402_29_a_correction_is_borne_out_or_refused() {
        let sent = payload(&flow(1));
        let state = told(&flow(1)).channel_state.unwrap();
        let promise = sent.voucher();
        let voucher = VoucherState {
            signed_max_claimable: promise.max_claimable_amount,
            signature: promise.signature.clone(),
        };
        let chain = OnChain { balance: 200_000, total_claimed: 0 };
        let check = |state: &ChannelState, voucher: &VoucherState, chain: &OnChain| {
            fresh().corrected(&batch_separator(84532), sent.channel_config(), state, voucher, chain)
        };
        let corrected = check(&state, &voucher, &chain).unwrap();
        assert_eq!((corrected.charged, corrected.balance), (3_716, 200_000));
        for (what, state, voucher, chain) in [
            (
                "more than was signed",
                ChannelState { charged_cumulative_amount: Some(21_859), ..state },
                voucher.clone(),
                chain,
            ),
            ("no sum", ChannelState { charged_cumulative_amount: None, ..state }, voucher.clone(), chain),
            ("less than was claimed", state, voucher.clone(), OnChain { total_claimed: 3_717, ..chain }),
            (
                "a sum he never signed",
                state,
                VoucherState { signed_max_claimable: 21_859, ..voucher.clone() },
                chain,
            ),
            ("no signature", state, VoucherState { signature: "0x".into(), ..voucher.clone() }, chain),
        ] {
            assert_eq!(check(&state, &voucher, &chain), Err(E::Correction), "{what}");
        }
        let elsewhere = ChannelState { channel_id: [1; 32], ..state };
        assert_eq!(check(&elsewhere, &voucher, &chain), Err(E::Channel));
    }
}
