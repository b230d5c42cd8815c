// What is said of one answer besides the figure: its class, what to know of it, tables, timings, the report.

import { h, meter, table } from "./dom.js";
import { counted, interval, moment, number, percent, seconds } from "./words.js";

const MAX_ROWS = 500;
const fact = (name, value, words) => h("div", {}, h("dt", {}, name), h("dd", {}, value, h("small", {}, words)));

// The large figures above everything else.
export function headline({ prediction, words }) {
  const best = prediction.top[0], adaptive = prediction.adaptive, timeline = prediction.timeline;
  const calibrated = best.calibrated === null ? "" : `, ${percent(best.calibrated)} calibrated`;
  const ran = adaptive ? `${adaptive.clips_used} of ${adaptive.clips_planned}` : String(prediction.clips.length);
  const total = Object.values(prediction.provenance.timings).reduce((sum, one) => sum + one, 0);
  return h("dl", { class: "figures" },
    fact("class", h("span", { class: best.label.length > 16 ? "long" : null }, best.label), `${percent(best.score)}${calibrated}`),
    fact("clips that ran", ran, words.agreement || "all that were planned"),
    fact("salience by", timeline?.points.length ? timeline.scorer : "none", timeline ? `${counted(timeline.points.length, "window")}${timeline.flat ? ", flat" : ""}` : "no timeline"),
    fact("on the server", total ? seconds(total) : "from its cache", prediction.provenance.runtime));
}

export const notices = ({ words }) => [
  words.adaptive && h("p", { class: "banner" }, words.adaptive),
  words.notices.length > 0 && h("ul", { class: "notices" }, words.notices.map((notice) => h("li", {}, notice))),
];

// The classes of the video, with bars; while clips come in, those so far.
export function classes(top, caption = "") {
  const calibrated = top.some((one) => one.calibrated !== null);
  const heads = [["class"], ["score", "number"], ...(calibrated ? [["calibrated", "number"]] : []), ["", "meters"]];
  const rows = top.map((one) => [
    one.label,
    percent(one.score),
    ...(calibrated ? [one.calibrated === null ? "-" : percent(one.calibrated)] : []),
    [meter(one.score), calibrated && one.calibrated !== null && meter(one.calibrated, "calibrated")].filter(Boolean),
  ]);
  const words = calibrated ? "Upper bar: score. Lower bar: the score after the model's own temperature." : caption;
  return table("Classes of the video", heads, rows.map((row) => row.map((cell) => (Array.isArray(cell) ? h("div", {}, cell) : cell))), words);
}

// Every clip and every window as a table, folded away. play(seconds): from a button, null where nothing can play.
export function details({ prediction, words }, play) {
  const saliences = new Map((prediction.timeline?.points ?? []).map((p) => [`${p.start_seconds} ${p.end_seconds}`, p.score]));
  const clipRows = prediction.clips.slice(0, MAX_ROWS).map(({ clip, top }) => [
    clip.index,
    play ? h("button", { type: "button", class: "link", onclick: () => play(clip.start_seconds), "aria-label": `Play from ${moment(clip.start_seconds)}` }, interval(clip.start_seconds, clip.end_seconds)) : interval(clip.start_seconds, clip.end_seconds),
    number(saliences.get(`${clip.start_seconds} ${clip.end_seconds}`) ?? null),
    ...[0, 1, 2].map((i) => (top[i] ? h("span", {}, `${top[i].label} `, h("b", {}, percent(top[i].score))) : "")),
  ]);
  const points = (prediction.timeline?.points ?? []).slice(0, MAX_ROWS);
  const windowRows = points.map((p, i) => [i, interval(p.start_seconds, p.end_seconds), number(p.score), p.selected ? "chosen" : ""]);
  return [
    clipRows.length > 0 && folded(`Classes of ${counted(prediction.clips.length, "clip")} as a table`,
      table("Clips and their classes", [["clip"], ["time", "number"], ["salience", "number"], ["best class"], ["second"], ["third"]], clipRows, cut(prediction.clips.length))),
    windowRows.length > 0 && folded(`Salience of ${counted(prediction.timeline.points.length, "window")} as a table`,
      table("Salience of windows", [["window"], ["time", "number"], ["salience", "number"], [""]], windowRows, cut(prediction.timeline.points.length))),
    folded("How this answer came about", facts(prediction, words)),
  ];
}

const folded = (words, content) => h("details", {}, h("summary", {}, words), content);
const cut = (count) => (count > MAX_ROWS ? `The first ${MAX_ROWS} of ${count}.` : "");

function facts({ provenance, report }, words) {
  const rows = [
    ["video", words.video],
    ["model", `${provenance.model}:${provenance.version}`],
    ["protocol", provenance.protocol],
    ["runtime", provenance.runtime],
    ["server", provenance.server_version ? `tenclip ${provenance.server_version}` : "of an unknown version"],
    ["request", provenance.request_id || "without a number"],
    ["frames decoded on the way", report.frames_decoded],
    ["frames stood in for", report.frames_substituted],
    ["frames damaged", report.frames_corrupt],
  ];
  return table("How this answer came about", [[""], [""]], rows);
}

// Where the time went: on the way to the server as this browser measured it, and by stage on the server.
export function timings({ prediction }, { upload, total }) {
  const stages = Object.entries(prediction.provenance.timings), longest = Math.max(upload, ...stages.map(([, spent]) => spent), 1e-9);
  const rows = [["upload", upload], ...stages].map(([stage, spent]) => [stage, seconds(spent), meter(spent / longest)]);
  return table("Timings", [["stage"], ["time", "number"], ["", "meters"]], rows, `${seconds(total)} from the first byte to the answer, as this browser saw it.`);
}

// A button that saves the report: one file without scripts that needs no network.
export function saveButton(report, name) {
  return h("button", { type: "button", onclick: () => save(report, name) }, "Save the report");
}

function save(report, name) {
  const address = URL.createObjectURL(new Blob([report], { type: "text/html" }));
  const link = h("a", { href: address, download: `${name.replace(/[^A-Za-z0-9._-]+/g, "-")}.html` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
