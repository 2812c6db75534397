// Models: which version is in charge, where each came from, and what was decided.

import { count, empty, h, moment, number, section, table } from "./dom.js";

const SHAPES = { champion: "◆", canary: "◐", shadow: "○", refused: "✕", rolled_back: "↩", former: "–", new: "+" };

const stage = (name) => h("span", { class: `stage ${name}` }, h("span", { "aria-hidden": "true" }, SHAPES[name] ?? "+"), " ", name.replaceAll("_", " "));

const measures = (metrics) => h("ul", { class: "readings" }, Object.entries(metrics).map(([name, value]) => h("li", {}, name.replaceAll("_", " "), " ", h("b", {}, number(value)))));

function one(model) {
  const heads = [{ name: "Version" }, { name: "Stage" }, { name: "May serve from" }, { name: "Rows", number: true }, { name: "Triggered by" }, { name: "Measures" }, { name: "Artifact" }];
  const rows = model.versions.map((of) => ({ key: String(of.version), cells: [
    `v${of.version}`, stage(of.stage), moment(of.since), count(of.rows), of.trigger, measures(of.metrics), h("code", { title: of.artifact }, of.artifact.slice(0, 12))] }));
  return h("section", { "data-key": model.name },
    h("h2", {}, model.name, model.serves && h("span", { class: "tag" }, "serves")),
    h("p", { class: "what" }, `${model.type.replaceAll("_", " ")}; ${model.current > 0 ? `version ${model.current} is in charge` : "no version yet"}`),
    rows.length === 0 ? empty(model.retrained ? "It has not been trained yet: too few labelled rows so far." : "It learns row by row; its state becomes a version when it is published.") : table(`Versions of ${model.name}`, heads, rows),
    model.left_out > 0 && empty(`${count(model.left_out)} older versions are in the registry: tidemill models list.`),
    model.moments.length > 0 && h("details", { class: "moments" }, h("summary", {}, "What has happened"),
      h("ol", {}, model.moments.map((of, n) => h("li", { "data-key": String(model.moments.length - n) }, moment(of.at), " ", h("b", {}, of.step), of.version ? ` version ${of.version}` : "", ": ", of.why)))));
}

export const models = {
  name: "models",
  title: "Models",
  every: 3,
  ask: (get) => get("models"),
  render(answer) {
    return h("div", { class: "page" }, answer.models.length === 0
      ? section("Models", null, empty("The pipeline has no model."))
      : answer.models.map(one));
  },
};
