//! What is called of the program: promises are taken, and channels end. It gives no part of a promise.

use proof::voucher::solana::SolanaSignature;
use proof::voucher::{Channel, Closing, Signed};
use rails::AtAddress;
use wire::mpp::solana::{ChannelAccount, Status};

use super::{Made, Solana};
use crate::mpp::session::chain::{By, Calls, Ending, Ends};
use crate::mpp::session::{Signature, Terms, told};
use crate::refusal::Refusal;

impl Made {
    /// Takes a promise, and pays the payee what it brings: taking alone only moves a mark.
    pub(in crate::mpp::session) async fn settle(
        &self,
        solana: &Solana,
        id: &[u8; 32],
        promise: &Signed<Signature>,
    ) -> Option<Calls> {
        let account = self.account(solana, id).await??;
        let (program, channel) = (self.program(), self.descriptor());
        let mut calls = program.settle(&channel, id, &ed25519_of(promise)?)?;
        calls.extend(program.pay(&channel, id, account.rent_payer)?);
        Some(Calls::Solana(calls))
    }

    /// Where it stands decides what is called: nothing is taken any more of one that was sealed, by whomever.
    pub(in crate::mpp::session) async fn end(
        &self,
        solana: &Solana,
        id: &[u8; 32],
        promise: Option<&Signed<Signature>>,
        now_s: u64,
    ) -> Option<Ending> {
        // A node that was behind may not see it yet, and one that has ended was taken from as was decided, or the next look
        // tells.
        let Some(account) = self.account(solana, id).await? else { return Some(Ending::Impossible) };
        let (program, channel, rent) = (self.program(), self.descriptor(), account.rent_payer);
        let settled = u128::from(account.settled);
        let over = |calls: Option<_>| Some(Ending::By { calls: Calls::Solana(calls?), taken: settled });
        match account.status {
            Status::Distributed => Some(Ending::Over { taken: settled }),
            Status::Sealed => over(program.pay(&channel, id, rent)),
            Status::Closing if self.has_waited(&account, now_s) => {
                let pay = program.pay(&channel, id, rent)?;
                over(Some([vec![program.seal(id)], pay].concat()))
            }
            Status::Open | Status::Closing => {
                let promise = promise.filter(|promise| promise.max_claimable > settled);
                let signed = match promise {
                    Some(promise) => Some(ed25519_of(promise)?),
                    None => None,
                };
                let calls = program.close(&channel, id, rent, signed.as_ref())?;
                let taken = promise.map_or(settled, |promise| promise.max_claimable);
                Some(Ending::By { calls: Calls::Solana(calls), taken })
            }
        }
    }

    /// Whether its payer has waited for as long as he has to: from then on nothing is taken.
    const fn has_waited(&self, account: &ChannelAccount, now_s: u64) -> bool {
        let since = if account.closing_since > 0 { account.closing_since.cast_unsigned() } else { 0 };
        now_s >= since.saturating_add(account.grace_s as u64)
    }

    /// None: the node does not say; then none: there is no channel.
    async fn account(&self, solana: &Solana, id: &[u8; 32]) -> Option<Option<Box<ChannelAccount>>> {
        Some(match solana.node.channel(&self.program, id).await? {
            AtAddress::Channel(account) => Some(account),
            AtAddress::Nothing | AtAddress::Other => None,
        })
    }
}

/// The program gives no part of a promise: a channel ends by one of just what was used, or by none if that was taken before.
/// What a payer who withdraws has signed no such promise for is lost.
pub(in crate::mpp::session) fn ends(
    terms: &Terms,
    channel: &Channel<Signature>,
    by: &By,
    now_s: u64,
) -> Result<Ends, Refusal> {
    let taken = channel.mirror.total_claimed;
    match by {
        By::Voucher(signed) => {
            let closing =
                channel.close(signed.max_claimable).map_err(|error| told::not_closed(terms, error))?;
            if closing.capture == taken {
                Ok(Ends { closing, promise: None })
            } else if closing.capture == signed.max_claimable {
                Ok(Ends { closing, promise: Some(*signed) })
            } else {
                Err(told::not_in_part(&closing))
            }
        }
        By::UsedUp => {
            let is_good =
                |promise: &Signed<Signature>| promise.signature.ends_at().is_none_or(|end| end > now_s);
            let promise = channel.settleable().filter(is_good);
            let capture = promise.map_or(taken, |promise| promise.max_claimable);
            let refund = channel.mirror.balance.saturating_sub(capture);
            Ok(Ends { closing: Closing { capture, refund }, promise })
        }
    }
}

fn ed25519_of(promise: &Signed<Signature>) -> Option<Signed<SolanaSignature>> {
    match promise.signature {
        Signature::Solana(signature) => Some(Signed { max_claimable: promise.max_claimable, signature }),
        Signature::Evm(_) => None,
    }
}
