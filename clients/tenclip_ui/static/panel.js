// One video by one model: how far it is, then what was found.

import { post } from "./api.js";
import { classes, details, headline, notices, saveButton, timings } from "./answer.js";
import { announce, h } from "./dom.js";
import { timeFigure } from "./figure.js";
import { percent } from "./words.js";

let made = 0;

export class Panel {
  // play(seconds): plays the video from there; may be null.
  constructor(name, model, play) {
    const id = `panel-${++made}`;
    this.name = name;
    this.model = model;
    this.answer = null;
    this._play = play;
    this._abort = new AbortController();
    this._bar = h("progress", { max: 1, value: 0, "aria-labelledby": `${id}-words` });
    this._words = h("p", { id: `${id}-words`, class: "progress-words" }, "Waiting");
    this._cancel = h("button", { type: "button", onclick: () => this.cancel() }, "Cancel");
    this._progress = h("div", { class: "progress" }, this._words, this._bar, this._cancel);
    this._body = h("div", { class: "answer" });
    this._figure = timeFigure((seconds) => play(seconds));
    this.element = h("section", { class: "panel card", "aria-labelledby": `${id}-title` },
      h("h3", { id: `${id}-title` }, model || "the server's model"), this._progress, this._body);
  }

  cancel() {
    this._abort.abort();
  }

  // Sends the video and shows what comes. Never throws: what goes wrong is shown here.
  async run(blob, options) {
    const began = performance.now();
    let uploaded = began, spoken = 0;
    const on = {
      upload: (share) => {
        this._say(`Uploading, ${Math.round(100 * share)}%`, share / 2);
        const quarter = Math.floor(share * 4);
        if (quarter > spoken && quarter < 4) announce(`${this.name}: ${25 * quarter}% uploaded`);
        spoken = quarter;
      },
      uploaded: () => {
        uploaded = performance.now();
        this._say("The server reads the video", 0.5);
        announce(`${this.name}: uploaded, the server reads it`);
      },
      line: (value) => (value.update ? this._partly(value.update) : this._finished(value)),
    };
    try {
      await post("/api/predict", blob, { ...options, name: this.name, model: this.model }, on, this._abort.signal);
      const times = { upload: (uploaded - began) / 1000, total: (performance.now() - began) / 1000 };
      this._show(times);
    } catch (err) {
      this._failed(err);
    }
  }

  _say(words, share) {
    this._words.textContent = words;
    this._bar.value = share;
  }

  _partly({ clip, top, num_done: done, num_clips: planned }) {
    this._clips = [...(this._clips ?? []), clip];
    this._say(`${done} of ${planned} clips`, 0.5 + 0.5 * done / planned);
    const shown = { clips: this._clips, classes: top, timeline: null, thumbnails: [], duration: 0 };
    if (!this._figure.element.isConnected) this._body.replaceChildren(this._figure.element, h("div"));
    this._figure.update(shown);
    this._body.lastElementChild.replaceWith(h("div", {}, classes(top, "So far.")));
  }

  _finished(value) {
    this.answer = value;
  }

  _show(times) {
    const { prediction, report } = this.answer;
    this._progress.remove();
    this._body.replaceChildren(...[
      headline(this.answer), notices(this.answer),
      h("h4", {}, "Over time"), this._figure.element,
      h("h4", {}, "Classes of the video"), classes(prediction.top),
      details(this.answer, this._play),
      h("h4", {}, "Where the time went"), timings(this.answer, times),
      h("div", { class: "buttons" }, saveButton(report, `${this.name}-${prediction.provenance.model}`)),
    ].flat(2).filter(Boolean));
    this._figure.update({
      clips: prediction.clips, classes: prediction.top, timeline: prediction.timeline,
      thumbnails: prediction.thumbnails, duration: prediction.video.duration_seconds,
    });
    const best = prediction.top[0];
    announce(`${this.name}: ${best.label}, ${percent(best.score)}`);
  }

  _failed(err) {
    const cancelled = err.name === "AbortError";
    this._progress.remove();
    const words = cancelled ? "Cancelled." : err.type ? `${err.type}: ${err.message}` : `This page failed: ${err.message}`;
    this._body.replaceChildren(h("p", { class: cancelled ? "banner" : "banner bad", role: cancelled ? null : "alert" }, words));
    if (cancelled) announce(`${this.name}: cancelled`);
    if (!cancelled && !err.type) console.error(err);
  }

  playhead(seconds) {
    this._figure.playhead(seconds);
  }
}
