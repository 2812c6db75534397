// Alerts: what detectors and trainings had to say since the program started.

import { chance, count, empty, h, level, moment, number, section, table } from "./dom.js";

let only = "";

export const alerts = {
  name: "alerts",
  title: "Alerts",
  every: 2,
  ask: (get) => get("alerts"),
  render(answer, _state, refresh) {
    const levels = [...new Set(answer.counts.map((of) => of.level))];
    const total = (name) => answer.counts.filter((of) => of.level === name).reduce((sum, of) => sum + of.alerts, 0);
    const shown = answer.alerts.filter((of) => only === "" || of.level === only);
    const all = answer.counts.reduce((sum, of) => sum + of.alerts, 0);
    const choice = (name, text) => h("button", { "aria-pressed": String(only === name), onclick: () => { only = name; refresh(); } }, text);
    return h("div", { class: "page" },
      section("Alerts", `${count(all)} since the program started${all > answer.alerts.length ? `; the newest ${count(answer.alerts.length)} are held` : ""}. The sink of alerts has all of them, if there is one.`,
        all > 0 && h("p", { class: "tools", role: "group", "aria-label": "Levels" }, choice("", "All"), levels.map((name) => choice(name, `${name} (${count(total(name))})`))),
        shown.length === 0 ? empty("Nothing has been found that is worth an alert.") : table("Alerts",
          [{ name: "Level" }, { name: "Of" }, { name: "Found by" }, { name: "Reading", number: true }, { name: "p-value", number: true }, { name: "Event time" }, { name: "Told" }],
          shown.map((of, n) => ({ key: `${of.event_time} ${of.drift} ${of.detector} ${of.of} ${answer.alerts.length - n}`, cells: [
            level(of.level), h("b", {}, of.of), `${of.drift}: ${of.detector.replaceAll("_", " ")}`, number(of.statistic), chance(of.p_value), moment(of.event_time), moment(of.seen)] })))));
  },
};
