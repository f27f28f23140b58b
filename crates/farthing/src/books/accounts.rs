//! The chart of exported accounts (finance.md 9.1), from the names of internal ones (ledger.md 8.1).

use std::collections::HashMap;

use ledger::{AccountId, Chart};

/// Accounts whose name never changes.
const FIXED: [Chart; 7] = [
    Chart::UsageClearing,
    Chart::OverrunLoss,
    Chart::RefundPayable,
    Chart::FeesPassedOn,
    Chart::Promo,
    Chart::Suspense,
    Chart::Memo,
];

/// Names of the operator's internal accounts. An account without a name is a payer's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(HashMap<AccountId, String>);

impl Names {
    /// The names a store has written down. Those whose name never changes are known without it.
    pub(crate) fn new(known: impl IntoIterator<Item = (AccountId, String)>) -> Self {
        let usual = FIXED.map(|chart| (chart.id(), chart.name()));
        let networks = wire::x402::network::NETWORKS.iter().map(|network| format!("x402:{}", network.caip2));
        let rails = networks.chain(["test", "operator"].map(str::to_owned)).map(Chart::RailClearing);
        let rails = rails.map(|chart| (chart.id(), chart.name()));
        Self(usual.into_iter().chain(rails).chain(known).collect())
    }

    /// The internal name, for one of the operator's accounts.
    pub(super) fn get(&self, account: AccountId) -> Option<&str> {
        self.0.get(&account).map(String::as_str)
    }

    /// The account in the exported chart, in the style of hledger: `assets:psp:x402:eip155:8453`.
    pub(super) fn exported(&self, account: AccountId) -> String {
        self.get(account).map_or_else(|| "liabilities:credit".to_owned(), exported)
    }
}

/// Where an internal account of this name is exported to. A name without a place of its own is kept
/// visible below `equity:other`, so that the books still close.
fn exported(name: &str) -> String {
    let (family, detail) = name.split_once(':').unwrap_or((name, ""));
    match (family, detail) {
        ("rail_clearing", rail) => format!("assets:psp:{}", path(rail)),
        ("usage", _) => "income:usage".to_owned(),
        // Zero after every batch; only an export that ends inside one sees it.
        ("usage_clearing", _) => "equity:usage-clearing".to_owned(),
        ("overrun_loss" | "crash_undercharge", _) => "expenses:bad-debt".to_owned(),
        ("bank", _) => "assets:bank".to_owned(),
        ("provider_prepaid", upstream) => format!("assets:prepaid:{}", path(upstream)),
        ("refund_payable", _) => "liabilities:refund-payable".to_owned(),
        ("suspense_unknown", _) => "liabilities:suspense".to_owned(),
        ("tax", _) => "liabilities:tax".to_owned(),
        ("fees_passed_on", _) => "income:fees-passed-on".to_owned(),
        ("fx_spread", _) => "income:fx-spread".to_owned(),
        ("breakage", _) => "income:breakage".to_owned(),
        ("upstream_cost", upstream) => format!("expenses:cogs:{}", path(upstream)),
        ("rail_fee", _) => "expenses:psp-fee".to_owned(),
        ("fx_loss", _) => "expenses:fx-loss".to_owned(),
        ("chargeback", _) => "expenses:chargeback".to_owned(),
        ("promo", _) => "expenses:promo".to_owned(),
        ("fx", asset) => format!("equity:fx:{}", path(asset)),
        ("rounding", _) => "equity:rounding".to_owned(),
        _ => format!("equity:other:{}", path(name)),
    }
}

/// The internal account of a name, as far as this version knows it.
pub(super) fn chart_of(name: &str) -> Option<Chart> {
    Some(match name.split_once(':') {
        Some(("rail_clearing", rail)) => Chart::RailClearing(rail.to_owned()),
        Some(("usage", model)) => Chart::Usage(model.to_owned()),
        Some(("rail_fee", rail)) => Chart::RailFee(rail.to_owned()),
        Some(("fx", asset)) => Chart::Fx(money::Asset::from_name(asset)?),
        Some(_) => return None,
        None => FIXED.into_iter().find(|chart| chart.name() == name)?,
    })
}

