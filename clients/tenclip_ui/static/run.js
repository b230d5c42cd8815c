// One video: a player, and a panel for each model that looks at it.

import { announce, h } from "./dom.js";
import { Neighbours } from "./neighbours.js";
import { Panel } from "./panel.js";
import { bytes } from "./words.js";

let made = 0;

export class Run {
  // file: a File, kept for as long as its run is shown. choose(): the options as they are now: {models, options}.
  // indexes: those of the server, in which videos alike can be found.
  constructor(file, choose, indexes) {
    const id = `run-${++made}`;
    this._file = file;
    this._choose = choose;
    this._panels = [];
    this._neighbours = indexes.map((index) => new Neighbours(file, index));
    this._address = URL.createObjectURL(file);
    this._video = h("video", { src: this._address, controls: true, muted: true, playsinline: true, preload: "metadata", "aria-label": `Player of ${file.name}` });
    this._unplayable = h("p", { class: "note", hidden: true }, "This browser cannot play this kind of file.");
    this._video.addEventListener("error", () => { this._video.hidden = true; this._unplayable.hidden = false; });
    this._video.addEventListener("timeupdate", () => this._panels.forEach((p) => p.playhead(this._video.currentTime)));
    this._title = h("h2", { id: `${id}-title`, tabindex: -1 }, file.name);
    this._verdict = h("p", { class: "verdict", hidden: true });
    this._places = h("div", { class: "panels" });
    this.element = h("article", { class: "run", "aria-labelledby": `${id}-title` },
      h("div", { class: "run-head" },
        h("div", {}, this._title, h("p", { class: "note" }, bytes(file.size))),
        h("div", { class: "buttons" },
          h("button", { type: "button", onclick: () => this.start(), "aria-label": `Run ${file.name} again` }, "Run again"),
          h("button", { type: "button", onclick: () => this.remove(), "aria-label": `Remove ${file.name}` }, "Remove"))),
      this._video, this._unplayable, this._verdict, this._places, ...this._neighbours.map((one) => one.element));
  }

  focus() {
    this._title.focus();
  }

  // Every model gets the same file, at once.
  async start() {
    this._panels.forEach((panel) => panel.cancel());
    const { models, options } = this._choose();
    const panels = models.map((model) => new Panel(this._file.name, model, (seconds) => this._play(seconds)));
    this._panels = panels;
    this._verdict.hidden = true;
    this._places.classList.toggle("two", panels.length > 1);
    this._places.replaceChildren(...panels.map((p) => p.element));
    announce(`${this._file.name}: upload begins`);
    await Promise.all(panels.map((panel) => panel.run(this._file, options)));
    if (panels === this._panels && panels.length > 1) this._compare(panels);
  }

  remove() {
    [...this._panels, ...this._neighbours].forEach((one) => one.cancel());
    URL.revokeObjectURL(this._address);
    const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
    this.element.remove();
    this.onremove?.();
    (next?.querySelector("h2") ?? document.getElementById("choose")).focus();
  }

  _play(seconds) {
    if (this._video.hidden) return;
    this._video.currentTime = seconds;
    this._panels.forEach((p) => p.playhead(seconds));
  }

  _compare(panels) {
    if (!panels.every((panel) => panel.answer)) return;
    const labels = panels.map((panel) => panel.answer.prediction.top[0].label);
    const same = labels.every((label) => label === labels[0]);
    this._verdict.textContent = same
      ? `Both models say: ${labels[0]}.`
      : `The models disagree: ${panels.map((p, i) => `${p.model} says ${labels[i]}`).join(", ")}.`;
    this._verdict.hidden = false;
    announce(this._verdict.textContent);
  }
}
