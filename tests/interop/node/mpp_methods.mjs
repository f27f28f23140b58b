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

const lightningSession = Method.from({
  name: "lightning",
  intent: "session",
  schema: {
    credential: { payload: z.object({ action: text() }) },
    request: z.object({ amount: text(), currency: text(), paymentHash: text(), depositInvoice: z.optional(text()) }),
  },
});

/**
 * Opens a session with a first payment, and draws on it from then on. `wallet` pays invoices and has one made, without an
 * amount, for what is left in the end.
 */
export function lightningSessions(wallet) {
  const session = { id: undefined };
  let preimage;
  const answered = (challenge, payload) => Credential.serialize({ challenge, payload });
  const draws = () => ({ action: "bearer", sessionId: session.id, preimage });

  session.method = Method.toClient(lightningSession, {
    async createCredential({ challenge }) {
      if (session.id) return answered(challenge, draws());
      preimage = await wallet.pay(challenge.request.depositInvoice);
      session.id = challenge.request.paymentHash;
      return answered(challenge, { action: "open", preimage, returnInvoice: await wallet.invoice() });
    },
  });
  /** Answers a fresh challenge with one more payment into the session. */
  session.topUp = async (challenge) => {
    const topUpPreimage = await wallet.pay(challenge.request.depositInvoice);
    return answered(challenge, { action: "topUp", sessionId: session.id, topUpPreimage });
  };
  /** Answers a challenge with the wish to end the session. */
  session.close = (challenge) => answered(challenge, { ...draws(), action: "close" });
  return session;
}
