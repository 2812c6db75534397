// Elements, texts and numbers. Whatever comes from data becomes a text node or an attribute and is never
// read as markup.

const SVG = "http://www.w3.org/2000/svg";
const HANDLERS = ["onclick", "onchange", "oninput", "onkeydown", "onpointermove", "onpointerleave", "onfocus", "onblur"];

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (HANDLERS.includes(name)) node[name] = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** An element of HTML. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** An element of SVG. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Makes `old` look like `fresh` and leaves alone what is the same, so that focus, scrolling and opened
 *  details outlive an update. Elements with an `id` or `data-key` are told apart by it. */
export function morph(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.tagName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const handler of HANDLERS) if (old[handler] !== fresh[handler]) old[handler] = fresh[handler];
  const key = (node) => (node.nodeType === 1 ? node.id || node.dataset?.key || node.tagName : "#text");
  const held = new Map();
  for (const node of [...old.childNodes]) {
    const same = held.get(key(node)) ?? [];
    same.push(node);
    held.set(key(node), same);
  }
  let place = old.firstChild;
  for (const node of [...fresh.childNodes]) {
    const same = held.get(key(node))?.shift();
    if (!same) {
      old.insertBefore(node, place);
      continue;
    }
    if (same === place) place = place.nextSibling;
    else old.insertBefore(same, place);
    if (same.nodeType === 1) morph(same, node);
    else if (same.data !== node.data) same.data = node.data;
  }
  for (const rest of held.values()) for (const node of rest) node.remove();
}

/** Shows these nodes as the content of an element. */
export function show(element, ...children) {
  const fresh = element.cloneNode(false);
  fill(fresh, null, children);
  morph(element, fresh);
}

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** 1234567 as 1,234,567. */
export const count = (n) => (n === null || n === undefined ? "–" : whole.format(n));

/** A rate a second, in few characters. */
export function rate(n) {
  if (n === null || n === undefined) return "–";
  if (n === 0) return "0";
  if (n >= 999_950) return `${(n / 1e6).toFixed(1)} M`;
  if (n >= 9_995) return `${(n / 1e3).toFixed(1)} k`;
  if (n >= 9.95) return whole.format(n);
  return n.toFixed(1);
}

/** About three significant digits, as the report of a run has them. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size >= 1000) return whole.format(value);
  if (size !== 0 && size < 0.0001) return value.toExponential(1);
  const decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 4;
  const text = value.toFixed(decimals);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** A p-value; one that no float can hold is below all that can. */
export const chance = (p) => (p === 0 ? "< 1e-300" : number(p));

export const percent = (share) => (share === 0 ? "0 %" : share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(1)} %`);

/** A span of seconds for people. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.round(seconds / 360) / 10;
  if (hours < 48) return `${hours} h`;
  const days = seconds / 86_400;
  return days < 730 ? `${Math.round(days)} d` : `${Math.round(days / 365.25)} years`;
}

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  let unit = "B";
  for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
    if (n < 1024) break;
    n /= 1024;
    unit = next;
  }
  return unit === "B" ? `${n} B` : `${n.toFixed(1)} ${unit}`;
}

/** A time of RFC 3339 in UTC to the second. */
export function moment(text) {
  if (!text) return "–";
  return h("time", { datetime: text, title: text }, text.slice(0, 19).replace("T", " "));
}

/** Only the day, or only the minute, of such a time. */
export const day = (text) => (text ? text.slice(0, 10) : "–");

/** A little line of numbers; `label` is what it says to whoever does not see it. */
export function spark(values, label, { width = 120, height = 26 } = {}) {
  const most = Math.max(...values, 1e-9);
  const step = width / Math.max(values.length - 1, 1);
  const at = (value, n) => `${(n * step).toFixed(1)} ${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`;
  const line = values.map(at).join("L");
  return s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    values.length > 1 && s("path", { class: "area", d: `M${line}L${width} ${height}L0 ${height}Z` }),
    values.length > 1 && s("path", { class: "trace", d: `M${line}` }));
}

/** A word with a shape for its level, so that colour is not needed to tell it. */
export function level(name) {
  const shapes = { stable: "●", warning: "▲", drift: "◆", error: "✕" };
  return h("span", { class: `level ${name}` }, h("span", { "aria-hidden": "true" }, shapes[name] ?? "●"), " ", name);
}

export const empty = (...text) => h("p", { class: "empty" }, ...text);

/** A section with a head and a line that says what it is. */
export const section = (title, what, ...body) =>
  h("section", { "data-key": title }, h("h2", {}, title), what && h("p", { class: "what" }, what), ...body);

/** A table whose cells know their heads, so that they can stand below each other on a narrow screen. */
export function table(label, heads, rows) {
  const right = (n) => (heads[n].number ? "n" : null);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", {},
      h("thead", {}, h("tr", {}, heads.map((head, n) => h("th", { scope: "col", class: right(n), title: head.title }, head.name)))),
      h("tbody", {}, rows.map((row) => h("tr", { "data-key": row.key },
        row.cells.map((cell, n) => h(n === 0 ? "th" : "td", { scope: n === 0 ? "row" : null, class: right(n), "data-head": heads[n].name }, cell)))))));
}
