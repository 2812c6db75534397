// From sources to sinks, with what flows.

import { bytes, count, empty, h, level, moment, number, percent, rate, s, show, spark, span } from "./dom.js";

const COLUMNS = ["Sources", "Windows", "Features and labels", "Drift and models", "Scores", "Sinks"];

const facts = (...pairs) => h("dl", {}, pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined)
  .map(([name, value, kind]) => h("div", { class: kind ?? null, "data-key": name }, h("dt", {}, name), h("dd", {}, value))));

const card = (id, column, title, kind, body, { href, alarm } = {}) => ({ id, column, title, kind, body, href, alarm });

/** Nodes that are shown, and for every node of the pipeline which of them stands for it. */
function nodes(pipeline, status, rates) {
  const all = [];
  const stands = {};
  for (const source of pipeline.sources) {
    const now = status.sources.find((of) => of.name === source.name);
    const trouble = now.late + now.dead > 0;
    all.push(card(`source.${source.name}`, 0, source.name, source.type, [
      h("p", { class: "big" }, rate(now.rows_per_second), h("small", {}, " rows/s")),
      spark(rates.sources[source.name] ?? [], `Rows a second of ${source.name} over the last minutes`),
      facts(
        ["rows", count(now.rows)],
        ["watermark", now.ended ? "at its end" : moment(now.watermark)],
        source.live && ["lag", span(now.lag_seconds)],
        now.late > 0 && ["late", count(now.late), "warn"],
        now.dead > 0 && ["dead letters", count(now.dead), "warn"]),
    ], { href: trouble ? "#/rejects" : null, alarm: trouble }));
  }
  const overs = new Set(pipeline.windows.map((window) => window.sources.join(", ")));
  for (const over of overs) {
    const own = pipeline.windows.filter((window) => window.sources.join(", ") === over);
    const id = `windows.${own[0].sources.join("+")}`;
    own.forEach((window) => { stands[`window.${window.name}`] = id; });
    all.push(card(id, 1, `over ${over}`, `${own.length} window${own.length > 1 ? "s" : ""}`,
      h("details", {}, h("summary", {}, "names and keys"),
        h("ul", {}, own.map((window) => h("li", {}, window.name, h("small", {}, window.by.length ? ` by ${window.by.join(", ")}` : " over all rows")))))));
  }
  all.push(card("features", 2, "features", `${pipeline.features.length} columns`, facts(
    ["entities", status.entities > 0 ? count(status.entities) : null],
    ["done up to", moment(status.watermark)],
    pipeline.live && ["behind", span(status.lag_seconds)]), { href: "#/features" }));
  for (const label of pipeline.labels) {
    all.push(card(`label.${label.name}`, 2, label.name, "label", facts(
      ["joined", count(status.labelled)], ["awaited", count(status.pending)], ["timed out", count(status.timed_out)])));
  }
  for (const of of pipeline.drifts) {
    all.push(card(`drift.${of.name}`, 3, of.name, `drift of ${of.of}`, [
      h("p", {}, of.detectors.join(", ")),
      of.of === "features" && status.drifting > 0 && h("p", {}, level("drift"), ` in ${count(status.drifting)} reading${status.drifting > 1 ? "s" : ""}`)], { href: "#/drift" }));
  }
  for (const model of pipeline.models) {
    const now = status.models.find((of) => of.name === model.name);
    all.push(card(`model.${model.name}`, 3, model.name, model.type.replaceAll("_", " "), [
      h("p", { class: "big" }, now?.version ? `v${now.version}` : "none", h("small", {}, now?.version ? " in charge" : " yet")),
      facts(now?.learnt > 0 && ["rows learnt", count(now.learnt)], ["serves", model.name === pipeline.champion ? "yes" : null]),
    ], { href: "#/models" }));
  }
  if (pipeline.champion) {
    all.push(card("score", 4, "score", "served", [
      h("p", { class: "big" }, rate(status.scores_per_second), h("small", {}, " scores/s")),
      spark(rates.scores_per_second, "Scores a second over the last minutes"),
      facts(["scores", count(status.scores)], ["log loss", number(status.log_loss)],
        status.degraded > 0 && ["by a fallback", `${count(status.degraded)} (${percent(status.degraded / status.scores)})`])]));
  }
  for (const sink of pipeline.sinks) {
    const now = status.streams[sink.stream];
    all.push(card(`sink.${sink.name}`, 5, sink.name, sink.type, facts(
      sink.stream !== sink.name && ["stream", sink.stream], ["rows", count(now?.rows)], ["rows/s", rate(now?.rows_per_second)])));
  }
  for (const node of all) stands[node.id] = node.id;
  // Streams that no node of its own stands for.
  const streams = {
    scores: pipeline.champion ? ["score"] : [],
    models: pipeline.models.map((of) => `model.${of.name}`),
    alerts: pipeline.drifts.map((of) => `drift.${of.name}`),
  };
  const edges = new Map();
  for (const [from, to] of pipeline.edges) {
    for (const a of stands[from] ? [stands[from]] : streams[from] ?? []) {
      const b = stands[to];
      if (b && a !== b) edges.set(`${a} ${b}`, [a, b]);
    }
  }
  return { all, edges: [...edges.values()] };
}

