// The panel that shows a request as curl or Python, and copies it.

import { button, el, say } from "./elements.js";

/** Shows `text` in `place`, and copies it at once. */
export function showCode(place, name, text) {
  const code = el("pre", { tabindex: 0, "aria-label": name }, text);
  const said = el("span", { class: "quiet" });
  const tell = (words) => {
    said.textContent = words;
    say(words);
  };
  const leave = button("Close", () => place.replaceChildren());
  const head = el("div", { class: "row" }, el("h3", {}, name), said, button("Copy", () => copy(code, tell)), leave);
  place.replaceChildren(el("section", { class: "code", "aria-label": name }, head, code));
  copy(code, tell);
}

/** Without a secure connection there is no clipboard for scripts: then the text is selected. */
async function copy(code, tell) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    tell("Copied.");
  } catch {
    getSelection().selectAllChildren(code);
    tell(document.execCommand("copy") ? "Copied." : "Selected: copy it with Ctrl C or ⌘ C.");
  }
}
