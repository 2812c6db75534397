// Models: which version is in charge, where each came from, what was decided, and what a person may decide.

import { order } from "./api.js";
import { count, empty, h, moment, number, percent, s, section, table } from "./dom.js";

const SHAPES = { champion: "◆", canary: "◐", shadow: "○", refused: "✕", rolled_back: "↩", former: "–", new: "+" };
const RANKS = ["viewer", "operator", "approver", "admin"];

/** What came of the last order, by model. */
const said = new Map();

const stage = (of) => h("span", { class: `stage ${of.stage}` }, h("span", { "aria-hidden": "true" }, SHAPES[of.stage] ?? "+"), " ", of.stage.replaceAll("_", " "),
  of.stage === "canary" && ` ${percent(of.share)}`);

const measures = (metrics) => h("ul", { class: "readings" }, Object.entries(metrics).map(([name, value]) => h("li", {}, name.replaceAll("_", " "), " ", h("b", {}, number(value)))));

/** Asks for the reason, then sends the order. */
function ask(model, what, body, sentence, refresh) {
  const dialog = document.getElementById("confirm");
  const field = document.getElementById("why");
  document.getElementById("confirm-title").textContent = sentence;
  document.getElementById("confirm-what").textContent = "It takes effect at the next epoch of the run.";
  document.getElementById("confirm-yes").textContent = sentence.split(" ").slice(0, what === "rollback" ? 2 : 1).join(" ");
  field.value = "";
  document.getElementById("confirm-no").onclick = () => dialog.close();
  document.getElementById("confirm-form").onsubmit = async (event) => {
    event.preventDefault();
    dialog.close();
    said.set(model, { text: "Sent; the run has not answered yet.", bad: false });
    refresh();
    try {
      const answer = await order(model, what, { ...body, why: field.value.trim() });
      said.set(model, { text: answer.state === "done" ? `“${answer.order}” holds from epoch ${count(answer.epoch)} on.` : `“${answer.order}” waits for the run.`, bad: false });
    } catch (error) {
      said.set(model, { text: `Not done: ${error.message}`, bad: true });
    }
    refresh();
  };
  dialog.showModal();
}

const WIDTH = 560;
const HEIGHT = 110;

