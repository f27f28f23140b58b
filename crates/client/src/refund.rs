//! Asking a seller for what is left in a channel.
//!
//! The voucher that asks promises nothing beyond what was charged, so asking twice gives nothing away. What a seller
//! does not give back can be withdrawn on the chain when the channel's delay is over.

use http::{HeaderName, HeaderValue, StatusCode};
use wire::hex;
use wire::x402::exact::decimal;

use crate::challenge::Said;
use crate::channel::{self, Channel};
use crate::client::{Client, See};
use crate::error::CallError;
use crate::offer::{Offer, Way};
use crate::payment::{Chance, Payment};
use crate::verdict;
use crate::{Request, printable};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refunded {
    /// The channel afterwards.
    pub channel: Channel,
    /// Atomic units that were given back, as the seller says; `None` if he does not.
    pub amount: Option<u128>,
    /// Transaction hash, as the seller says.
    pub transaction: String,
}

/// Why nothing was asked, or nothing came back. What is in the channel stays the payer's.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    /// As for any call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No file of that name.
    #[error("no channel {0} is kept here, or a call with it is on its way")]
    Unknown(String),
    /// A call that it pays is not ended.
    #[error("a call that the channel pays has no known end: run that command again first")]
    InFlight,
    /// The seller asks for no payment from such a channel at this address.
    #[error(
        "{0} offers nothing that this channel pays, so no refund can be asked for there: name another --url"
    )]
    NoOffer(String),
    /// The seller says no, or nothing.
    #[error(
        "the seller answered {status} {code}: nothing is known to have come back; what is free can be withdrawn on the chain"
    )]
    Refused {
        /// The answer.
        status: StatusCode,
        /// What it says.
        code: String,
    },
}

impl Client {
    /// Asks for everything that is left in a channel, by way of a request that it could pay. The request itself is not
    /// made.
    ///
    /// # Errors
    /// [`RefundError`]
    pub async fn refund(
        &self,
        request: &Request,
        name: &str,
        see: &mut See<'_>,
    ) -> Result<Refunded, RefundError> {
        let wallet = self.wallet.as_ref().ok_or(CallError::NoWallet { price: None })?;
        let folder = self.folder.as_ref().ok_or(CallError::NoFolder)?;
        let origin = request.target.origin_text();
        if !request.target.may_carry_credentials() {
            return Err(CallError::ClearText(origin).into());
        }
        let held = channel::hold_named(folder, name).await.map_err(CallError::from)?;
        let mut held = held.ok_or_else(|| RefundError::Unknown(printable(name)))?;
        if held.channel.is_in_flight() {
            return Err(RefundError::InFlight);
        }
        let network = |error: crate::connection::SendError| CallError::Network(error.to_string());
        let answer = self.ask(request, &[], see).await.map_err(network)?;
        if answer.status != StatusCode::PAYMENT_REQUIRED {
            return Err(RefundError::NoOffer(request.target.url()));
        }
        let challenge = self.read_challenge(answer, see).await?;
        let pays = |offer: &&Offer| match offer.terms.as_ref().map(|terms| &terms.way) {
            Ok(Way::Channel(channel)) => held.channel.serves(&origin, channel, wallet),
            Ok(Way::Transfer(_) | Way::Permit { .. } | Way::Solana(_) | Way::Invoice(_)) | Err(_) => false,
        };
        let offer = challenge.offers.iter().find(pays);
        let offer = offer.ok_or_else(|| RefundError::NoOffer(request.target.url()))?;
        let payload = held.channel.ask_back(wallet).map_err(CallError::from)?;
        let payment = Payment::of_channel(&challenge, offer, &payload, &Chance::draw()?, u64::MAX)
            .map_err(CallError::from)?;
        let credential: (HeaderName, HeaderValue) = (payment.name.clone(), payment.value.clone());
        let answer = self.ask(request, &[credential], see).await.map_err(network)?;
        let told = verdict::result(&answer.headers, offer.network());
        let status = answer.status;
        let Some(told) = told.filter(|_| status.is_success()) else {
            let body = answer.body.collect(crate::challenge::BODY_BYTES_MAX).await.unwrap_or_default();
            return Err(RefundError::Refused { status, code: Said::parse(&body).code });
        };
        let state = told.channel.and_then(|told| told.channel_state);
        let amount = told.amount.as_deref().and_then(decimal);
        let state = state.filter(|state| hex::encode_0x(&state.channel_id) == name);
        let back = amount.or_else(|| Some(held.channel.balance.saturating_sub(state?.balance)));
        held.refunded(back.unwrap_or_default(), state.as_ref()).map_err(CallError::from)?;
        Ok(Refunded { channel: held.channel.clone(), amount, transaction: told.transaction })
    }
}
