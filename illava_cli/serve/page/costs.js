// What an answer cost, in tokens and in time: one line under it, or a table of two.

import { change, count, duration, el, percent } from "./elements.js";

/** Visual tokens without merging, into the LLM and kept to its last layers; null where no media were new. */
export function visualOf({ usage }) {
  const v = usage?.visual_tokens;
  if (!v?.unmerged) return null;
  return { unmerged: v.unmerged, in: v.llm_in + v.newlines_in, kept: v.llm_kept + v.newlines_kept };
}

const cachedOf = ({ usage }) => usage?.prompt_tokens_details?.cached_tokens ?? 0;
const reusedOf = ({ usage }) => usage?.visual_tokens?.reused ?? 0;

/** Whether both answers began with as much work done before: else their times say nothing of merging. */
export const beganAlike = (a, b) => cachedOf(a) === cachedOf(b) && reusedOf(a) === reusedOf(b);

const FEW = 3; // of fewer tokens the mean says how long the connection took to end

/** Milliseconds for each token after the first. */
function perToken({ usage, first, total }) {
  const rest = (usage?.completion_tokens ?? 0) - 1;
  return rest >= FEW && first !== null && total !== null ? (total - first) / rest : null;
}

/** `kept` of `unmerged` visual tokens as a bar; the lighter part entered the LLM and was merged there. */
export function tokenBar(reply) {
  const visual = visualOf(reply);
  if (!visual) return null;
  const said = `Visual tokens: ${count(visual.unmerged)} without merging, ${count(visual.in)} into the LLM, ${count(visual.kept)} kept to its last layers`;
  const parts = [el("i", { class: "in" }), el("i", { class: "kept" })];
  const bar = el("span", { class: "tokens", role: "img", "aria-label": said, title: said }, ...parts);
  bar.children[0].style.width = percentOf(visual.in, visual.unmerged);
  bar.children[1].style.width = percentOf(visual.kept, visual.unmerged);
  return bar;
}

const percentOf = (part, whole) => `${Math.min(100, (100 * part) / whole)}%`;

/** "224 of 729 visual tokens (31 %) · first token 120 ms · 31 ms per token · 1.4 s in all · 412 tokens cached" */
export function costLine(reply) {
  const visual = visualOf(reply);
  const each = perToken(reply);
  const parts = [
    visual && `${count(visual.kept)} of ${count(visual.unmerged)} visual tokens (${percent(visual.kept / visual.unmerged)})`,
    reply.first !== null && `first token ${duration(reply.first)}`,
    each !== null && `${duration(each)} per token`,
    reply.total !== null && `${duration(reply.total)} in all`,
    cachedOf(reply) && `${count(cachedOf(reply))} tokens cached`,
    reusedOf(reply) && `${count(reusedOf(reply))} encoded before`,
  ];
  return parts.filter(Boolean).map((text) => el("span", {}, text));
}

const ROWS = [
  ["Visual tokens without merging", (reply) => visualOf(reply)?.unmerged, count],
  ["into the LLM", (reply) => visualOf(reply)?.in, count, "part"],
  ["kept to its last layers", (reply) => visualOf(reply)?.kept, count, "part"],
  ["Tokens cached before", cachedOf, count],
  ["Encoded before", reusedOf, count],
  ["Tokens of the answer", (reply) => reply.usage?.completion_tokens, count],
  ["First token", (reply) => reply.first, duration, "time"],
  ["Each further token", perToken, duration],
  ["In all", (reply) => reply.total, duration, "time"],
];
const BEFORE = [cachedOf, reusedOf]; // of these less is not better

/** Both answers' costs; the change is what merging makes of the unmodified model's. */
export function costTable(mine, plain) {
  const rows = ROWS.map(([name, read, write, kind = ""]) => {
    const [a, b] = [read(mine), read(plain)];
    if (!a && !b) return null;
    const cells = [a, b].map((value) => el("td", {}, value == null ? "" : write(value)));
    const compares = !BEFORE.includes(read) && (kind !== "time" || beganAlike(mine, plain));
    const differs = compares && a != null && b && a !== b ? change(a, b) : "";
    return el("tr", { class: kind }, el("th", { scope: "row" }, name), ...cells, el("td", { class: "change" }, differs));
  });
  const head = ["merged", "unmodified", "change"].map((name) => el("th", { scope: "col" }, name));
  return el("table", {}, el("thead", {}, el("tr", {}, el("td"), ...head)), el("tbody", {}, ...rows.filter(Boolean)));
}
