// A field of dots that shows what the slider does: those that stay, and those that merge into them.

import { $ } from "./elements.js";

const SIDE = 11;
const PITCH = 20;
const NAMESPACE = "http://www.w3.org/2000/svg";
const RANKS = ranks(SIDE * SIDE);

/** The order in which dots go: any, but the same on every visit. */
function ranks(count) {
  const order = [...Array(count).keys()];
  let seed = 7;
  for (let last = count - 1; last > 0; last--) {
    seed = (seed * 48271) % 2147483647;
    const other = seed % (last + 1);
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

export function drawField() {
  const field = document.createElementNS(NAMESPACE, "svg");
  field.setAttribute("viewBox", `0 0 ${SIDE * PITCH} ${SIDE * PITCH}`);
  for (let dot = 0; dot < SIDE * SIDE; dot++) {
    const circle = document.createElementNS(NAMESPACE, "circle");
    circle.setAttribute("cx", ((dot % SIDE) + 0.5) * PITCH);
    circle.setAttribute("cy", (Math.floor(dot / SIDE) + 0.5) * PITCH);
    circle.setAttribute("r", 6);
    field.append(circle);
  }
  $("field").replaceChildren(field);
}

/** Leaves a share of the dots. */
export function showField(share) {
  const dots = $("field").querySelectorAll("circle");
  dots.forEach((dot, index) => dot.classList.toggle("merged", RANKS[index] >= share * dots.length));
}
