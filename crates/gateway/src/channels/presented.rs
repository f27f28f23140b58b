//! A payment from a channel as it arrives: genuine, for a channel that pays us, and made for this request.

use ledger::AccountRef;
use proof::x402_batch::{self, BatchError, GenuineVoucher, Offer};
use proof::x402_exact::Binding;
use sha2::{Digest, Sha256};
use wire::x402::batch::{BatchPayload, Deposit};
use wire::x402::v2;

use super::kept::Unit;
use crate::gate::Gate;
use crate::refusal::Refusal;

/// A genuine payment from a channel; where the channel stands is not looked at yet, and nothing is claimed.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    pub(crate) offer: Offer,
    pub(crate) payload: BatchPayload,
    pub(crate) voucher: GenuineVoucher,
    pub(crate) unit: Unit,
    /// What the payer says that he pays for: checked, and told back to him.
    pub(crate) resource: Option<v2::ResourceInfo>,
    pub(crate) top_up_url: String,
}

/// One of our offers that are paid from channels, and how its sums are counted.
pub(crate) struct Offered {
    pub(crate) offer: Offer,
    pub(crate) unit: Unit,
}

impl Presented {
    pub(crate) fn network(&self) -> &str {
        self.offer.token.network()
    }

    /// Who pays, as results and receipts name him.
    pub(crate) fn payer(&self) -> String {
        self.voucher.config.payer.to_string()
    }

    /// What comes into the channel by it.
    pub(crate) const fn deposit(&self) -> Option<&Deposit> {
        match &self.payload {
            BatchPayload::Deposit { deposit, .. } => Some(deposit),
            BatchPayload::Voucher { .. } | BatchPayload::Refund { .. } => None,
        }
    }
}

/// Checks a payment against our offers for this request. CPU only.
///
/// # Errors
/// [`BatchError`]; nothing was claimed.
pub(crate) fn verify(
    offered: Vec<Offered>,
    payment: &v2::PaymentPayload,
    binding: &Binding<'_>,
    top_up_url: String,
    now_s: u64,
) -> Result<Presented, BatchError> {
    let offers: Vec<Offer> = offered.iter().map(|offered| offered.offer.clone()).collect();
    let (offer, payload, voucher) = x402_batch::verify_v2(payment, &offers, binding, now_s)?;
    let unit = offered.iter().find(|offered| offered.offer == *offer).map(|offered| offered.unit);
    let unit = unit.ok_or(BatchError::PayloadType)?;
    let resource = payment.resource.clone();
    Ok(Presented { offer: offer.clone(), payload, voucher, unit, resource, top_up_url })
}

/// Looks a payment up that does not pay for this request as it stands: its quote may be over by now, what it was
/// charged, or what is on its way into the channel, is not. None: nobody has seen it.
///
/// # Errors
/// The store cannot be read, which must not look like a payment that nobody has seen.
pub(crate) fn again(
    gate: &Gate,
    offered: Vec<Offered>,
    payment: &v2::PaymentPayload,
    fingerprint: &[u8; 32],
    top_up_url: String,
) -> Result<Option<Presented>, Refusal> {
    let Some(payload) = BatchPayload::from_value(&payment.payload) else { return Ok(None) };
    let network = &payment.accepted.network;
    let genuine = |Offered { offer, unit }: Offered| {
        let is_here = offer.token.network() == network;
        let voucher = x402_batch::verify(&offer, payload.channel_config(), payload.voucher()).ok();
        voucher.filter(|_| is_here).map(|voucher| (offer, unit, voucher))
    };
    let Some((offer, unit, voucher)) = offered.into_iter().find_map(genuine) else { return Ok(None) };
    let resource = payment.resource.clone();
    let presented = Presented { offer, payload, voucher, unit, resource, top_up_url };
    let known = |key: &[u8; 32]| {
        let found =
            gate.store.reader().payment(key).map_err(|error| crate::payments::store_refusal(&error))?;
        Ok::<_, Refusal>(found.is_some())
    };
    let is_known = match (&presented.payload, presented.deposit().and_then(|_| presented.escrow_key())) {
        (BatchPayload::Refund { .. }, _) => gate.channels.find(&presented.voucher.channel_id).is_some(),
        (_, Some(key)) if known(&key)? => true,
        (BatchPayload::Deposit { .. } | BatchPayload::Voucher { .. }, _) => {
            match gate.channels.find(&presented.voucher.channel_id) {
                Some(slot) => known(&presented.key(slot.era(), fingerprint))?,
                None => false,
            }
        }
    };
    Ok(is_known.then_some(presented))
}

/// The account of the channel that a payment shows a voucher of, which nobody but its payer can know: he may read what
/// was paid from it. None for a voucher that stands in a claim on the chain.
pub(crate) async fn shown(
    gate: &Gate,
    offers: Vec<Offer>,
    payment: &v2::PaymentPayload,
) -> Option<AccountRef> {
    let payload = BatchPayload::from_value(&payment.payload)?;
    let voucher = payload.voucher();
    let slot = gate.channels.find(&voucher.channel_id)?;
    let ours = offers.iter().find(|offer| offer.token.contract() == &payload.channel_config().token)?;
    x402_batch::verify(ours, payload.channel_config(), voucher).ok()?;
    let kept = slot.lock().await;
    let max = voucher.max_claimable_amount;
    let is_public = max < kept.record.published_floor || kept.record.published.contains(&max);
    (!is_public).then(|| slot.account.clone())
}

impl Presented {
    /// Names what this voucher is charged for this request: the same voucher for another request is another matter,
    /// and after a refund of everything sums may come again (reference item 15).
    pub(crate) fn key(&self, era: u32, fingerprint: &[u8; 32]) -> [u8; 32] {
        Sha256::new_with_prefix(b"farthing/voucher/1")
            .chain_update(self.voucher.channel_id)
            .chain_update(era.to_be_bytes())
            .chain_update(self.voucher.signed.max_claimable.to_be_bytes())
            .chain_update(fingerprint)
            .finalize()
            .into()
    }

    /// The deposit key of what comes into the channel; none if it is not genuine.
    pub(crate) fn escrow_key(&self) -> Option<[u8; 32]> {
        // At a time when it was valid: whether it still settles is not asked.
        let deposit = self.deposit()?;
        let at = super::escrow::valid_at(deposit)?;
        let genuine = x402_batch::deposit::verify(&self.offer, &self.voucher, deposit, at).ok()?;
        Some(genuine.deposit_key)
    }
}
