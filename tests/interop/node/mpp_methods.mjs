// Methods that mppx does not have, in the way that it lets anybody add some: `Method.from` and `Method.toClient`. The
// rest (challenges, their choice, the credential around the payload, trying again) stays the package's own.
import { Credential, Method, z } from "mppx";

const text = () => z.string();

const creditSession = Method.from({
  name: "credit",
  intent: "session",
  schema: {
    credential: { payload: z.object({ token: text() }) },
    request: z.object({ amount: text(), currency: text() }),
  },
});

/** A credit key of the gateway's, spent in this scheme. */
export const credit = (key) =>
  Method.toClient(creditSession, {
    createCredential: async ({ challenge }) => Credential.serialize({ challenge, payload: { token: key } }),
  });

const lightningCharge = Method.from({
  name: "lightning",
  intent: "charge",
  schema: {
    credential: { payload: z.object({ preimage: text() }) },
    request: z.object({ amount: text(), currency: text(), methodDetails: z.object({ invoice: text() }) }),
  },
});

/** Pays an invoice, and shows what the payment gave away. */
export const lightning = (payInvoice) =>
  Method.toClient(lightningCharge, {
    async createCredential({ challenge }) {
      const preimage = await payInvoice(challenge.request.methodDetails.invoice);
      return Credential.serialize({ challenge, payload: { preimage } });
    },
  });
