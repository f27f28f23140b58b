//! How much may be served on permits that are settled afterwards (X402-21).
//!
//! The chain does not stop ten permits that are backed by the money of one: until they settle, what they promise is
//! our own risk, and this bounds it per payer.

/// What a payer's tokens allow, as we saw it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Funds {
    /// What he has.
    pub balance: u128,
    /// What Permit2 may move of it.
    pub allowance: u128,
}

/// What is open between a payer and us. All in atomic units of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Ceilings of permits that are served and not settled.
    pub pending: u128,
    /// The operator's limit for this payer; a smaller one for a payer without history.
    pub limit: u128,
    /// `None`: nobody looked.
    pub funds: Option<Funds>,
}

impl Exposure {
    /// Whether one more permit of this ceiling may be served before it is settled.
    #[must_use]
    pub fn takes(&self, ceiling: u128) -> bool {
        let Some(open) = self.pending.checked_add(ceiling) else { return false };
        open <= self.limit && self.funds.is_none_or(|funds| open <= funds.balance.min(funds.allowance))
    }
}

#[cfg(test)]
mod tests {
    use super::{Exposure, Funds};
    use proptest::prelude::*;

    #[test]
    fn x402_21_takes_table() {
        let exposure = |pending, limit, funds: Option<(u128, u128)>| Exposure {
            pending,
            limit,
            funds: funds.map(|(balance, allowance)| Funds { balance, allowance }),
        };
        for (what, exposure, ceiling, expected) in [
            ("within everything", exposure(10, 100, Some((100, 100))), 90, true),
            ("above the limit", exposure(10, 99, Some((1_000, 1_000))), 90, false),
            ("above the balance", exposure(10, 1_000, Some((99, 1_000))), 90, false),
            ("above the allowance", exposure(10, 1_000, Some((1_000, 99))), 90, false),
            ("nobody looked", exposure(10, 100, None), 90, true),
            ("nobody looked, above the limit", exposure(10, 100, None), 91, false),
            ("no limit set", exposure(0, 0, None), 1, false),
            ("beyond any sum", exposure(1, u128::MAX, None), u128::MAX, false),
        ] {
            assert_eq!(exposure.takes(ceiling), expected, "{what}");
        }
    }

    proptest! {
        /// A3: however many permits a payer signs on the same money, what is served on them stays within it and
        /// within the limit.
        #[test]
        fn a3_permits_backed_by_the_same_money_are_served_once(
            ceilings in proptest::collection::vec(1u128..50_000, 50),
            (limit, balance, allowance) in (0u128..200_000, 0u128..200_000, 0u128..200_000),
        ) {
            let mut open = Exposure { pending: 0, limit, funds: Some(Funds { balance, allowance }) };
            for ceiling in ceilings {
                if open.takes(ceiling) {
                    open.pending += ceiling;
                }
            }
            prop_assert!(open.pending <= limit.min(balance).min(allowance));
        }
    }
}
