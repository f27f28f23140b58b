//! Why a call cost what it did: computed again from what was written down about it, and compared with what the
//! journal took (MTR-51).

use ledger::{AccountId, Chart, Entry, asset_of_code};
use money::{Asset, FEMTO_PER_NANO, Femto, Rate};
use serde_json::{Map, Value, json};
use store::Op;

use super::office::{Office, OfficeError, usage};
use crate::call_id::CallId;
use crate::facts;
use crate::free_calls;
use crate::selling;

impl Office<'_> {
    /// Everything that made the amount of a call, by its id as headers or as the ledger show it.
    pub(super) async fn explain(&self, call: &str) -> Result<Value, OfficeError> {
        let id = call.parse::<CallId>().ok();
        let id = id.or_else(|| AccountId::from_hex(call).map(|id| CallId(id.0)));
        let id = id.ok_or_else(|| usage("a call is req_ and 32 hex digits"))?;
        // Charges are written just behind the answers: whoever has seen an answer can have it explained.
        self.store().commit(Op::Flush).await?;
        let reader = self.store().reader();
        let unknown = || {
            usage(
                "the store knows nothing of this call: it was refused, or its entry was rolled out of the store",
            )
        };
        let recorded = reader.facts(&id.0)?.ok_or_else(unknown)?;
        let recorded: Map<String, Value> = serde_json::from_slice(&recorded)
            .map_err(|_| usage("what is recorded of this call cannot be read: see farthing fsck"))?;
        Ok(explained(&recorded, reader.entry_of(&id.0)?.as_ref()))
    }
}

/// The bill once more.
struct Again {
    lines: Vec<Value>,
    /// Without the markup ...
    bare: Femto,
    /// ... and with it.
    cost: Femto,
    /// Rounded up.
    nano: i64,
}

/// What was recorded, what follows from it, and where the two differ.
fn explained(recorded: &Map<String, Value>, entry: Option<&(Entry, [u8; 32])>) -> Value {
    let mut differences = Vec::new();
    let again = computed(recorded);
    match &again {
        None => differences.push("the lines of the bill cannot be summed".to_owned()),
        Some(again) => compare_bill(recorded, again, &mut differences),
    }
    match entry {
        Some((entry, _)) => compare_entry(recorded, entry, &mut differences),
        None if charged(recorded) == Some(0) => {}
        None => differences.push("the journal has no entry of this charge".to_owned()),
    }
    let mut told = recorded.clone();
    told.remove("cost_femto_usd");
    if let Some(again) = again {
        let rounded = u128::try_from(again.nano).unwrap_or(0) * FEMTO_PER_NANO;
        told.insert("lines".into(), again.lines.into());
        told.insert("sum".into(), usd(again.bare));
        told.insert("cost".into(), usd(again.cost));
        told.insert("rounding".into(), usd(Femto::from_units(rounded.saturating_sub(again.cost.units()))));
    }
    if let Some((entry, hash)) = entry {
        told.insert("lsn".into(), entry.lsn.into());
        told.insert("entry_hash".into(), wire::hex::encode(hash).into());
        let leg = payer_leg(recorded, entry).and_then(|leg| Some((leg, asset_of_code(leg.asset)?.0)));
        if let Some((leg, asset)) = leg {
            told.insert("balance_after".into(), facts::amount(leg.balance_after, asset));
        }
    }
    told.insert("agrees".into(), differences.is_empty().into());
    told.insert("differences".into(), differences.into());
    Value::Object(told)
}

fn usd(femto: Femto) -> Value {
    json!({"amount": selling::femto_text(femto), "currency": Asset::Usd.name()})
}

/// Every line times its rate, the markup, and the one rounding (MTR-43).
fn computed(recorded: &Map<String, Value>) -> Option<Again> {
    let mut bare = Femto::ZERO;
    let mut lines = Vec::new();
    for line in recorded.get("lines")?.as_array()? {
        let (quantity, rate) =
            (line["quantity"].as_u64()?, Rate::from_femto(line["rate_femto_usd"].as_u64()?));
        let cost = Femto::ZERO.add_units(quantity, rate).ok()?;
        bare = bare.plus(cost).ok()?;
        lines.push(json!({
            "bucket": line["bucket"], "quantity": quantity, "cost": usd(cost),
            "rate": {"amount": selling::usd(rate, 0), "currency": Asset::Usd.name()},
        }));
    }
    let cost = bare.marked_up(facts::markup(recorded.get("markup_bp")?)?).ok()?;
    Some(Again { lines, bare, cost, nano: cost.to_nano_up().ok()?.units() })
}

