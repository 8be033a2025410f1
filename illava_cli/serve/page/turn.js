// A turn on the page: question, answer or two, their cost, and what can be done with them.

import { agreement, markedText, sharedStart } from "./compare.js";
import { beganAlike, costLine, costTable, tokenBar } from "./costs.js";
import { button, el, waiting } from "./elements.js";
import { mergeMap } from "./map.js";
import { show } from "./media.js";

const ENDS = { stopped: "You stopped it here.", broken: "The answer broke off here." };
const UNLIKE = "Of one answer the server had more computed before, so their times are not compared.";
const NOTES = { length: "It was cut off at the server's limit of tokens.", content_filter: "The server cut it off." };

/**
 * Draws a turn; `deeds` are what its buttons do: compare, map, again, curl, python.
 *
 * Returns its `element`, `update`, to be called when the turn has changed or a request begins or ends, and `code`,
 * where the panel of code goes.
 */
export function drawTurn(turn, deeds) {
  const pictures = el("ul", { class: "pictures" }, ...turn.media.map((one) => el("li", {}, show(one, true))));
  const asked = el("h2", { class: "asked", dir: "auto" }, turn.text);
  const answers = el("div", { class: "answers" });
  const costs = el("div", { class: "costs" });
  const notes = el("ul", { class: "notes quiet" });
  const buttons = deedButtons(deeds);
  const { compare, map: mapping, ...plainer } = buttons;
  const row = el("div", { class: "deeds" }, compare, mapping, el("div", {}, ...Object.values(plainer)));
  const map = el("div");
  const code = el("div");
  const parts = [...(turn.media.length ? [pictures] : []), asked, answers, costs, notes, row, code, map];
  const element = el("article", { class: "turn" }, ...parts);
  let [drawn, mapped] = ["", null];

  function update({ isBusy, isLast, hasMedia }) {
    const now = JSON.stringify([turn.reply, turn.plain]);
    if (now !== drawn) {
      drawAnswers(answers, turn); // what has not changed stays, and with it what is selected in it
      drawCosts(costs, turn);
      notes.replaceChildren(...notesOf(turn).map((text) => el("li", { dir: "auto" }, text)));
    }
    drawn = now;
    const isWhole = turn.reply.state === "done";
    row.hidden = turn.reply.state === "asking";
    for (const one of Object.values(buttons)) one.disabled = isBusy;
    buttons.compare.hidden = !isWhole || turn.plain?.state === "done";
    buttons.map.hidden = !isWhole || !hasMedia || turn.map !== null;
    buttons.again.hidden = !isLast;
    if (turn.map !== mapped) map.replaceChildren(...(turn.map ? [mergeMap(turn.map.path)] : []));
    mapped = turn.map;
  }
  return { element, update, code };
}

function deedButtons(deeds) {
  return {
    compare: button("Unmodified answer", deeds.compare),
    map: button("Merge map", deeds.map),
    again: button("Ask again", deeds.again),
    curl: button("Copy as curl", deeds.curl),
    python: button("Copy as Python", deeds.python),
  };
}

function drawAnswers(place, { reply, plain, keep }) {
  const areBoth = plain?.state === "done";
  const common = areBoth ? sharedStart(reply.text, plain.text) : Infinity;
  const cards = [card(plain ? nameOf(reply, keep) : null, reply, common)];
  if (plain) cards.push(card("unmodified model", plain, common));
  place.replaceChildren(...cards);
  place.classList.toggle("two", Boolean(plain));
}

/** What merged: the share that was asked for, or the preset that the server says. */
function nameOf({ illava }, keep) {
  if (keep !== null) return `merged to ${Math.round(100 * keep)} %`;
  return illava.preset ? `merged, preset ${illava.preset}` : "merged";
}

function card(name, reply, common) {
  const isWaiting = reply.state === "asking" && !reply.text;
  const words = isWaiting
    ? waiting("The answer is awaited.")
    : el("p", { class: reply.state === "asking" ? "said live" : "said", dir: "auto" }, ...markedText(reply.text, common));
  return el("figure", {}, name ? el("figcaption", {}, name) : null, words, tokenBar(reply));
}

function drawCosts(place, { reply, plain }) {
  if (plain?.state === "done") {
    place.replaceChildren(el("p", { class: "agreement" }, agreement(reply, plain)), costTable(reply, plain));
  } else {
    place.replaceChildren(el("p", { class: "cost quiet" }, ...costLine(reply)));
  }
}

function notesOf({ reply, plain, media }) {
  const scaled = media.filter(({ isScaled }) => isScaled).map(({ name }) => `${name} was scaled down to what the server takes.`);
  const own = ENDS[reply.state] ?? NOTES[reply.finish];
  const silence = reply.state === "done" && !reply.text ? ["The model said nothing."] : [];
  const unlike = plain?.state === "done" && !beganAlike(reply, plain) ? [UNLIKE] : [];
  return [...silence, ...(own ? [own] : []), ...unlike, ...scaled, ...(reply.illava.notes ?? [])];
}
