// The token of this visitor: in this tab only, never in an address, a cookie or a file.

import { byId } from "./dom.js";

const KEY = "tenclip-token";
let asking = null;

export const token = () => sessionStorage.getItem(KEY) || "";

// Asks for a token; true when there is one. Whoever asks meanwhile waits for the same answer.
export function askForToken(why) {
  asking ||= ask(why).finally(() => { asking = null; });
  return asking;
}

function ask(why) {
  const dialog = byId("token"), input = byId("token-value");
  byId("token-words").textContent = `${why[0].toUpperCase()}${why.slice(1)}.`;
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "go" ? input.value.trim() : "";
      input.value = "";
      if (given) sessionStorage.setItem(KEY, given);
      resolve(Boolean(given));
    }, { once: true });
  });
}

export function prepareToken() {
  byId("token-cancel").addEventListener("click", () => byId("token").close(""));
}