fn compare_bill(recorded: &Map<String, Value>, again: &Again, differences: &mut Vec<String>) {
    let said = recorded.get("cost_femto_usd").and_then(Value::as_str).and_then(|text| text.parse().ok());
    if said != Some(again.cost.units()) {
        differences.push(format!(
            "the lines come to {} USD, the recorded cost is {} USD",
            selling::femto_text(again.cost),
            said.map_or("unreadable".to_owned(), |said| selling::femto_text(Femto::from_units(said)))
        ));
    }
    let taken = charged(recorded).zip(nano(recorded, "overrun")).and_then(|(a, b)| a.checked_add(b));
    if recorded.get("protocol").and_then(Value::as_str) == Some(free_calls::PROTOCOL) {
        if taken != Some(0) {
            differences.push("the call was given away, and something was taken for it".to_owned());
        }
    } else if recorded.get("unpriced") == Some(&Value::Bool(true)) {
        if taken != nano(recorded, "held") {
            differences.push("nothing could be priced, and what was charged is not what was held".to_owned());
        }
    } else if let Some(most) = nano(recorded, "capped_at") {
        // Neither an estimate nor a report is cut to less than was held.
        let from_hold = nano(recorded, "held").is_some_and(|held| most >= held);
        if !from_hold || taken != Some(most) || most >= again.nano {
            differences.push("the bill was cut, and something else was charged".to_owned());
        }
    } else if taken != Some(again.nano) {
        differences.push(format!(
            "the cost rounds up to {} nano, {} were charged or lost",
            again.nano,
            taken.map_or("an unreadable number".to_owned(), |taken| taken.to_string())
        ));
    }
}

fn compare_entry(recorded: &Map<String, Value>, entry: &Entry, differences: &mut Vec<String>) {
    let taken = payer_leg(recorded, entry).map_or(Some(0), |leg| leg.amount.units().checked_neg());
    if taken != charged(recorded) {
        differences.push("the journal took another amount from the payer".to_owned());
    }
    let loss = Chart::OverrunLoss.id();
    let lost = entry.legs.iter().find(|leg| leg.account == loss).map_or(0, |leg| leg.amount.units());
    if lost.checked_neg() != nano(recorded, "overrun") {
        differences.push("the journal has another loss for the operator".to_owned());
    }
    let text = |name: &str| recorded.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("cost_femto_usd") != entry.draft.cost_femto.to_string() {
        differences.push("the journal has another exact cost".to_owned());
    }
    let version = text("price_version").get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    if version != Some(entry.draft.price_version) {
        differences.push("the journal names another price list".to_owned());
    }
    if recorded.get("estimated") != Some(&Value::Bool(entry.draft.flags.estimated)) {
        differences.push("the journal does not agree on whether it was estimated".to_owned());
    }
}

/// The leg of the account that paid, budgets apart.
fn payer_leg<'e>(recorded: &Map<String, Value>, entry: &'e Entry) -> Option<&'e ledger::Leg> {
    let account = recorded.get("account")?.as_str().and_then(AccountId::from_hex)?;
    let money = |leg: &&ledger::Leg| asset_of_code(leg.asset).is_some_and(|(_, memo)| !memo);
    entry.legs.iter().filter(money).find(|leg| leg.account == account)
}

fn charged(recorded: &Map<String, Value>) -> Option<i64> {
    nano(recorded, "charged")
}

/// Ledger units of a recorded amount.
fn nano(recorded: &Map<String, Value>, name: &str) -> Option<i64> {
    let amount = recorded.get(name)?;
    let asset = Asset::from_name(amount["currency"].as_str()?)?;
    let units = money::Decimal::parse(amount["amount"].as_str()?).ok()?.exact(asset.exponent())?;
    i64::try_from(units).ok()
}

#[cfg(test)]
mod tests {
    use ledger::{AccountId, Chart, Draft, Entry, Flags, Kind, Leg, leg_asset};
    use money::{Amount, Asset};
    use serde_json::{Map, Value, json};

    use super::explained;

    /// 10 x 1000 and 5 x 4000.0002 nano, and a fifth more: 36,000.0012 nano.
    fn recorded() -> Map<String, Value> {
        let usd = |amount: &str| json!({"amount": amount, "currency": "USD"});
        let whole = json!({
            "account": "07".repeat(16), "markup_bp": 2000, "unpriced": false, "estimated": false,
            "lines": [{"bucket": "input", "quantity": 10, "rate_femto_usd": 1_000_000_000},
                      {"bucket": "output", "quantity": 5, "rate_femto_usd": 4_000_000_200_u64}],
            "cost_femto_usd": "36000001200", "held": usd("0.001000000"), "charged": usd("0.000030001"),
            "overrun": usd("0.000006000"), "price_version": "0a0b0c0d99",
        });
        whole.as_object().cloned().unwrap()
    }

    fn entry() -> Entry {
        let leg = |account, amount| Leg {
            account,
            asset: leg_asset(Asset::Usd),
            amount: Amount::from_units(amount),
            balance_after: Amount::from_units(500),
        };
        let legs = vec![
            leg(AccountId([7; 16]), -30_001),
            leg(Chart::OverrunLoss.id(), -6_000),
            leg(Chart::UsageClearing.id(), 36_001),
        ];
        let draft = Draft {
            kind: Kind::Capture,
            flags: Flags::default(),
            time_ms: 1,
            id: [1; 16],
            key: [0; 32],
            reference: String::new(),
            corrects: [0; 16],
            price_version: 0x0a0b_0c0d,
            cost_femto: 36_000_001_200,
            legs: Vec::new(),
        };
        Entry { lsn: 3, previous: [0; 32], draft, legs }
    }

