//! What is called of a contract: promises are taken, and channels end. That of version 2 gives any part of a promise, that of
//! version 1 all of it.

use proof::voucher::{Channel, NotTaken, Signed};

use super::Made;
use crate::mpp::session::chain::{By, Calls, Decided, Ending, Ends};
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

    /// The end of version 2 takes any part of a promise. That of version 1 takes all of it: a payer who asks for his end
    /// signs one of what was used, and of what else he signed the rest is his here.
    pub(in crate::mpp::session) fn ends(
        &self,
        terms: &Terms,
        channel: &Channel<Signature>,
        by: &By,
        ends: Ends,
    ) -> Result<Ends, Refusal> {
        // The contract wants one, also where nothing more is taken by it.
        let Some(promise) = ends.promise else { return Err(told::not_closed(terms, NotTaken::Mismatch)) };
        if promise.max_claimable == ends.closing.capture || self.escrow().closes_in_part() {
            return Ok(ends);
        }
        match by {
            By::Voucher(_) => Err(told::not_in_part(&ends.closing)),
            By::Kept => Ok(Ends { closing: channel.closing_at(promise.max_claimable), ..ends }),
        }
    }

    pub(in crate::mpp::session) fn end(&self, id: &[u8; 32], decided: &Decided) -> Ending {
        let Some(signed) = decided.promise.as_ref().and_then(evm) else { return Ending::Impossible };
        let data = self.escrow().close_call(id, &self.descriptor(), &signed, decided.capture);
        Ending::By { calls: self.calls(data), taken: decided.capture }
    }
}

fn evm(promise: &Signed<Signature>) -> Option<Signed<[u8; 65]>> {
    match promise.signature {
        Signature::Evm(signature) => Some(Signed { max_claimable: promise.max_claimable, signature }),
        Signature::Solana(_) => None,
    }
}
