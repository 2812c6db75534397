// What went aside: records that could not be used, and rows that came too late.

import { count, empty, h, moment, percent, section, table } from "./dom.js";

const raw = (text) => h("pre", {}, text);

function group(title, rows, share, body) {
  return h("details", { class: "group", "data-key": title.join(" ") },
    h("summary", {}, h("span", { class: "grow" }, title[0], h("small", {}, ` ${title[1]}`)),
      h("b", {}, count(rows)), h("small", {}, share !== null ? `${percent(share)} of its rows` : "")),
    body || empty("No sample is held of these: they were counted before the last restart."));
}

export const rejects = {
  name: "rejects",
  title: "Late and dead",
  every: 2,
  ask: (get) => get("rejects"),
  render(answer, { status }) {
    const read = (source) => status.sources.find((of) => of.name === source)?.rows ?? 0;
    const share = (source, rows) => (read(source) > 0 ? rows / read(source) : null);
    const dead = answer.dead_letters.map(({ source, reason, rows, samples }) => group([source, reason.replaceAll("_", " ")], rows, share(source, rows),
      samples.length > 0 && table(`Samples of ${reason} in ${source}`,
        [{ name: "Where" }, { name: "What is wrong" }, { name: "The record" }, { name: "Seen" }],
        samples.map((sample) => ({ key: `${sample.origin}/${sample.partition}/${sample.offset}`, cells: [
          `${sample.origin}, ${sample.partition > 0 ? `partition ${sample.partition}, ` : ""}${count(sample.offset)}`,
          sample.detail, raw(sample.raw), moment(sample.seen)] })))));
    const late = answer.late.map(({ source, rows, samples }) => group([source, "later than its lateness allows"], rows, share(source, rows),
      samples.length > 0 && table(`Late rows of ${source}`,
        [{ name: "Id" }, { name: "Event time" }, { name: "The row" }, { name: "Seen" }],
        samples.map((sample) => ({ key: `${sample.id} ${sample.event_time}`, cells: [sample.id, moment(sample.event_time), raw(sample.row), moment(sample.seen)] })))));
    return h("div", { class: "page" },
      section("Dead letters", "Records that could not be used, by source and reason. The sink of dead letters has all of them, if there is one.",
        dead.length > 0 ? dead : empty("Every record so far could be used.")),
      section("Late rows", "Rows that came after the watermark of their source had passed them. They change no feature and are in no score.",
        late.length > 0 ? late : empty("No row came too late.")));
  },
};
