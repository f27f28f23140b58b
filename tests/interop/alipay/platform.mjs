// Alipay's gateway with Alipay's own SDK as the judge: a call counts only if the SDK takes its signature, and what is
// answered or told is what the SDK would take of Alipay. It keeps the few trades that `crates/rails/tests/alipay.rs` needs.
//
//   POST /gateway.do          a call
//   GET  /__calls             {"taken", "refused"}: calls by the SDK's verdict
//   GET  /notice?NUMBER       the body of a notice of a trade
//   POST /verdict             whether the SDK takes this body of a notice: true or false
//
// A trade whose number begins with `altered` is answered with a sum that nobody has signed.
import assert from "node:assert/strict";
import { createSign } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import { AlipaySdk, AlipayRequestError } from "alipay-sdk";

const keys = JSON.parse(fs.readFileSync(process.env.KEYS, "utf8"));
const privateKey = (name) => `-----BEGIN PRIVATE KEY-----\n${keys[name].private_pkcs8_der_b64}\n-----END PRIVATE KEY-----`;
const APP_ID = "2021000000000001";
const SELLER_ID = "2088000000000099";

// The SDK on the app's side believes Alipay's key. On Alipay's side it is made to believe the app's.
const sdk = (believes) =>
  new AlipaySdk({
    appId: APP_ID,
    privateKey: keys.alipay_app.private_pkcs8_der_b64,
    keyType: "PKCS8",
    alipayPublicKey: keys[believes].public_spki_pem,
  });
const app = sdk("alipay_platform");
const alipay = sdk("alipay_app");

const calls = { taken: 0, refused: 0 };
const trades = new Map();

const sign = (text) => createSign("RSA-SHA256").update(text, "utf8").sign(privateKey("alipay_platform"), "base64");

/** What the SDK's own app would make of an answer. */
function taken(body, name, sign) {
  try {
    app.checkResponseSign(body, name, sign, "");
    return true;
  } catch (error) {
    assert.ok(error instanceof AlipayRequestError, String(error));
    return false;
  }
}

function answered(method, content) {
  const number = content.out_trade_no;
  const trade = trades.get(number);
  const done = (more) => ({ code: "10000", msg: "Success", out_trade_no: number, ...more });
  const refused = (sub_code) => ({ code: "40004", msg: "Business Failed", sub_code, sub_msg: "交易不存在" });
  switch (method) {
    case "alipay.trade.precreate":
      trades.set(number, { ...content, refunds: new Map() });
      return done({ qr_code: `https://qr.alipay.com/${number}` });
    case "alipay.trade.query":
      if (!trade) return refused("ACQ.TRADE_NOT_EXIST");
      return done({ trade_no: "2026112222001401", trade_status: "TRADE_SUCCESS", total_amount: trade.total_amount });
    case "alipay.trade.refund":
      trade.refunds.set(content.out_request_no, content.refund_amount);
      return done({ fund_change: "Y", refund_fee: content.refund_amount });
    case "alipay.trade.fastpay.refund.query": {
      const refund_amount = trade.refunds.get(content.out_request_no);
      const { out_request_no } = content;
      return done(refund_amount ? { out_request_no, refund_amount, refund_status: "REFUND_SUCCESS" } : {});
    }
    case "alipay.trade.close":
      return done({});
    default:
      throw new Error(`nobody calls ${method}`);
  }
}

function gateway(form) {
  const fields = Object.fromEntries(new URLSearchParams(form));
  // Raw values, `sign_type` with them: the SDK tries that first.
  if (!alipay.checkNotifySign(fields, true)) {
    calls.refused += 1;
    return JSON.stringify({ error_response: { code: "40002", sub_code: "isv.invalid-signature" } });
  }
  calls.taken += 1;
  const content = JSON.parse(fields.biz_content);
  const name = `${fields.method.replaceAll(".", "_")}_response`;
  // Slashes are escaped, as Alipay's own are.
  const text = JSON.stringify(answered(fields.method, content)).replaceAll("/", "\\/");
  const signature = sign(text);
  const isAltered = content.out_trade_no.startsWith("altered");
  const shown = isAltered ? text.replace("36.00", "3600.00") : text;
  const body = `{"${name}":${shown},"sign":"${signature}"}`;
  assert.equal(taken(body, name, signature), !isAltered || shown === text, "the SDK judges otherwise");
  return body;
}

function notice(number) {
  const trade = trades.get(number);
  const fields = {
    gmt_create: "2026-11-20 10:00:01",
    charset: "utf-8",
    subject: trade.subject,
    body: "",
    fund_bill_list: '[{"amount":"36.00","fundChannel":"ALIPAYACCOUNT"}]',
    notify_type: "trade_status_sync",
    trade_status: "TRADE_SUCCESS",
    app_id: APP_ID,
    seller_id: SELLER_ID,
    out_trade_no: number,
    trade_no: "2026112222001401",
    total_amount: trade.total_amount,
  };
  const text = Object.keys(fields).sort().map((name) => `${name}=${fields[name]}`).join("&");
  const all = { ...fields, sign_type: "RSA2", sign: sign(text) };
  assert.ok(app.checkNotifySignV2(all), "the SDK refuses its own kind of notice");
  return new URLSearchParams(all).toString();
}

async function read(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return Buffer.concat(pieces).toString("utf8");
}

const server = http.createServer(async (request, response) => {
  try {
    const url = new URL(request.url, "http://127.0.0.1");
    const body = await read(request);
    switch (url.pathname) {
      case "/gateway.do":
        return response.end(gateway(body));
      case "/__calls":
        return response.end(JSON.stringify(calls));
      case "/notice":
        return response.end(notice(url.search.slice(1)));
      case "/verdict":
        return response.end(String(app.checkNotifySignV2(Object.fromEntries(new URLSearchParams(body)))));
      default:
        return response.writeHead(404).end();
    }
  } catch (error) {
    console.error(error);
    response.writeHead(500).end(String(error));
  }
});
server.listen(Number(process.env.PORT), "127.0.0.1");
