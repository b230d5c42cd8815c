// A few seconds from the camera, as a file.

import { announce, byId } from "./dom.js";

const SECONDS = 5;
const KINDS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
let stream = null, count = 0;
let asking = null; // what waits for a permission: one that is closed meanwhile must not come on

// take: called with each recording (a File).
export function prepareCamera(take) {
  byId("camera-open").addEventListener("click", () => (stream || asking ? close() : open()));
  byId("camera-close").addEventListener("click", close);
  byId("camera-record").addEventListener("click", () => record(take));
}

function say(words) {
  byId("camera-words").textContent = words;
  announce(words);
}

async function open() {
  const mine = asking = {};
  byId("camera").hidden = false;
  byId("camera-open").setAttribute("aria-expanded", "true");
  byId("camera-record").disabled = true;
  try {
    if (!navigator.mediaDevices) throw new Error("browsers give it to pages over https or on this machine only");
    if (!window.MediaRecorder) throw new Error("this browser cannot record");
    say("Waiting for the camera…");
    const given = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360 }, audio: false });
    if (mine !== asking) return stop(given);
    stream = given;
  } catch (err) {
    if (mine !== asking) return;
    const why = { NotAllowedError: "it was not allowed", NotFoundError: "there is none", NotReadableError: "another program uses it" };
    say(`The camera cannot be used: ${why[err.name] || err.message}.`);
    return;
  } finally {
    if (mine === asking) asking = null;
  }
  const view = byId("camera-view");
  view.srcObject = stream;
  await view.play().catch(() => {});
  if (!stream) return;
  byId("camera-record").disabled = false;
  byId("camera-record").focus();
  say("The camera is on. Nothing is recorded yet.");
}

function stop(source) {
  for (const track of source?.getTracks() ?? []) track.stop();
}

function close() {
  stop(stream);
  stream = asking = null;
  byId("camera-view").srcObject = null;
  byId("camera").hidden = true;
  byId("camera-open").setAttribute("aria-expanded", "false");
  byId("camera-open").focus();
}

function record(take) {
  const source = stream;
  const kind = KINDS.find((k) => MediaRecorder.isTypeSupported(k));
  const recorder = new MediaRecorder(source, kind ? { mimeType: kind } : {});
  const parts = [];
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", () => {
    clearInterval(clock);
    if (stream !== source) return; // it was closed
    const type = recorder.mimeType.split(";")[0];
    const name = `recording-${++count}.${type.endsWith("mp4") ? "mp4" : "webm"}`;
    close();
    if (parts.some((part) => part.size)) take([new File(parts, name, { type })]);
  });
  byId("camera-record").disabled = true;
  recorder.start();
  let left = SECONDS;
  say(`Recording: ${left} seconds left.`);
  const clock = setInterval(() => {
    left -= 1;
    byId("camera-words").textContent = `Recording: ${left} seconds left.`;
    if (left <= 0 && recorder.state === "recording") recorder.stop();
  }, 1000);
}
