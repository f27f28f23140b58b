//! What is called of a contract: promises are taken, and channels end. That of version 2 gives any part of a promise, that of
//! version 1 all of it.

use proof::voucher::{Channel, NotTaken, Signed};
use store::ChannelClose;

use super::Made;
use crate::mpp::session::chain::{By, Calls, Ending, Ends, Forced};
use crate::mpp::session::{Signature, Terms, told};
use crate::refusal::Refusal;

impl Made {
    fn calls(&self, data: Vec<u8>) -> Calls {
        Calls::Evm { to: self.escrow, data }
    }

    pub(in crate::mpp::session) fn settle(
        &self,
        id: &[u8; 32],
        promise: &Signed<Signature>,
    ) -> Option<Calls> {
        let signed = evm(promise)?;
        Some(self.calls(self.escrow().settle_call(id, &self.descriptor(), &signed)))
    }

    /// The end of version 2 takes any part of a promise, that of version 1 all of it.
    pub(in crate::mpp::session) fn ends(
        &self,
        terms: &Terms,
        channel: &Channel<Signature>,
        by: &By,
    ) -> Result<Ends, Refusal> {
        let signed = match by {
            By::Voucher(signed) => *signed,
            By::UsedUp => channel.settleable().ok_or_else(|| told::not_closed(terms, NotTaken::Mismatch))?,
        };
        let closing = channel.close(signed.max_claimable).map_err(|error| told::not_closed(terms, error))?;
        if signed.max_claimable == closing.capture || self.escrow().closes_in_part() {
            Ok(Ends { closing, promise: Some(signed) })
        } else {
            Err(told::not_in_part(&closing))
        }
    }

    pub(in crate::mpp::session) fn forced(&self, channel: &Channel<Signature>) -> Option<Forced> {
        if !self.escrow().closes_in_part() {
            return Some(Forced::Settle);
        }
        channel.newest.map(|newest| Forced::End(By::Voucher(newest)))
    }

    pub(in crate::mpp::session) fn end(
        &self,
        id: &[u8; 32],
        closing: &ChannelClose,
        promise: Option<&Signed<Signature>>,
    ) -> Ending {
        let Some(signed) = promise.and_then(evm) else { return Ending::Impossible };
        let data = self.escrow().close_call(id, &self.descriptor(), &signed, closing.capture);
        Ending::By { calls: self.calls(data), taken: closing.capture }
    }
}

fn evm(promise: &Signed<Signature>) -> Option<Signed<[u8; 65]>> {
    match promise.signature {
        Signature::Evm(signature) => Some(Signed { max_claimable: promise.max_claimable, signature }),
        Signature::Solana(_) => None,
    }
}
