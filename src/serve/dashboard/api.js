// What the pipeline is asked, and what it says when it does not answer.

const KEY = "tidemill-token";
const PATIENCE = 8_000;

/** Why there is no answer: `status` is 0 when nobody was reached. */
export class Failed extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

async function ask(path, options) {
  const headers = { ...(options?.headers ?? {}) };
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  const stop = new AbortController();
  const clock = setTimeout(() => stop.abort(), PATIENCE);
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, signal: stop.signal, credentials: "omit", cache: "no-store" });
    const text = await answer.text();
    const said = text ? JSON.parse(text) : null;
    if (answer.ok) return said;
    throw new Failed(answer.status, said?.error ?? answer.statusText);
  } catch (error) {
    if (error instanceof Failed) throw error;
    // A proxy may answer with a page of its own.
    throw new Failed(answer && !answer.ok ? answer.status : 0, String(error));
  } finally {
    clearTimeout(clock);
  }
}

/** One view of the API. */
export const get = (view, query) => {
  const text = new URLSearchParams(query ?? {}).toString();
  return ask(`/api/v1/${view}${text ? `?${text}` : ""}`);
};

/** An order about a model. */
export const order = (model, what, body) =>
  ask(`/api/v1/models/${encodeURIComponent(model)}/${what}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
