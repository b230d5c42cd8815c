// A video over its time: pictures, salience of its windows, the clips that were seen, and its classes clip by clip.

import { h, s } from "./dom.js";
import { counted, interval, moment, number, percent } from "./words.js";

const CURVE = 64, LANE = 15, MAX_LANES = 8, ROW_WORDS = 15, ROW_BARS = 18, GAP = 8, AXIS = 24, MAX_BARS = 400, MIN_PICTURE = 48;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];

// shown: {clips, classes, timeline, thumbnails, duration}; clips: [{clip, top}]. seek(seconds): on a click.
// Returns {element, update(shown), playhead(seconds)}.
export function timeFigure(seek) {
  const strip = h("div", { class: "strip" }), place = h("div", { class: "drawing" });
  const caption = h("figcaption");
  const element = h("figure", { class: "film" }, strip, place, caption);
  let shown = null, head = null, at = null, span = [0, 1];
  const share = (event) => {
    const box = place.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  };
  for (const target of [strip, place]) {
    target.addEventListener("click", (event) => seek(span[0] + share(event) * (span[1] - span[0])));
  }
  function draw() {
    if (!shown || !place.clientWidth) return;
    span = spanOf(shown);
    const drawing = drawingOf(shown, span, place.clientWidth);
    head = drawing.head;
    place.replaceChildren(drawing.svg);
    fillStrip(strip, shown.thumbnails, place.clientWidth);
    playhead(at);
  }
  function playhead(seconds) {
    at = seconds;
    if (!head) return;
    const x = at === null ? -9 : ((at - span[0]) / (span[1] - span[0])) * place.clientWidth;
    head.setAttribute("transform", `translate(${x.toFixed(1)} 0)`);
  }
  new ResizeObserver(draw).observe(place);
  return {
    element,
    playhead,
    update(value) {
      shown = value;
      caption.textContent = captionOf(shown);
      draw();
    },
  };
}

// As many pictures as there is room for, each as wide as the time that it stands for.
function fillStrip(strip, thumbnails, width) {
  const step = Math.max(Math.ceil(thumbnails.length / Math.max(width / MIN_PICTURE, 1)), 1);
  const chosen = thumbnails.filter((_, i) => i % step === Math.min(step >> 1, (thumbnails.length - 1) % step));
  strip.replaceChildren(...chosen.map(picture));
  strip.style.gridTemplateColumns = `repeat(${chosen.length || 1}, minmax(0, 1fr))`;
  strip.hidden = !chosen.length;
}

function picture(t) {
  const source = `data:image/jpeg;base64,${t.jpeg}`;
  return h("img", { src: source, alt: `Frame at ${moment(t.seconds)}`, width: t.width, height: t.height });
}

function spanOf({ timeline, duration, clips }) {
  const points = timeline?.points ?? [];
  if (points.length) {
    const start = Math.min(...points.map((p) => p.start_seconds));
    return [start, Math.max(...points.map((p) => p.end_seconds), start + 0.001)];
  }
  return [0, Math.max(duration || 0, ...clips.map((c) => c.clip.end_seconds), 0.001)];
}

function captionOf({ timeline, clips, classes }) {
  const points = timeline?.points ?? [], parts = [];
  if (points.length) {
    const scores = points.map((p) => p.score).filter((score) => score !== null);
    const chosen = points.filter((p) => p.selected).length;
    const taken = chosen ? `the ${chosen} that were taken as clips are blue` : "none is a clip";
    const range = scores.length ? `from ${number(Math.min(...scores))} to ${number(Math.max(...scores))}` : "without scores";
    parts.push(`Salience of ${counted(points.length, "window")} by ${timeline.scorer || "an unnamed scorer"}, ${range}; ${taken}.`);
  }
  if (clips.length) parts.push(`Below: the ${counted(clips.length, "clip")} that the network saw, by number.`);
  if (clips.length && classes.length) parts.push("Then the score of each class, clip by clip, up to 100%.");
  return parts.join(" ");
}

