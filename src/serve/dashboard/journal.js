// The journal: every decision in the order in which it took effect, the newest first.

import { count, empty, h, number, section } from "./dom.js";

const LIMIT = 25;
/** Numbers before which each page ends; the last is the one that is shown, nothing means the newest. */
let path = [];

const version = (n) => (n > 0 ? `version ${n}` : "none");
const SAYS = {
  header: (of) => `${of.pipeline} by Tidemill ${of.build} on ${of.cpu}`,
  epoch: (of) => `epoch ${count(of.epoch)}, done up to ${of.watermark === null ? "nothing" : when(of.watermark)}`,
  idle: (of) => `${of.source}, partition ${of.partition}, is let pass`,
  hold: (of) => `${of.source}, partition ${of.partition}, holds nobody`,
  task: (of) => `${of.task.model}: a training is asked for`,
  outcome: (of) => (of.outcome.trained ? `trained on ${count(of.outcome.trained.rows)} rows` : `failed: ${of.outcome.failed?.error}`),
  version: (of) => `${of.version.model} ${version(of.version.version)}, ${count(of.version.lineage.rows)} rows, ${of.version.lineage.trigger}`,
  gate: (of) => `${of.model}: ${version(of.challenger)} against ${version(of.champion)}, ${number(of.mean)} nats (standard error ${number(of.standard_error)}) over ${count(of.rows)} rows: ${of.decision}`,
  promoted: (of) => `${of.model}: ${version(of.to)} takes over from ${version(of.from)}: ${of.why}`,
  refused: (of) => `${of.model}: ${version(of.to)} is turned away: ${of.why}`,
  rolled_back: (of) => `${of.model}: ${version(of.from)} is taken back for ${version(of.to)}: ${of.why}`,
  rollout: (of) => `${of.model}: ${version(of.version)} is ${of.stage} against ${version(of.against)}, ${number(of.mean)} nats over ${count(of.rows)} rows`,
  report: (of) => `${of.model} ${version(of.version)}: ${of.checks.filter((check) => check.passed).length} of ${of.checks.length} checks passed`,
  published: (of) => `${of.model} ${version(of.version)} is delivered to ${of.sink}`,
  command: (of) => `${of.who}: ${of.what}${of.refused ? `; refused: ${of.refused}` : ""}`,
  finished: (of) => of.counts.map(([name, n]) => `${count(n)} ${name.replaceAll("_", " ")}`).join(", "),
};
const when = (micros) => new Date(micros / 1000).toISOString().slice(0, 19).replace("T", " ");

function says(record) {
  try {
    return SAYS[record.kind]?.(record) ?? "";
  } catch {
    // A later build may write other fields; the record itself is shown below.
    return "";
  }
}

export const journal = {
  name: "journal",
  title: "Journal",
  every: 2,
  ask: (get) => get("journal", { limit: LIMIT, ...(path.length > 0 ? { before: path.at(-1) } : {}) }),
  render(answer, _state, refresh) {
    const last = answer.records.at(-1)?.n ?? 0;
    const go = (change) => () => { change(); refresh(); };
    const buttons = h("p", { class: "tools" },
      h("button", { disabled: path.length === 0, onclick: go(() => { path = []; }) }, "Newest"),
      h("button", { disabled: path.length === 0, onclick: go(() => { path.pop(); }) }, "Newer"),
      h("button", { disabled: last === 0, onclick: go(() => { path.push(last); }) }, "Older"),
      h("span", { class: "soft" }, answer.records.length > 0 ? ` ${count(last)} to ${count(answer.records[0].n)} of ${count(answer.total)}` : ""));
    return h("div", { class: "page" },
      section("Journal", "Everything that may change a result and is not in the event log, in the order in which it took effect; the newest first. Its lines are chained by their hashes, which tidemill journal verify checks.",
        buttons,
        answer.records.length === 0 ? empty("Nothing has been decided yet.") : h("ol", { class: "records" }, answer.records.map(({ n, hash, record }) =>
          h("li", { "data-key": String(n) }, h("details", {},
            h("summary", {}, h("span", { class: "n" }, count(n)), h("span", { class: "word" }, record.kind.replaceAll("_", " ")), h("span", { class: "grow" }, says(record)), h("code", {}, hash.slice(0, 8))),
            h("pre", {}, JSON.stringify(record, null, 2))))))));
  },
};