const tile = (name, value, note) => h("li", { "data-key": name }, h("b", {}, value), h("span", {}, name), note && h("span", { class: "note" }, note));

function tiles(pipeline, status) {
  return h("ul", { class: "tiles" },
    tile("rows a second", rate(status.rows_per_second), `${count(status.rows)} in all`),
    pipeline.champion && tile("scores a second", rate(status.scores_per_second), `${count(status.scores)} in all`),
    // What is live is of today; of a replay the day says more.
    status.watermark ? tile("done up to", pipeline.live ? clock(status.watermark) : day(status.watermark), pipeline.live ? `UTC, ${day(status.watermark)}` : `${clock(status.watermark)} UTC, event time`)
      : tile("done up to", "–", "nothing yet"),
    pipeline.live && tile("behind the clock", span(status.lag_seconds), "of what is done"),
    tile("late rows", count(status.late), status.late > 0 ? h("a", { href: "#/rejects" }, "which") : "none"),
    tile("dead letters", count(status.dead), status.dead > 0 ? h("a", { href: "#/rejects" }, "why") : "none"),
    tile("memory", bytes(status.memory_bytes), `up for ${span(status.uptime_seconds)}`),
    status.checkpoint && tile("checkpoint", bytes(status.checkpoint.bytes), `${span((Date.parse(status.now) - Date.parse(status.checkpoint.at)) / 1000)} ago`));
}

const day = (text) => text.slice(0, 10);
const clock = (text) => text.slice(11, 19);

let watching = null;

/** Draws the lines between the cards where they stand now. */
function lines(river, edges) {
  const svg = river.querySelector("svg.lines");
  const frame = river.getBoundingClientRect();
  const box = (id) => river.querySelector(`[data-node="${CSS.escape(id)}"]`)?.getBoundingClientRect();
  const paths = edges.map(([from, to]) => {
    const [a, b] = [box(from), box(to)];
    if (!a || !b) return null;
    const [ax, ay] = [a.right - frame.left, a.top + Math.min(24, a.height / 2) - frame.top];
    const [bx, by] = [b.left - frame.left, b.top + Math.min(24, b.height / 2) - frame.top];
    // Within a column the line goes round the right side.
    const path = bx > ax
      ? `M${ax} ${ay}C${(ax + bx) / 2} ${ay} ${(ax + bx) / 2} ${by} ${bx} ${by}`
      : `M${ax} ${ay}C${ax + 26} ${ay} ${b.right - frame.left + 26} ${by} ${b.right - frame.left} ${by}`;
    return s("path", { "data-key": `${from} ${to}`, "data-from": from, "data-to": to, d: path });
  });
  svg.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  show(svg, paths);
}

function mark(river, id) {
  for (const path of river.querySelectorAll("svg.lines path")) {
    path.classList.toggle("near", id !== null && (path.dataset.from === id || path.dataset.to === id));
  }
}

export const graph = {
  name: "graph",
  title: "Graph",
  every: 1,
  ask: (get) => get("rates"),
  render(rates, { pipeline, status }) {
    const { all, edges } = nodes(pipeline, status, rates);
    const from = (id) => edges.filter(([, to]) => to === id).map(([a]) => a.replace(/^\w+\./, ""));
    const draw = (node) => {
      const fed = from(node.id);
      const river = () => document.querySelector(".river");
      return h("article", { class: node.alarm ? "card alarm" : "card", "data-node": node.id, "data-key": node.id,
        onpointermove: () => mark(river(), node.id), onpointerleave: () => mark(river(), null) },
        h("h3", {}, node.href ? h("a", { href: node.href }, node.title) : node.title), h("p", { class: "kind" }, node.kind),
        node.body, fed.length > 0 && h("p", { class: "fed" }, `from ${fed.join(", ")}`));
    };
    const columns = COLUMNS.map((title, n) => ({ title, own: all.filter((node) => node.column === n) })).filter(({ own }) => own.length > 0);
    return h("div", { class: "page" },
      status.state === "ended" && empty("The input has ended. What is served stays as it is."),
      tiles(pipeline, status),
      h("section", { class: "bare", "aria-label": "The graph" },
        h("div", { class: status.rows_per_second > 0 ? "river flows" : "river", "data-columns": columns.length },
          s("svg", { class: "lines", "aria-hidden": "true" }),
          columns.map(({ title, own }) => h("div", { class: "column", "data-key": title }, h("h2", {}, title), own.map(draw))))));
  },
  shown(main, { pipeline, status }) {
    const river = main.querySelector(".river");
    const { edges } = nodes(pipeline, status, { sources: {}, scores_per_second: [] });
    const draw = () => river.isConnected && lines(river, edges);
    draw();
    watching?.disconnect();
    watching = new ResizeObserver(draw);
    watching.observe(river);
  },
};