function drawingOf(shown, span, width) {
  const x = (t) => Math.min(Math.max((t - span[0]) / (span[1] - span[0]), 0), 1) * width;
  const parts = [];
  let top = 0;
  if (shown.timeline?.points.length) {
    parts.push(salience(shown.timeline.points, x, width));
    top = CURVE + GAP;
  }
  const clips = [...shown.clips].sort((a, b) => a.clip.start_seconds - b.clip.start_seconds);
  const lanes = lanesOf(clips);
  clips.forEach((c, i) => parts.push(clipMark(c, x, top + lanes[i] * (LANE + 2), width)));
  if (clips.length) top += (Math.max(...lanes) + 1) * (LANE + 2) + GAP;
  for (const wanted of clips.length ? shown.classes : []) {
    parts.push(classRow(wanted, clips, x, top, width));
    top += ROW_WORDS + ROW_BARS + GAP;
  }
  for (const t of ticks(span, width)) parts.push(tick(t, x(t), top, width));
  const head = s("line", { class: "playhead", y1: 0, y2: top, transform: "translate(-9 0)" });
  const label = `${captionOf(shown)} The tables below have every number.`;
  const height = top + AXIS;
  return { head, svg: s("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, parts, head) };
}

// Bars of windows; of many, a bar is the highest of several.
function salience(points, x, width) {
  const scores = points.map((p) => p.score ?? 0), low = Math.min(0, ...scores), high = Math.max(...scores);
  const flat = high - Math.min(...scores) <= 0;
  const step = Math.ceil(points.length / Math.min(MAX_BARS, Math.max(width / 3, 1)));
  const bars = [];
  for (let i = 0; i < points.length; i += step) {
    const group = points.slice(i, i + step), next = points[i + step];
    const best = group.reduce((a, b) => ((b.score ?? low) > (a.score ?? low) ? b : a));
    const left = x(group[0].start_seconds), right = next ? x(next.start_seconds) : x(group.at(-1).end_seconds);
    const height = 2 + (flat ? 0.5 : ((best.score ?? low) - low) / (high - low)) * (CURVE - 2);
    const selected = group.some((p) => p.selected);
    const words = `${interval(group[0].start_seconds, group.at(-1).end_seconds)}: ${number(best.score)}${selected ? ", chosen" : ""}`;
    bars.push(s("rect", { x: left, y: CURVE - height, width: Math.max(right - left - 1, 1), height, class: selected ? "window selected" : "window" }, s("title", {}, words)));
  }
  return [bars, s("line", { x1: 0, x2: width, y1: CURVE, y2: CURVE, class: "grid" })];
}

// The row of each clip: clips that overlap lie below each other.
function lanesOf(clips) {
  const free = [];
  return clips.map(({ clip }) => {
    let lane = free.findIndex((until) => until <= clip.start_seconds + 1e-9);
    if (lane < 0) lane = Math.min(free.length, MAX_LANES - 1);
    free[lane] = clip.end_seconds;
    return lane;
  });
}

function clipMark({ clip, top }, x, y, width) {
  const wide = Math.max(x(clip.end_seconds) - x(clip.start_seconds), 3), left = Math.min(x(clip.start_seconds), width - wide);
  const words = `Clip ${clip.index}, ${interval(clip.start_seconds, clip.end_seconds)}: ${top[0]?.label ?? ""}${clip.looped ? "; began again at its end" : ""}`;
  const text = String(clip.index);
  return [
    s("rect", { x: left, y, width: wide, height: LANE, rx: 3, class: "clip" }, s("title", {}, words)),
    wide > 8 * text.length + 4 && s("text", { x: left + 4, y: y + LANE - 4, class: "on-clip" }, text),
  ];
}

// One class: its name, and a bar for every clip that had it among its best.
function classRow({ index, label }, clips, x, top, width) {
  const middles = clips.map(({ clip }) => (clip.start_seconds + clip.end_seconds) / 2);
  const bottom = top + ROW_WORDS + ROW_BARS;
  const bars = clips.map((c, i) => {
    const score = c.top.find((one) => one.index === index)?.score;
    if (score === undefined) return null;
    // Clips that overlap share what both of them show.
    const left = x(Math.max(c.clip.start_seconds, i ? (middles[i - 1] + middles[i]) / 2 : -Infinity));
    const right = x(Math.min(c.clip.end_seconds, i + 1 < clips.length ? (middles[i] + middles[i + 1]) / 2 : Infinity));
    const height = Math.max(score * ROW_BARS, 1);
    return s("rect", { x: left, y: bottom - height, width: Math.max(right - left - 0.5, 1.5), height, class: "class-bar" },
      s("title", {}, `${label}, clip ${c.clip.index}: ${percent(score)}`));
  });
  const letters = Math.floor(width / 7);
  return [
    s("line", { x1: 0, x2: width, y1: bottom, y2: bottom, class: "grid" }),
    bars,
    s("text", { x: 0, y: top + 11, class: "class-name" }, label.length > letters ? `${label.slice(0, letters - 1)}…` : label),
  ];
}

function ticks([start, end], width) {
  const step = STEPS.find((one) => one >= (end - start) / Math.max(width / 80, 2)) ?? 28800;
  const found = [];
  for (let i = Math.ceil(start / step - 1e-9); i * step <= end + 1e-9; i++) found.push(i * step);
  return found;
}

function tick(t, x, top, width) {
  const anchor = x < 16 ? "start" : x > width - 24 ? "end" : "middle";
  return [
    s("line", { x1: x, x2: x, y1: top, y2: top + 5, class: "grid" }),
    s("text", { x, y: top + 18, "text-anchor": anchor }, moment(t)),
  ];
}
