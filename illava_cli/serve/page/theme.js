// Light or dark: as the system is, until it is chosen here.

import { $ } from "./elements.js";

const STORED = "illava-theme";
const darkness = matchMedia("(prefers-color-scheme: dark)");

export function followTheme() {
  show();
  darkness.addEventListener("change", show);
  $("theme").addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(STORED, theme);
    } catch {
      // a browser that stores nothing forgets the choice with the page
    }
    document.documentElement.dataset.theme = theme;
    show();
  });
}

function show() {
  const { dataset } = document.documentElement;
  try {
    dataset.theme ??= localStorage.getItem(STORED) ?? "";
  } catch {
    // no choice is kept
  }
  $("theme").setAttribute("aria-pressed", isDark());
}

const isDark = () => {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : darkness.matches;
};
