// The merge map of an answer: a page that the server draws, in a frame of its own.

import { el, waiting } from "./elements.js";
import { addressOf } from "./server.js";
import { themed } from "./theme.js";

/** The map at `path`, or, where that is null, its place. The frame runs its own scripts, cut off from this page. */
export function mergeMap(path) {
  const head = el("div", { class: "row" }, el("h3", {}, "Merge map"));
  const section = el("section", { class: "map", "aria-label": "Merge map" }, head);
  if (path === null) {
    section.append(waiting("The merge map is being drawn."));
  } else {
    const src = addressOf(path);
    head.append(el("a", { href: src, target: "_blank", rel: "noopener" }, "Open it alone"));
    section.append(el("iframe", { src: themed(src), title: "Merge map", sandbox: "allow-scripts" }));
  }
  return section;
}
