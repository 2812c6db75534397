// The frame around the pages: who asks, which page, how often, and whether the pipeline still answers.

import { get, token } from "./api.js";
import { count, empty, h, show, span } from "./dom.js";
import { alerts } from "./alerts.js";
import { drift } from "./drift.js";
import { features } from "./features.js";
import { graph } from "./graph.js";
import { journal } from "./journal.js";
import { models } from "./models.js";
import { rejects } from "./rejects.js";

/** Every page: what it asks, how often (in seconds) and how it shows the answer. */
const PAGES = [graph, rejects, features, drift, models, alerts, journal];
const SECOND = 1_000;

const element = (id) => document.getElementById(id);
const state = { pipeline: null, status: null, page: graph, answer: null, seen: 0, failure: null, asked: 0, turn: 0 };

function chosen() {
  const name = location.hash.replace(/^#\/?/, "").split("/")[0];
  return PAGES.find((page) => page.name === name) ?? graph;
}

function frame() {
  const { pipeline, status, failure } = state;
  document.title = `${pipeline?.name ?? "?"} – ${state.page.title} – Tidemill`;
  element("name").textContent = pipeline?.name ?? "";
  const lost = failure !== null;
  const word = lost ? "no answer" : status?.state ?? "asking";
  const pill = element("state");
  pill.className = `pill ${lost ? "lost" : word}`;
  if (pill.textContent !== word) pill.textContent = word;
  const who = pipeline?.caller;
  show(element("who"), who && `${who.name} (${who.role})`,
    token.get() && h("button", { class: "plain", onclick: signOut }, "Sign out"));
  const badges = { rejects: (status?.dead ?? 0) + (status?.late ?? 0), alerts: status?.alerts, drift: status?.drifting };
  show(element("nav"), PAGES.map((page) => {
    const badge = badges[page.name];
    const here = page === state.page;
    return h("a", { href: `#/${page.name}`, "aria-current": here ? "page" : null }, page.title,
      badge > 0 && h("span", { class: "badge" }, count(badge)));
  }));
  const banner = element("lost");
  banner.hidden = !lost;
  if (lost) {
    const since = state.seen ? ` What is shown is ${span((Date.now() - state.seen) / 1000)} old.` : "";
    banner.textContent = failure.status === 0
      ? `The pipeline does not answer; it is asked again.${since}`
      : `The pipeline answered ${failure.status}: ${failure.message}.${since}`;
  }
  element("main").classList.toggle("old", lost);
}

function content() {
  const main = element("main");
  if (!state.pipeline || !state.status) return;
  if (state.answer === null) return show(main, empty("Asking the pipeline…"));
  show(main, state.page.render(state.answer, state, refresh));
  state.page.shown?.(main, state);
}

/** Asks for the page at once: something was chosen on it. */
export function refresh() {
  state.asked = 0;
  tick();
}

async function tick() {
  const turn = ++state.turn;
  clearTimeout(state.clock);
  let wait = SECOND;
  try {
    if (!document.hidden) {
      state.pipeline ??= await get("pipeline");
      const page = state.page;
      const due = Date.now() - state.asked >= page.every * SECOND - 100 || state.answer === null;
      const [status, answer] = await Promise.all([get("status"), due ? page.ask(get) : state.answer]);
      if (turn !== state.turn) return;
      if (due) state.asked = Date.now();
      Object.assign(state, { status, answer, failure: null, seen: Date.now() });
      content();
    }
  } catch (error) {
    if (turn !== state.turn) return;
    if (error.status === undefined) throw error;
    if (error.status === 401) return signIn(error.message);
    state.failure = error;
    wait = error.status === 429 ? 5 * SECOND : 2 * SECOND;
  } finally {
    if (turn === state.turn) {
      frame();
      if (!element("sign-in").open) state.clock = setTimeout(tick, wait);
    }
  }
}

function signIn(why) {
  const known = token.get() !== null;
  token.forget();
  element("sign-in-why").textContent = known ? "This token is not known here." : "This pipeline wants to know who looks at it.";
  element("sign-in").title = why;
  if (!element("sign-in").open) element("sign-in").showModal();
}

function signOut() {
  token.forget();
  location.reload();
}

element("sign-in").addEventListener("cancel", (event) => event.preventDefault());
element("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(element("token").value.trim());
  element("token").value = "";
  element("sign-in").close();
  state.pipeline = null;
  tick();
});
window.addEventListener("hashchange", () => {
  state.page = chosen();
  state.answer = null;
  element("main").scrollTop = 0;
  element("main").replaceChildren();
  frame();
  element("nav").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  tick();
});
document.addEventListener("visibilitychange", () => !document.hidden && tick());
state.page = chosen();
tick();
