// A seller made of express and @x402/express: passes the upstream's answer on as it comes.
import express from "express";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { facilitator, forward, port, register, routes } from "./shared.mjs";

const app = express();
app.disable("x-powered-by");
app.use(express.raw({ type: () => true }));
app.use(paymentMiddleware(routes, register(new x402ResourceServer(facilitator()))));
app.post(["/v1/sold", "/v1/channel", "/v1/free"], (asked, answer) => {
  forward(
    asked.path,
    asked.body,
    (got) => {
      answer.status(got.statusCode);
      for (const name of ["content-type", "content-length"]) {
        if (got.headers[name] !== undefined) answer.setHeader(name, got.headers[name]);
      }
      got.pipe(answer);
    },
    () => answer.status(502).end(),
  );
});
app.listen(port, "127.0.0.1");