/** The capitals of two gamblers, one of whom bets that the version is better and one that it is worse, as labels come. */
function trial(of) {
  const log = (capital) => Math.log10(Math.max(capital, 0.01));
  const most = Math.max(log(of.better_at), log(of.worse_at)) + 0.4;
  const last = Math.max(of.rows, 1);
  const x = (rows) => ((rows / last) * (WIDTH - 64)).toFixed(1);
  const y = (capital) => (HEIGHT - 6 - ((Math.min(log(capital), most) + 2) / (most + 2)) * (HEIGHT - 12)).toFixed(1);
  const line = (key) => (of.growth.length > 1 ? s("path", { class: `capital ${key}`, d: `M${of.growth.map((at) => `${x(at.rows)} ${y(at[key])}`).join("L")}` }) : null);
  const bound = (at, key) => [s("path", { class: `bound ${key}`, d: `M0 ${y(at)}H${WIDTH - 60}` }), s("text", { x: WIDTH - 56, y: Number(y(at)) + 4 }, key)];
  const newest = of.growth.at(-1);
  const serves = of.stage === "probation" ? "in charge" : of.share > 0 ? `${percent(of.share)} of the keys` : "nobody";
  return h("div", { class: "trial" },
    h("h3", {}, `Version ${of.version} on trial against ${of.against}: ${of.stage}`),
    h("p", { class: "what" }, `since ${of.since.slice(0, 19).replace("T", " ")} UTC; it serves ${serves}. Log loss ${of.mean > 0 ? "+" : ""}${number(of.mean)} nats (standard error ${number(of.standard_error)}) over ${count(of.rows)} rows. Evidence ${number(newest.better)} of ${number(of.better_at)} for better, ${number(newest.worse)} of ${number(of.worse_at)} for worse.`),
    s("svg", { class: "evidence", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Evidence for better and for worse, by rows compared, on a logarithmic scale" },
      bound(of.better_at, "better"), of.worse_at === of.better_at ? null : bound(of.worse_at, "worse"),
      s("path", { class: "one", d: `M0 ${y(1)}H${WIDTH - 60}` }), s("text", { x: WIDTH - 56, y: Number(y(1)) + 4 }, "even"), line("better"), line("worse")),
    h("ul", { class: "legend" }, h("li", { class: "better" }, "— for better"), h("li", { class: "worse" }, "┄ for worse")));
}

function actions(model, of, role, refresh) {
  const may = (least) => RANKS.indexOf(role) >= RANKS.indexOf(least);
  const name = `${model.name} version ${of.version}`;
  const button = (what, body, sentence, word) =>
    h("button", { "aria-label": sentence, onclick: () => ask(model.name, what, body, sentence, refresh) }, word);
  const waits = ["new", "shadow", "canary"].includes(of.stage);
  return h("span", { class: "act" },
    may("approver") && waits && button("approve", { version: of.version }, `Approve ${name}`, "Approve"),
    may("operator") && of.stage !== "champion" && button("promote", { version: of.version }, `Promote ${name}`, "Promote"),
    may("operator") && of.stage === "champion" && button("rollback", {}, `Roll back ${name}`, "Roll back"));
}

function one(model, role, refresh) {
  // An online model learns on; there is no version of it to go back to.
  const acts = model.retrained && role !== "viewer";
  const heads = [{ name: "Version" }, { name: "Stage" }, { name: "May serve from" }, { name: "Rows", number: true }, { name: "Triggered by" }, { name: "Measures" }, { name: "Approved by" }, { name: "Artifact" }];
  if (acts) heads.push({ name: "Do" });
  const rows = model.versions.map((of) => ({ key: String(of.version), cells: [
    `v${of.version}`, stage(of), moment(of.since), count(of.rows), of.trigger, measures(of.metrics), of.approvals.join(", ") || "–",
    h("code", { title: of.artifact }, of.artifact.slice(0, 12)), ...(acts ? [actions(model, of, role, refresh)] : [])] }));
  const told = said.get(model.name);
  const retrain = `Retrain ${model.name}`;
  const mayTrain = acts && RANKS.indexOf(role) >= RANKS.indexOf("operator");
  return h("section", { "data-key": model.name },
    h("h2", {}, model.name, model.serves && h("span", { class: "tag" }, "serves")),
    h("p", { class: "what" }, `${model.type.replaceAll("_", " ")}; ${model.current > 0 ? `version ${model.current} is in charge` : "no version yet"}`),
    mayTrain && h("p", { class: "act" }, h("button", { "aria-label": retrain, onclick: () => ask(model.name, "retrain", {}, retrain, refresh) }, "Retrain")),
    h("p", { class: told?.bad ? "said bad" : "said", role: "status", hidden: !told }, told?.text ?? ""),
    model.trial && trial(model.trial),
    rows.length === 0 ? empty(model.retrained ? "It has not been trained yet: too few labelled rows so far." : "It learns row by row; its state becomes a version when it is published.") : table(`Versions of ${model.name}`, heads, rows),
    model.left_out > 0 && empty(`${count(model.left_out)} older versions are in the registry: tidemill models list.`),
    model.events.length > 0 && h("details", { class: "moments" }, h("summary", {}, "What has happened, and the evidence"),
      h("ol", {}, model.events.map((of, n) => h("li", { "data-key": String(model.events.length - n) }, moment(of.at), " ", h("b", {}, `v${of.version}`), " ", of.what)))));
}

export const models = {
  name: "models",
  title: "Models",
  every: 3,
  ask: (get) => get("models"),
  render(answer, { pipeline }, refresh) {
    return h("div", { class: "page" }, answer.models.length === 0
      ? section("Models", null, empty("The pipeline has no model."))
      : answer.models.map((model) => one(model, pipeline.caller.role, refresh)),
    answer.behind > 0 && empty(`${count(answer.behind)} records of the journal are still to be read.`));
  },
};