/// Part of an account's name that comes from a configuration: no tool may read anything else into it.
fn path(text: &str) -> String {
    let parts = text.split(':').map(|part| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let part: String = part.chars().map(plain).collect();
        // beancount wants a letter or a digit first.
        if part.is_empty() || part.starts_with('-') { format!("x{part}") } else { part }
    });
    parts.collect::<Vec<_>>().join(":")
}

/// As beancount has it: each part starts with a capital or a digit (FIN-89).
pub(super) fn capitalised(account: &str) -> String {
    let parts = account.split(':').map(|part| {
        let mut letters = part.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    });
    parts.collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use ledger::{AccountId, Chart};

    use super::{Names, capitalised, chart_of, exported};

    #[test]
    fn chart_table() {
        for (internal, plain, beancount) in [
            ("rail_clearing:test", "assets:psp:test", "Assets:Psp:Test"),
            ("rail_clearing:x402:eip155:8453", "assets:psp:x402:eip155:8453", "Assets:Psp:X402:Eip155:8453"),
            ("usage:deepseek-v4-pro", "income:usage", "Income:Usage"),
            ("usage_clearing", "equity:usage-clearing", "Equity:Usage-clearing"),
            ("overrun_loss", "expenses:bad-debt", "Expenses:Bad-debt"),
            ("crash_undercharge", "expenses:bad-debt", "Expenses:Bad-debt"),
            ("bank", "assets:bank", "Assets:Bank"),
            ("provider_prepaid:openai", "assets:prepaid:openai", "Assets:Prepaid:Openai"),
            ("refund_payable", "liabilities:refund-payable", "Liabilities:Refund-payable"),
            ("suspense_unknown", "liabilities:suspense", "Liabilities:Suspense"),
            ("tax", "liabilities:tax", "Liabilities:Tax"),
            ("fees_passed_on", "income:fees-passed-on", "Income:Fees-passed-on"),
            ("fx_spread", "income:fx-spread", "Income:Fx-spread"),
            ("breakage", "income:breakage", "Income:Breakage"),
            ("upstream_cost:openai", "expenses:cogs:openai", "Expenses:Cogs:Openai"),
            ("rail_fee", "expenses:psp-fee", "Expenses:Psp-fee"),
            ("fx_loss", "expenses:fx-loss", "Expenses:Fx-loss"),
            ("chargeback", "expenses:chargeback", "Expenses:Chargeback"),
            ("fx:USD", "equity:fx:USD", "Equity:Fx:USD"),
            ("rounding", "equity:rounding", "Equity:Rounding"),
            ("new kind", "equity:other:new-kind", "Equity:Other:New-kind"),
            // Nothing that a tool could take for a comment, a second posting or an amount.
            ("rail_clearing:a  1 USD ;(x)\n:", "assets:psp:a--1-USD---x--:x", "Assets:Psp:A--1-USD---x--:X"),
        ] {
            assert_eq!(exported(internal), plain);
            assert_eq!(capitalised(plain), beancount);
        }
    }

    #[test]
    fn who_has_no_name_is_a_payer() {
        let names = Names::new([(AccountId([7; 16]), "usage:m".to_owned())]);
        assert_eq!(names.exported(AccountId([7; 16])), "income:usage");
        assert_eq!(names.exported(AccountId([8; 16])), "liabilities:credit");
        assert_eq!(names.exported(Chart::RailClearing("test".into()).id()), "assets:psp:test");
        assert_eq!(names.exported(Chart::OverrunLoss.id()), "expenses:bad-debt");
        for name in [
            "rail_clearing:x402:eip155:1",
            "usage:a:b",
            "usage_clearing",
            "overrun_loss",
            "refund_payable",
            "rail_fee:lightning",
            "fees_passed_on",
            "memo",
        ] {
            assert_eq!(chart_of(name).map(|chart| chart.name()).as_deref(), Some(name));
        }
        assert_eq!(chart_of("liabilities:credit"), None);
    }
}
