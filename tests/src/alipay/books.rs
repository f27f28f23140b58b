//! Trades and refunds as Alipay keeps them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::yuan;

/// One trade.
#[derive(Clone, Debug)]
pub struct Trade {
    /// What it is about.
    pub fen: u64,
    /// What the payer is shown.
    pub subject: String,
    /// Where its notices go.
    pub notify_url: Option<String>,
    /// Alipay's number: there is one as soon as somebody has scanned the code.
    pub trade_no: Option<String>,
    /// `TRADE_SUCCESS`.
    pub status: &'static str,
    /// By `out_request_no`.
    pub refunds: BTreeMap<String, Refund>,
}

/// One refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// What goes back.
    pub fen: u64,
    /// Whether it has gone.
    pub moved: bool,
}

impl Trade {
    /// All that has gone back, or will.
    pub fn refunded(&self) -> u64 {
        self.refunds.values().map(|refund| refund.fen).sum()
    }

    fn is_paid(&self) -> bool {
        matches!(self.status, "TRADE_SUCCESS" | "TRADE_FINISHED")
    }
}

#[derive(Default)]
pub(super) struct Books {
    pub(super) trades: BTreeMap<String, Trade>,
}

impl Books {
    /// The object that answers a call.
    pub(super) fn answer(
        &mut self,
        method: &str,
        content: &Value,
        notify_url: Option<&str>,
        moves_at_once: bool,
    ) -> Value {
        let number = text(content, "out_trade_no").to_owned();
        let mut body = match method {
            "alipay.trade.precreate" => self.precreate(&number, content, notify_url),
            "alipay.trade.query" => self.query(&number),
            "alipay.trade.close" => self.close(&number),
            "alipay.trade.refund" => self.refund(&number, content, moves_at_once),
            "alipay.trade.fastpay.refund.query" => self.refund_query(&number, content),
            _ => {
                return json!({"code": "40002", "msg": "Invalid Arguments", "sub_code": "isv.invalid-method"});
            }
        };
        if body["code"] == "10000" {
            body["out_trade_no"] = Value::from(number);
        }
        body
    }

    /// Somebody scans the code: from then on there is a trade.
    pub(super) fn scan(&mut self, number: &str) {
        let next = self.trades.values().filter(|trade| trade.trade_no.is_some()).count() + 1;
        let trade = self.trades.get_mut(number).unwrap();
        trade.trade_no.get_or_insert_with(|| format!("2026112222001401{next:012}"));
    }

    fn precreate(&mut self, number: &str, content: &Value, notify_url: Option<&str>) -> Value {
        let fen = fen(text(content, "total_amount"));
        let trade = self.trades.entry(number.to_owned()).or_insert_with(|| Trade {
            fen,
            subject: text(content, "subject").to_owned(),
            notify_url: notify_url.map(str::to_owned),
            trade_no: None,
            status: "WAIT_BUYER_PAY",
            refunds: BTreeMap::new(),
        });
        assert!(
            text(content, "timeout_express").ends_with('m')
                && text(content, "qr_code_timeout_express").ends_with('m')
        );
        match trade.status {
            _ if trade.fen != fen => refused("ACQ.CONTEXT_INCONSISTENT"),
            "TRADE_CLOSED" => refused("ACQ.TRADE_HAS_CLOSE"),
            _ if trade.is_paid() => refused("ACQ.TRADE_HAS_SUCCESS"),
            _ => done(json!({"qr_code": format!("https://qr.alipay.com/{number}")})),
        }
    }

    fn query(&self, number: &str) -> Value {
        let Some((trade, trade_no)) = self.existing(number) else { return refused("ACQ.TRADE_NOT_EXIST") };
        done(json!({
            "trade_no": trade_no, "trade_status": trade.status, "total_amount": yuan(trade.fen),
            "buyer_logon_id": "abc***@sandbox.com",
        }))
    }

    fn close(&mut self, number: &str) -> Value {
        let Some((trade, trade_no)) = self.existing(number) else { return refused("ACQ.TRADE_NOT_EXIST") };
        if trade.is_paid() {
            return refused("ACQ.TRADE_STATUS_ERROR");
        }
        self.trades.get_mut(number).unwrap().status = "TRADE_CLOSED";
        done(json!({"trade_no": trade_no}))
    }

    fn refund(&mut self, number: &str, content: &Value, moves_at_once: bool) -> Value {
        let (fen, request) =
            (fen(text(content, "refund_amount")), text(content, "out_request_no").to_owned());
        let Some((trade, trade_no)) = self.existing(number) else { return refused("ACQ.TRADE_NOT_EXIST") };
        let known = trade.refunds.get(&request).copied();
        let change = match known {
            Some(known) if known.fen != fen => return refused("ACQ.DISCORDANT_REPEAT_REQUEST"),
            Some(_) => "N",
            None if trade.status != "TRADE_SUCCESS" => return refused("ACQ.TRADE_STATUS_ERROR"),
            None if trade.refunded() + fen > trade.fen => return refused("ACQ.REFUND_AMT_NOT_EQUAL_TOTAL"),
            None if moves_at_once => "Y",
            None => "N",
        };
        let trade = self.trades.get_mut(number).unwrap();
        trade.refunds.entry(request).or_insert(Refund { fen, moved: moves_at_once });
        if trade.refunded() == trade.fen {
            trade.status = "TRADE_CLOSED";
        }
        // The sum of all refunds of the trade, not of this one.
        done(json!({"trade_no": trade_no, "fund_change": change, "refund_fee": yuan(trade.refunded())}))
    }

    fn refund_query(&self, number: &str, content: &Value) -> Value {
        let request = text(content, "out_request_no");
        let Some((trade, trade_no)) = self.existing(number) else { return refused("ACQ.TRADE_NOT_EXIST") };
        match trade.refunds.get(request) {
            Some(refund) if refund.moved => done(json!({
                "trade_no": trade_no, "out_request_no": request, "refund_amount": yuan(refund.fen),
                "total_amount": yuan(trade.fen), "refund_status": "REFUND_SUCCESS",
            })),
            Some(_) => done(json!({"trade_no": trade_no, "out_request_no": request})),
            None => done(json!({})),
        }
    }

    /// A trade whose code somebody has scanned.
    fn existing(&self, number: &str) -> Option<(&Trade, String)> {
        let trade = self.trades.get(number)?;
        Some((trade, trade.trade_no.clone()?))
    }
}

fn done(mut body: Value) -> Value {
    body["code"] = Value::from("10000");
    body["msg"] = Value::from("Success");
    body
}

fn refused(sub_code: &str) -> Value {
    json!({"code": "40004", "msg": "Business Failed", "sub_code": sub_code, "sub_msg": "业务失败"})
}

fn text<'a>(content: &'a Value, name: &str) -> &'a str {
    content[name].as_str().unwrap_or_else(|| panic!("no {name} in {content}"))
}

/// `36.00` and nothing else: two decimals, no leading zero.
fn fen(yuan: &str) -> u64 {
    let (whole, decimals) = yuan.split_once('.').unwrap();
    let fen = whole.parse::<u64>().unwrap() * 100 + decimals.parse::<u64>().unwrap();
    assert_eq!(super::yuan(fen), yuan, "a sum that Alipay does not read");
    fen
}