    #[test]
    fn a_bill_is_computed_again_to_the_nano() {
        let told = explained(&recorded(), Some(&(entry(), [9; 32])));
        assert_eq!((&told["agrees"], &told["differences"]), (&json!(true), &json!([])));
        assert_eq!(told["lines"][1]["rate"]["amount"], "0.0000040000002");
        assert_eq!(told["lines"][1]["cost"]["amount"], "0.000020000001");
        assert_eq!(told["sum"]["amount"], "0.000030000001");
        assert_eq!(told["cost"]["amount"], "0.0000360000012");
        assert_eq!(told["rounding"]["amount"], "0.0000000009988", "up to 36,001 nano");
        assert_eq!((&told["lsn"], &told["balance_after"]["amount"]), (&json!(3), &json!("0.000000500")));
    }

    /// Whatever is changed, somebody finds it.
    #[test]
    fn every_change_is_found() {
        type Change = fn(&mut Map<String, Value>, &mut Entry);
        let table: [(&str, Change); 12] = [
            ("rate", |facts, _| facts["lines"][0]["rate_femto_usd"] = json!(1_000_000_001)),
            ("quantity", |facts, _| facts["lines"][1]["quantity"] = json!(6)),
            ("line", |facts, _| facts["lines"] = json!([])),
            ("unreadable", |facts, _| facts["lines"][0]["quantity"] = json!(-1)),
            ("markup", |facts, _| facts["markup_bp"] = json!(1999)),
            ("charged", |facts, _| facts["charged"]["amount"] = json!("0.000030002")),
            ("loss", |facts, _| facts["overrun"]["amount"] = json!("0.000000000")),
            ("version", |facts, _| facts["price_version"] = json!("0a0b0c0e")),
            ("estimate", |facts, _| facts["estimated"] = json!(true)),
            ("entry's payer", |_, entry| entry.legs[0].amount = Amount::from_units(-30_002)),
            ("entry's loss", |_, entry| entry.legs[1].amount = Amount::from_units(-5_999)),
            ("entry's cost", |_, entry| entry.draft.cost_femto += 1),
        ];
        for (what, change) in table {
            let (mut facts, mut entry) = (recorded(), entry());
            change(&mut facts, &mut entry);
            let told = explained(&facts, Some(&(entry, [9; 32])));
            assert_eq!(told["agrees"], false, "{what}");
        }
        assert_eq!(explained(&recorded(), None)["agrees"], false, "a charge without an entry");
    }

    /// A bill is cut to what was held or more, never to less, and only down.
    #[test]
    fn a_bill_may_be_cut() {
        for (held, charged, cut, agrees) in [
            ("0.000030000", "0.000030000", "0.000030000", true),
            ("0.000030000", "0.000033000", "0.000033000", true),
            ("0.000030000", "0.000029999", "0.000029999", false),
            ("0.000030000", "0.000033000", "0.000030000", false),
            ("0.000030000", "0.000036001", "0.000036001", false),
            ("0.000036002", "0.000030000", "0.000030000", false),
        ] {
            let (mut facts, mut entry) = (recorded(), entry());
            facts["held"]["amount"] = json!(held);
            facts["charged"]["amount"] = json!(charged);
            facts["overrun"]["amount"] = json!("0.000000000");
            facts.insert("capped_at".into(), json!({"amount": cut, "currency": "USD"}));
            let units = super::nano(&facts, "charged").unwrap();
            entry.legs[0].amount = Amount::from_units(-units);
            entry.legs[1].amount = Amount::ZERO;
            let told = explained(&facts, Some(&(entry, [9; 32])));
            assert_eq!(told["agrees"], agrees, "{held} {charged}: {}", told["differences"]);
        }
    }

    /// What could not be priced was charged as it was held, and what was free is in no journal.
    #[test]
    fn what_has_no_bill() {
        let mut facts = recorded();
        facts["lines"] = json!([]);
        facts["cost_femto_usd"] = json!("0");
        facts["unpriced"] = json!(true);
        let mut charge = entry();
        charge.draft.cost_femto = 0;
        facts["held"]["amount"] = json!("0.000036001");
        assert_eq!(explained(&facts, Some(&(charge.clone(), [9; 32])))["agrees"], true);
        facts["held"]["amount"] = json!("0.000036000");
        assert_eq!(explained(&facts, Some(&(charge, [9; 32])))["agrees"], false);
        facts["unpriced"] = json!(false);
        facts["charged"]["amount"] = json!("0.000000000");
        facts["overrun"]["amount"] = json!("0.000000000");
        assert_eq!(explained(&facts, None)["agrees"], true);
    }
}
