//! What is called of the program: promises are taken, and channels end. It gives no part of a promise, so an end sends back
//! what it took too much.

use proof::voucher::Signed;
use proof::voucher::solana::SolanaSignature;
use proof::voucher::solana_channel::Payout;
use rails::{AtAddress, TokensAt};
use wire::mpp::solana::{ChannelAccount, Status};

use super::{Made, Solana};
use crate::mpp::session::Signature;
use crate::mpp::session::chain::{Calls, Decided, Ending};

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

    /// Where it stands decides what is called: nothing is taken any more of one that was sealed, by whomever. What the last
    /// promise brings beyond what is ours goes back in the same transaction, so that both are done once, or neither. It is
    /// never more than that promise brings, so that what we have beside it is not touched.
    pub(in crate::mpp::session) async fn end(
        &self,
        solana: &Solana,
        id: &[u8; 32],
        decided: &Decided,
        now_s: u64,
    ) -> Option<Ending> {
        // A node that was behind may not see it yet, and one that has ended was taken from as was decided, or the next look
        // tells.
        let Some(account) = self.account(solana, id).await? else { return Some(Ending::Impossible) };
        let (program, channel, rent) = (self.program(), self.descriptor(), account.rent_payer);
        let settled = u128::from(account.settled);
        if account.status == Status::Distributed {
            return Some(Ending::Over { taken: settled });
        }
        let payers = program.token_account(&channel, &self.payer)?;
        let tokens = solana.node.tokens(program.token.address(), &payers).await?;
        let decimals = u8::try_from(decided.decimals).ok()?;
        let payout = Payout { creates_account: tokens == TokensAt::Nothing, back: 0, decimals };
        let over = |calls: Option<_>| Some(Ending::By { calls: Calls::Solana(calls?), taken: settled });
        match account.status {
            Status::Sealed | Status::Distributed => over(program.pay_out(&channel, id, rent, &payout)),
            Status::Closing if self.has_waited(&account, now_s) => {
                let pay = program.pay_out(&channel, id, rent, &payout)?;
                over(Some([vec![program.seal(id)], pay].concat()))
            }
            Status::Open | Status::Closing => {
                let promise = decided.shown(settled, tokens != TokensAt::Refused, now_s);
                let signed = match &promise {
                    Some(promise) => Some(ed25519_of(promise)?),
                    None => None,
                };
                let brings = promise.map_or(settled, |promise| promise.max_claimable);
                let taken = decided.capture.clamp(settled, brings);
                let payout = Payout { back: brings.saturating_sub(taken), ..payout };
                let calls = program.close(&channel, id, rent, signed.as_ref(), &payout)?;
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

impl Decided {
    /// What is shown to a chain where so much was taken by now: as was decided, or if that is over, or nothing could go back
    /// to an account that is frozen, the best of what else there is.
    fn shown(&self, settled: u128, can_give_back: bool, now_s: u64) -> Option<Signed<Signature>> {
        let is_good = |promise: &Signed<Signature>| {
            let fits = can_give_back || promise.max_claimable <= self.capture;
            fits && promise.max_claimable > settled && promise.signature.is_good(now_s)
        };
        if self.capture <= settled {
            return None;
        }
        self.promise.filter(is_good).or_else(|| self.kept.promise_for(self.capture, is_good))
    }
}

fn ed25519_of(promise: &Signed<Signature>) -> Option<Signed<SolanaSignature>> {
    match promise.signature {
        Signature::Solana(signature) => Some(Signed { max_claimable: promise.max_claimable, signature }),
        Signature::Evm(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proof::voucher::solana::SolanaSignature;
    use proof::voucher::{Channel, Mirror, Signed};

    use super::Decided;
    use crate::mpp::session::Signature;

    fn signed(max_claimable: u128, expires_at: i64) -> Signed<Signature> {
        let signature = Signature::Solana(SolanaSignature { bytes: [1; 64], expires_at });
        Signed { max_claimable, signature }
    }

    /// What was decided is shown, unless it is over, or brings nothing, or nothing can go back of it.
    #[test]
    fn eng_4_what_is_shown_to_the_chain() {
        let mirror = Mirror {
            balance: 1_000,
            total_claimed: 0,
            withdrawing: 0,
            withdraw_requested_at: 0,
            refund_nonce: [0; 32],
            synced_at_s: 0,
        };
        // One that is used up, one that covers what was used, and a newer one that does so too.
        let kept = Channel {
            earlier: vec![signed(200, 0), signed(400, 2_000)],
            newest: Some(signed(900, 0)),
            ..Channel::opened(mirror)
        };
        let decided = Decided { capture: 300, promise: Some(signed(500, 1_000)), kept, decimals: 6 };
        for (what, settled, can_give_back, now_s, expected) in [
            ("as was decided", 0, true, 999, Some(500)),
            ("that is over", 0, true, 1_000, Some(400)),
            ("and the next too", 0, true, 2_000, Some(900)),
            ("nothing can go back", 0, false, 999, Some(200)),
            ("and what is used up was shown", 200, false, 999, None),
            ("somebody has shown a part", 250, true, 999, Some(500)),
            ("somebody has shown more than was used", 400, true, 999, None),
            ("all that is ours was taken", 300, true, 999, None),
        ] {
            let shown = decided.shown(settled, can_give_back, now_s);
            assert_eq!(shown.map(|promise| promise.max_claimable), expected, "{what}");
        }
    }
}
