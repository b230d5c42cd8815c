// Videos of an index that are alike: asked for by a button, with the part that is alike to play.

import { post } from "./api.js";
import { announce, h } from "./dom.js";
import { counted, interval } from "./words.js";

// A section for one file and one index of the server.
export function neighbours(file, index) {
  const title = `Videos alike, of ${counted(index.videos, "video")} in ${index.name}`;
  const place = h("div"), words = h("p", { class: "note", hidden: true });
  const ask = h("button", { type: "button" }, "Find videos alike");
  ask.addEventListener("click", async () => {
    ask.disabled = true;
    words.hidden = false;
    words.className = "note";
    try {
      await find(file, index, (said) => { words.textContent = said; }, (value) => show(place, value));
      ask.hidden = words.hidden = true;
    } catch (failure) {
      words.className = "banner bad";
      words.textContent = failure.type ? `${failure.type}: ${failure.message}` : String(failure);
      announce(words.textContent);
    } finally {
      ask.disabled = false;
    }
  });
  return h("section", { class: "card neighbours", "aria-label": title }, h("h3", {}, title), h("div", { class: "buttons" }, ask), words, place);
}

async function find(file, index, say, take) {
  say("Uploading");
  const on = {
    upload: (share) => say(`Uploading, ${Math.round(100 * share)}%`),
    uploaded: () => say("The server looks for videos alike"),
    line: take,
  };
  await post("/api/similar", file, { name: file.name, index: index.name }, on, new AbortController().signal);
}

function show(place, { neighbours: found }) {
  announce(`${counted(found.length, "video")} alike`);
  place.replaceChildren(found.length
    ? h("ol", { class: "alike" }, found.map(card))
    : h("p", {}, "The index holds no video that may be shown."));
}

function card(one) {
  const part = `${one.start_seconds.toFixed(2)},${one.end_seconds.toFixed(2)}`;
  const nothing = (words) => h("p", { class: "no-picture note" }, words);
  const video = one.play && h("video", {
    src: `/videos/${one.play}#t=${part}`, controls: true, muted: true, playsinline: true, preload: "metadata",
    "aria-label": `Player of ${one.name}`,
  });
  video?.addEventListener("error", () => video.replaceWith(nothing("This browser cannot play it.")));
  return h("li", {},
    video || nothing("Not in a folder of this page."),
    h("p", { class: "alike-name" }, one.name),
    h("p", { class: "note" },
      `cosine ${one.score.toFixed(3)}, its ${interval(one.start_seconds, one.end_seconds)} like `
      + `${interval(one.query_start_seconds, one.query_end_seconds)} here${one.labels.length ? `; ${one.labels.join(", ")}` : ""}`));
}
