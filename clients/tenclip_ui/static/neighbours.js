// Videos of an index that are alike: asked for by a button, with the part that is alike to play.

import { post } from "./api.js";
import { announce, h } from "./dom.js";
import { counted, interval } from "./words.js";

// A section for one file and one index of the server.
export class Neighbours {
  constructor(file, index) {
    const title = `Videos alike, of ${counted(index.videos, "video")} in ${index.name}`;
    this._file = file;
    this._index = index;
    this._abort = null;
    this._place = h("div");
    this._words = h("p", { class: "note", hidden: true });
    this._ask = h("button", { type: "button", onclick: () => this._find() }, "Find videos alike");
    this._cancel = h("button", { type: "button", hidden: true, onclick: () => this.cancel() }, "Cancel");
    this.element = h("section", { class: "card neighbours", "aria-label": title },
      h("h3", {}, title), h("div", { class: "buttons" }, this._ask, this._cancel), this._words, this._place);
  }

  // Ends the upload, and with it the search on the server.
  cancel() {
    this._abort?.abort();
  }

  // Never throws: what goes wrong is shown here.
  async _find() {
    const abort = this._abort = new AbortController();
    const on = {
      upload: (share) => this._say(`Uploading, ${Math.round(100 * share)}%`),
      uploaded: () => this._say("The server looks for videos alike"),
      line: (value) => show(this._place, value),
    };
    this._ask.disabled = true;
    this._cancel.hidden = false;
    this._say("Uploading");
    try {
      await post("/api/similar", this._file, { name: this._file.name, index: this._index.name }, on, abort.signal);
      this._ask.hidden = this._words.hidden = true;
    } catch (failure) {
      this._failed(failure);
    } finally {
      this._ask.disabled = false;
      this._cancel.hidden = true;
    }
  }

  _say(words) {
    this._words.hidden = false;
    this._words.className = "note";
    this._words.textContent = words;
  }

  _failed(err) {
    if (err.name === "AbortError") {
      this._say("Cancelled.");
      announce(`${this._file.name}: cancelled`);
      return;
    }
    this._words.className = "banner bad";
    this._words.textContent = err.type ? `${err.type}: ${err.message}` : String(err);
    announce(this._words.textContent);
  }
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
