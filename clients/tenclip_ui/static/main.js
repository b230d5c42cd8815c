// The page: what it begins with, where videos come from, and a run for each of them.

import { get } from "./api.js";
import { prepareCamera } from "./camera.js";
import { announce, byId, h } from "./dom.js";
import { Run } from "./run.js";
import { prepareToken } from "./token.js";
import { bytes, counted } from "./words.js";

let models = [], indexes = [], ready = false;

// A server that is away comes back without a press of a button: the page goes on asking.
const AGAIN_AFTER_MS = 3000;
let again = 0;

async function begin() {
  clearTimeout(again);
  try {
    const page = await (await get("/api/page")).json();
    byId("trouble").hidden = true;
    models = page.models;
    indexes = page.indexes;
    showModels();
    showSamples(page.samples);
    const limit = page.max_upload_bytes ? ` At most ${bytes(page.max_upload_bytes)} each.` : "";
    byId("limit").textContent = `Videos go to the server and nowhere else.${limit}`;
    byId("server").textContent = models.length ? `${counted(models.length, "model")} on the server` : "The server has no models.";
    ready = models.length > 0;
  } catch (failure) {
    ready = false;
    byId("server").textContent = "The server does not answer as it should.";
    showTrouble(failure.type ? `${failure.type}: ${failure.message}` : String(failure));
    clearTimeout(again);
    if (away(failure)) again = setTimeout(begin, AGAIN_AFTER_MS);
  }
}

// Nobody answers, or the server is busy. Anything else, a wrong token for one, would fail again.
function away(failure) {
  return failure.type === "PageUnavailable" || [429, 503, 504].includes(failure.status);
}

function showTrouble(words) {
  // An alert is read aloud whenever its words are set: say the same only once.
  if (byId("trouble-words").textContent !== words) byId("trouble-words").textContent = words;
  byId("trouble").hidden = false;
}

function showModels() {
  const chosen = byId("model").value, second = byId("second").value;
  const options = () => models.map((m) => {
    const kind = m.num_classes ? counted(m.num_classes, "class", "classes") : "features only";
    return h("option", { value: m.ref, disabled: !m.num_classes }, `${m.ref} (${kind})`);
  });
  byId("model").replaceChildren(...options());
  byId("second").replaceChildren(h("option", { value: "" }, "no second model"), ...options());
  const usable = models.filter((m) => m.num_classes);
  const first = usable.find((m) => m.ref === chosen) ?? usable.find((m) => m.is_default) ?? usable[0];
  if (first) byId("model").value = first.ref;
  if (usable.some((m) => m.ref === second)) byId("second").value = second;
  byId("second").parentElement.hidden = usable.length < 2;
  followModel();
}

// What can be chosen depends on the models.
function followModel() {
  const refs = [byId("model").value, byId("second").value].filter(Boolean);
  const adaptive = refs.length > 0 && refs.every((ref) => models.find((m) => m.ref === ref)?.adaptive);
  byId("adaptive").disabled = !adaptive;
  if (!adaptive) byId("adaptive").checked = false;
  byId("adaptive-words").textContent = adaptive
    ? "The most salient clips run first, and no more of them than the model's stopping rule asks for."
    : "Stopping early needs a model whose bundle holds a stopping rule.";
  const own = byId("adaptive").checked;
  byId("clips").disabled = own;
  byId("num-clips").disabled = own || byId("clips").value === "windows";
}

function choose() {
  const adaptive = byId("adaptive").checked;
  const clips = adaptive ? "" : byId("clips").value;
  const options = {
    clips,
    num_clips: byId("num-clips").disabled ? "" : byId("num-clips").value,
    adaptive: adaptive ? "1" : "",
    top_k: byId("top-k").value,
  };
  const refs = [byId("model").value, byId("second").value].filter(Boolean);
  return { models: refs, options };
}

function showSamples(samples) {
  byId("samples").hidden = !samples.length;
  byId("sample-list").replaceChildren(...samples.map((sample) =>
    h("li", {}, h("button", { type: "button", onclick: (event) => pick(sample, event.currentTarget) }, sample.name))));
}

async function pick(sample, button) {
  button.disabled = true;
  try {
    const response = await get(`/api/samples/${sample.id}`);
    take([new File([await response.blob()], sample.name, { type: response.headers.get("Content-Type") })]);
  } catch (failure) {
    showTrouble(`${failure.type}: ${failure.message}`);
  } finally {
    button.disabled = false;
  }
}

async function take(files) {
  if (!ready) await begin();
  if (!ready || !byId("options").reportValidity()) return;
  const runs = files.map((file) => new Run(file, choose, indexes));
  byId("runs").prepend(...runs.map((run) => run.element));
  byId("no-results").hidden = true;
  for (const run of runs) {
    run.onremove = () => { byId("no-results").hidden = byId("runs").childElementCount > 0; };
    run.start();
  }
  runs[0]?.focus();
}

function prepareDrop() {
  const drop = byId("drop");
  const over = (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.add("over");
  };
  for (const name of ["dragenter", "dragover"]) document.addEventListener(name, over);
  document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
    else announce("What was dropped is no file");
  });
}

prepareToken();
prepareCamera(take);
prepareDrop();
byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  if (files.length) take(files);
});
byId("retry").addEventListener("click", begin);
byId("options").addEventListener("submit", (event) => event.preventDefault());
byId("options").addEventListener("change", followModel);
begin();
