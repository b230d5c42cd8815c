// Elements without markup in strings: what a server says is text, and stays text.

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes (`class`, `onclick`, `hidden`, ...) and children; null and false are left out.
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// The same for SVG.
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

let announced = null;

// Says something to people who hear the page, once it has been quiet for a moment.
export function announce(words) {
  clearTimeout(announced);
  announced = setTimeout(() => { byId("status").textContent = words; }, 150);
}

// A table in its own scrolling box. heads: [words, class]. rows: arrays of cells, the first one the row's header.
export function table(label, heads, rows, caption = "") {
  const cell = (value, i) => h(i ? "td" : "th", { class: heads[i][1] || null, scope: i ? null : "row" }, value);
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": label },
    h("table", {},
      caption && h("caption", {}, caption),
      h("thead", {}, h("tr", {}, heads.map(([words, kind]) => h("th", { scope: "col", class: kind || null }, words)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell))))));
}

// A bar beside a figure that is written out in its row.
export function meter(share, kind = "") {
  const bar = h("span", { class: `meter ${kind}`.trim(), "aria-hidden": "true" });
  bar.style.width = `${(100 * Math.min(Math.max(share || 0, 0), 1)).toFixed(1)}%`;
  return bar;
}
