// Drift: every feature over the whole run, the worst first.

import { chance, count, day, empty, h, level, moment, number, s, section, span, table } from "./dom.js";

let chosen = null;
/** Rows of the map that are drawn before somebody asks for all. */
const FEW = 40;
let all = false;
/** The cell under the pointer or the arrow keys. */
let cursor = null;

const ROW = 18;
const name = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** Three classes below the warning, two up to drift, three above, as the program cuts them. */
const classOf = (value, edges) => (edges ? edges.filter((edge) => value >= edge).length : 0);

/** One path a class: a rectangle an element would be twenty thousand of them. */
function draw(map, width) {
  const narrow = width < 560;
  const left = narrow ? 112 : 190;
  const rows = all ? map.features : map.features.slice(0, FEW);
  const cell = (width - left) / map.columns.length;
  const gap = cell < 4 ? 0 : 1;
  const paths = new Map();
  rows.forEach((feature, row) => feature.cells.forEach((value, column) => {
    const kind = value === null ? "none" : `h${classOf(value, map.edges)}`;
    const at = `M${(left + column * cell).toFixed(2)} ${row * ROW}h${(cell - gap).toFixed(2)}v${ROW - 1}h${(gap - cell).toFixed(2)}z`;
    paths.set(kind, (paths.get(kind) ?? "") + at);
  }));
  const height = rows.length * ROW + 22;
  const ticks = [];
  const fit = Math.max(1, Math.floor((width - left) / 84));
  const every = Math.max(1, Math.ceil(map.columns.length / fit));
  const short = map.span_seconds < 43_200 && map.columns.length * map.span_seconds < 2 * 86_400;
  for (let column = 0; column < map.columns.length; column += every) {
    const text = short ? map.columns[column].slice(11, 16) : day(map.columns[column]);
    if (left + column * cell + 60 < width + 8) ticks.push(s("text", { class: "tick", x: (left + column * cell).toFixed(1), y: height - 6 }, text));
  }
  return s("svg", { class: "heat", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
    [...paths].map(([kind, d]) => s("path", { class: kind, d })),
    rows.map((feature, row) => s("text", { class: "label", x: left - 8, y: row * ROW + 13, "text-anchor": "end" }, name(feature.of, narrow ? 13 : 28))),
    ticks,
    cursor && cursor.row < rows.length && s("rect", { class: "cursor", x: left + cursor.column * cell - 1, y: cursor.row * ROW - 1, width: Math.max(cell, 3) + 1, height: ROW + 1 }));
}

function reading(map) {
  if (!cursor || !map.features[cursor.row]) return "Point at the map, or move in it with the arrow keys.";
  const feature = map.features[cursor.row];
  const value = feature.cells[cursor.column];
  const kind = value === null ? "no reading" : map.limit !== null && value >= map.limit ? "drift" : map.warning !== null && value >= map.warning ? "warning" : "stable";
  return `${feature.of}, ${map.columns[cursor.column]?.slice(0, 16).replace("T", " ")} and ${span(map.span_seconds)} on: ${value === null ? kind : `${number(value)}, ${kind}`}`;
}

function legend(map) {
  if (!map.edges) return null;
  const note = { 3: " warning", 5: " drift" };
  const mark = (kind) => s("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, s("rect", { class: kind, width: 14, height: 14 }));
  return h("ul", { class: "legend" },
    [...Array(8).keys()].map((n) => h("li", {}, mark(`h${n}`), n === 0 ? `below ${number(map.edges[0])}` : `from ${number(map.edges[n - 1])}`, note[n])),
    h("li", {}, mark("none"), "no reading"));
}

let watching = null;

export const drift = {
  name: "drift",
  title: "Drift",
  every: 3,
  ask: (get) => get("drift", chosen ?? {}),
  render(answer, { pipeline }, refresh) {
    if (answer.maps.length === 0) {
      return h("div", { class: "page" }, section("Drift", null, empty(pipeline.drifts.length === 0
        ? "The pipeline watches no drift: a [drift.NAME] section does."
        : "Nothing has been read yet. Detectors over features wait for a first model, whose training set they compare with; those of the loss speak when they have something to say.")));
    }
    const map = answer.map;
    const choice = (of) => h("button", { "aria-pressed": String(of.drift === map.drift && of.detector === map.detector),
      onclick: () => { chosen = of; cursor = null; refresh(); } }, `${of.drift}: ${of.detector}`);
    const about = pipeline.drifts.find((of) => of.name === map.drift);
    const what = about?.of === "features"
      ? `The rows of the last ${span(about.window_seconds)} against the training set of ${about.reference ?? "the live model"}, read every ${span(about.every_seconds)} of event time; the largest reading of each ${span(map.span_seconds)}.`
      : "The loss of what was served, as labels land; told when it gets worse.";
    const heads = [{ name: "Of" }, { name: "Newest reading", number: true }, { name: "p-value", number: true }, { name: "Level" }, { name: "As of" }];
    return h("div", { class: "page" },
      section("Drift", what,
        h("p", { class: "tools", role: "group", "aria-label": "Maps" }, answer.maps.map(choice)),
        legend(map),
        h("div", { class: "map", id: "map", tabindex: "0", role: "application", "aria-label": `Map of ${map.detector}: move with the arrow keys`, "aria-describedby": "reading" }),
        h("p", { id: "reading", "aria-live": "polite" }, reading(map)),
        map.features.length > FEW && h("p", { class: "tools" }, h("button", { onclick: () => { all = !all; refresh(); } }, all ? `Only the worst ${FEW}` : `All ${count(map.features.length)}`)),
        map.left_out > 0 && empty(`${count(map.left_out)} more have drifted less.`)),
      section("Newest readings", null, table("Newest readings", heads, map.features.map((of) => ({ key: of.of, cells: [
        h("b", {}, of.of), number(of.statistic), chance(of.p_value), level(of.level), moment(of.at)] })))));
  },
  shown(main, { answer }) {
    const place = main.querySelector("#map");
    if (!place || !answer.map) return;
    const map = answer.map;
    const rows = () => (all ? map.features.length : Math.min(FEW, map.features.length));
    const again = () => {
      if (!place.isConnected) return;
      const width = Math.max(260, Math.floor(place.clientWidth));
      place.replaceChildren(draw(map, width));
      const said = main.querySelector("#reading");
      if (said.textContent !== reading(map)) said.textContent = reading(map);
    };
    place.onpointermove = (event) => {
      const frame = place.getBoundingClientRect();
      const left = frame.width < 560 ? 112 : 190;
      const column = Math.floor(((event.clientX - frame.left - left) / (frame.width - left)) * map.columns.length);
      const row = Math.floor((event.clientY - frame.top) / ROW);
      const inside = column >= 0 && column < map.columns.length && row >= 0 && row < rows();
      cursor = inside ? { row, column } : null;
      again();
    };
    place.onkeydown = (event) => {
      const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      cursor ??= { row: 0, column: map.columns.length - 1 };
      const within = (value, most) => Math.max(0, Math.min(most - 1, value));
      cursor = { row: within(cursor.row + step[0], rows()), column: within(cursor.column + step[1], map.columns.length) };
      again();
    };
    again();
    watching?.disconnect();
    watching = new ResizeObserver(again);
    watching.observe(place);
  },
};
