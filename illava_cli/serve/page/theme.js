// Light or dark: as the system is, until it is chosen here.

import { $ } from "./elements.js";
import { keep, kept } from "./kept.js";

const STORED = "illava-theme";
const darkness = matchMedia("(prefers-color-scheme: dark)");

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
}

const isDark = () => {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : darkness.matches;
};
