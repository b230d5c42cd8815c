// The page's own server: what it is asked, and how a video gets there.

import { askForToken, token } from "./token.js";

// What went wrong, as the server said it. type: the class of the error.
export class Failure extends Error {
  constructor({ type, message, request_id: request = "" }) {
    super(request ? `${message} (request ${request} in the server's log)` : message);
    this.type = type;
  }
}

const GONE = {
  type: "PageUnavailable",
  message: "no answer from the page's own server: it was ended, the network broke, or the file changed on the disk",
};
const BROKEN = { type: "PageUnavailable", message: "the connection broke before the answer was whole" };

const headers = () => ({ "X-Tenclip-Page": "1", ...(token() ? { Authorization: `Bearer ${token()}` } : {}) });

function failureOf(text) {
  try {
    return new Failure(JSON.parse(text).error);
  } catch {
    return new Failure({ type: "PageUnavailable", message: `the page's server answered: ${text.slice(0, 200)}` });
  }
}

// Fetches from the page's server, and asks for a token where one is wanted. Throws Failure, with `status` where the
// page's server answered.
export async function get(path) {
  let response;
  try {
    response = await fetch(path, { headers: headers(), cache: "no-store" });
  } catch {
    throw new Failure(GONE);
  }
  if (response.ok) return response;
  const failure = Object.assign(failureOf(await response.text()), { status: response.status });
  if (response.status === 401 && await askForToken(failure.message)) return get(path);
  throw failure;
}

// Sends a video and reads the answer line by line. on: upload(share), uploaded(), line(value). signal: cancels.
// Throws Failure; AbortError where it was cancelled.
export async function post(path, blob, options, on, signal) {
  try {
    await send(path, blob, options, on, signal);
  } catch (failure) {
    if (failure.status !== 401 || !await askForToken(failure.message)) throw failure;
    await post(path, blob, options, on, signal);
  }
}

// By XMLHttpRequest, which alone tells how far an upload is.
function send(path, blob, options, on, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let read = 0, whole = false, failure = null;
    function take() {
      if (request.status !== 200) return;
      const text = request.responseText;
      for (let end; (end = text.indexOf("\n", read)) >= 0; read = end + 1) {
        const value = JSON.parse(text.slice(read, end));
        if (value.error) failure = new Failure(value.error);
        else on.line(value);
        whole ||= "prediction" in value || "neighbours" in value;
      }
    }
    function finish() {
      take();
      if (request.status !== 200) failure = Object.assign(failureOf(request.responseText), { status: request.status });
      if (failure || !whole) reject(failure || new Failure(BROKEN));
      else resolve();
    }
    const abort = () => request.abort();
    request.upload.addEventListener("progress", (event) => on.upload(event.total ? event.loaded / event.total : 0));
    request.upload.addEventListener("load", () => on.uploaded());
    request.addEventListener("progress", take);
    request.addEventListener("load", finish);
    request.addEventListener("error", () => reject(new Failure(request.status === 200 ? BROKEN : GONE)));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    request.addEventListener("loadend", () => signal.removeEventListener("abort", abort));
    request.open("POST", `${path}?${new URLSearchParams(options)}`);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    signal.addEventListener("abort", abort);
    if (signal.aborted) reject(new DOMException("cancelled", "AbortError"));
    else request.send(blob);
  });
}
