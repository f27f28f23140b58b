// What mppx makes of the gateway's discovery documents, with the validator that it ships (DSC-1, DSC-5).
import assert from "node:assert/strict";
import { PaymentInfo, validate } from "mppx/discovery";
import { call, url } from "./calls.mjs";
import { env, run } from "./harness.mjs";
import { challenged } from "./mpp.mjs";

const document = async () => {
  const answer = await fetch(`${env("GATEWAY_URL")}/openapi.json`);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("access-control-allow-origin"), "*");
  return answer.json();
};

await run({
  async "validator-accepts-our-document"() {
    const found = validate(await document());
    assert.deepEqual(found, [], JSON.stringify(found));
    // It does find what is wrong: without the 402 it complains.
    const broken = await document();
    delete broken.paths["/v1/chat/completions"].post.responses["402"];
    assert.ok(validate(broken).some(({ severity }) => severity === "error"));
  },

  async "offers-are-those-of-the-402"() {
    const operation = (await document()).paths["/v1/chat/completions"].post;
    const { offers } = PaymentInfo.parse(operation["x-payment-info"]);
    const { challenges } = await challenged(url, call("What is asked for?"));
    const names = (list, of) => list.map(of).sort();
    assert.deepEqual(
      names(offers, ({ method, intent, currency }) => `${method} ${intent} ${currency}`),
      names(challenges, ({ method, intent, request }) => `${method} ${intent} ${request.currency}`),
    );
  },
});
