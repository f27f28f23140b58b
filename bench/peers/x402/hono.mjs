// A seller made of hono and @x402/hono: passes the upstream's answer on as it comes.
import { Readable } from "node:stream";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { paymentMiddleware, x402ResourceServer } from "@x402/hono";
import { facilitator, forward, port, register, routes } from "./shared.mjs";

const app = new Hono();
app.use(paymentMiddleware(routes, register(new x402ResourceServer(facilitator()))));
for (const path of ["/v1/sold", "/v1/channel", "/v1/free"]) {
  app.post(path, async (c) => {
    const body = Buffer.from(await c.req.arrayBuffer());
    return new Promise((resolve) => {
      const answered = (got) => {
        const headers = { "content-type": got.headers["content-type"] };
        if (got.headers["content-length"] !== undefined) headers["content-length"] = got.headers["content-length"];
        resolve(new Response(Readable.toWeb(got), { status: got.statusCode, headers }));
      };
      forward(path, body, answered, () => resolve(c.body(null, 502)));
    });
  });
}
serve({ fetch: app.fetch, port, hostname: "127.0.0.1" });
