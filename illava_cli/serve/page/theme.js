// Light or dark: as the system is, until it is chosen here.

import { $ } from "./elements.js";
import { keep, kept } from "./kept.js";

const STORED = "illava-theme";
const darkness = matchMedia("(prefers-color-scheme: dark)");

/** An address of a page for a frame: it follows the theme that stands behind its `#`. */
export const themed = (address) => `${address.split("#")[0]}#${isDark() ? "dark" : "light"}`;

export function followTheme() {
  show();
  darkness.addEventListener("change", show);
  $("theme").addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    keep("localStorage", STORED, theme);
    show();
  });
}

function show() {
  document.documentElement.dataset.theme = kept("localStorage", STORED) ?? "";
  $("theme").setAttribute("aria-pressed", isDark());
  for (const frame of document.querySelectorAll("iframe")) frame.src = themed(frame.src);
}

const isDark = () => {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : darkness.matches;
};
