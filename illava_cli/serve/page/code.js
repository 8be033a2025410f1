// The panel that shows a request as curl or Python, and copies it.

import { button, el, say } from "./elements.js";

/** A panel with `text`, which is copied at once. `leave` is called when it is closed. */
export function codePanel(name, text, leave) {
  const code = el("pre", { tabindex: 0, "aria-label": name }, text);
  const said = el("span", { class: "quiet" });
  const tell = (words) => {
    said.textContent = words;
    say(words);
  };
  const head = el("div", { class: "row" }, el("h3", {}, name), said, button("Copy", () => copy(code, tell)), button("Close", leave));
  const panel = el("section", { class: "code", "aria-label": name }, head, code);
  copy(code, tell);
  return panel;
}

/** Without a secure connection there is no clipboard for scripts: then the text is selected. */
async function copy(code, tell) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    tell("Copied.");
  } catch {
    if (!code.isConnected) return;
    getSelection().selectAllChildren(code);
    tell(document.execCommand("copy") ? "Copied." : "Selected: copy it with Ctrl C or ⌘ C.");
  }
}
