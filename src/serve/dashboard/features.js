// Features: how fresh, how often missing, how far from what the model was trained on.

import { count, empty, h, level, moment, number, percent, s, section, span, table } from "./dom.js";

const bar = (share) => s("svg", { class: "bar-of", viewBox: "0 0 46 9", "aria-hidden": "true" },
  s("rect", { class: "rest", width: 46, height: 9, rx: 2 }), s("rect", { class: "part", width: (46 * share).toFixed(1), height: 9, rx: 2 }));

/** Rows of the table at most; the field above it finds the others. */
const MOST = 300;
let wanted = "";

function skew(readings) {
  if (readings.length === 0) return h("span", { class: "soft" }, "no reference");
  return h("ul", { class: "readings" }, readings.map((of) =>
    h("li", { class: of.level, title: `${of.drift}, read as of ${of.at}` }, of.detector, " ", h("b", {}, number(of.statistic)),
      of.level !== "stable" && [" ", level(of.level)])));
}

export const features = {
  name: "features",
  title: "Features",
  every: 2,
  ask: (get) => get("features"),
  render(answer, { pipeline }, refresh) {
    const expressions = new Map(pipeline.features.map((of) => [of.name, of.expression]));
    const fits = answer.features.filter((of) => of.name.includes(wanted));
    const shown = fits.slice(0, MOST);
    const store = answer.online;
    const heads = [
      { name: "Feature" }, { name: "Type" },
      { name: "Newest value", title: "Event time of the newest row in which it was not NULL" },
      { name: "Age", number: true, title: "How far that is behind what is done" },
      { name: "NULL", number: true, title: "Share of the rows since the start" },
      { name: "Skew", title: "Distance of the rows of the drift window from the training set of the live model" },
    ];
    return h("div", { class: "page" },
      section("Features",
        `${count(answer.features.length)} features; everything before ${answer.watermark ? `${answer.watermark.slice(0, 19).replace("T", " ")} UTC` : "the first row"} is done.${store ? ` The newest rows of ${count(store.entities)} entities are held for requests.` : ""}`,
        h("p", { class: "tools" }, h("label", { for: "find" }, "Find"), " ",
          h("input", { id: "find", type: "search", placeholder: "a part of a name", oninput: (event) => { wanted = event.target.value; refresh(); } }),
          h("span", { class: "soft" }, fits.length > MOST ? ` the first ${MOST} of ${count(fits.length)}` : wanted ? ` ${count(fits.length)} found` : "")),
        shown.length === 0 ? empty("No feature has such a name.") : table("Features", heads, shown.map((of) => ({ key: of.name, cells: [
          h("span", {}, h("b", {}, of.name), h("code", { class: "expression" }, expressions.get(of.name))),
          of.type,
          of.newest ? moment(of.newest) : "never",
          of.age_seconds === null ? "–" : h("span", {}, span(of.age_seconds), of.lag_seconds !== null && h("small", {}, ` (${span(of.lag_seconds)} by the clock)`)),
          of.rows === 0 ? "–" : h("span", { class: "share" }, percent(of.nulls / of.rows), " ", bar(of.nulls / of.rows)),
          skew(of.skew)] })))));
  },
};
