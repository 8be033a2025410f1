// Elements and figures: how the page writes what it shows.

export const $ = (id) => document.getElementById(id);

/** An element; `children` are elements or text, never markup. Attributes that are null are left out. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function button(text, act, attributes = {}) {
  const made = el("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", act);
  return made;
}

/** Three dots that breathe while something is awaited, and what that is for those who do not see them. */
export const waiting = (text) => el("p", { class: "waiting" }, el("i"), el("i"), el("i"), el("span", { class: "unseen" }, text));

/** Says something to those who do not see the page. */
export function say(text) {
  $("status").textContent = text;
}

const rounded = (value, digits) => value.toLocaleString("en", { maximumSignificantDigits: digits });

export const count = (value) => value.toLocaleString("en");
export const percent = (share) => `${Math.round(100 * share)} %`;
export const duration = (ms) => (ms < 1000 ? `${rounded(ms, 3)} ms` : `${rounded(ms / 1000, 3)} s`);
export const bytes = (value) => (value < 1e6 ? `${rounded(value / 1e3, 2)} kB` : `${rounded(value / 1e6, 3)} MB`);

/** How much more or less `mine` is than `other`: "−65 %". */
export function change(mine, other) {
  const share = Math.round(100 * (mine / other - 1));
  return `${share > 0 ? "+" : share < 0 ? "−" : "±"}${Math.abs(share)} %`;
}
