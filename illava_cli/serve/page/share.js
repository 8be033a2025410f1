// The share of visual tokens that the next question pays for; until it is moved, as the server is set.

import { $, percent } from "./elements.js";
import { drawField, showField } from "./field.js";

let isSet = false;
let found = null; // what the server's setting kept of the last picture

export function openShare() {
  drawField();
  $("share").addEventListener("input", () => set(true));
  $("share-reset").addEventListener("click", () => {
    set(false);
    $("share").focus();
  });
  set(false);
}

/** The request's `keep`, or null where the server decides. */
export const chosenShare = () => (isSet ? Number($("share").value) / 100 : null);

/** The slider, as long as it is untouched, shows what the server's own setting kept. */
export function showShare(share) {
  found = share;
  if (!isSet) set(false);
}

function set(does) {
  isSet = does;
  const slider = $("share");
  if (!isSet && found !== null) slider.value = 100 * found;
  const said = isSet ? percent(slider.value / 100) : "as the server is set";
  slider.classList.toggle("unset", !isSet);
  slider.style.setProperty("--at", (slider.value - slider.min) / (slider.max - slider.min));
  slider.setAttribute("aria-valuetext", said);
  $("share-said").textContent = said;
  $("share-reset").hidden = !isSet;
  showField(slider.value / 100);
}
