// Two answers beside each other: where they part, and whether they are the same.

import { el } from "./elements.js";

/** Length of the start that two texts share, cut back to a whole word where they part and words have spaces. */
export function sharedStart(a, b) {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a === b ? length : a.slice(0, length).search(/[\p{Script=Latin}\d]*$/u);
}

/** The text of an answer; what comes after `common` characters is marked. */
export function markedText(text, common) {
  return common < text.length ? [text.slice(0, common), el("mark", {}, text.slice(common))] : [text];
}

export function agreement(mine, plain) {
  if (mine.text === plain.text) return "The same answer, letter by letter.";
  const common = mine.text.slice(0, sharedStart(mine.text, plain.text)).trim();
  return common ? "The answers differ where they are marked." : "The answers differ from their first word on.";
}
