// The pictures: for each medium its current view in large, what is known of the token looked at, and all views.

const FRAME_MS = 500; // how long the animation shows each view
const NOWHERE = -1; // the anchor of a token whose place is in no view of the page
const LISTED = 6; // members of a token that the read-out lists
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** An element; `children` are elements or text, never markup. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const TINY = 1e-4; // below it numbers have an exponent
const number = (value, digits = 4) =>
  value && Math.abs(value) < TINY ? value.toExponential(1) : value.toLocaleString("en", { maximumSignificantDigits: digits });
const plural = (count, noun, many = `${noun}s`) => `${count.toLocaleString("en")} ${count === 1 ? noun : many}`;
const percent = (share) => (share < TINY ? "< 0.01 %" : `${number(100 * share, share < 0.1 ? 2 : 3)} %`);

/** Builds the section of one medium into it: `main`, `readout`, `thumbs`, and what happens on them. */
function buildMedium(medium, actions) {
  medium.main = el("canvas", { class: "main", tabindex: 0, role: "application" });
  medium.readout = el("div", { class: "readout", "aria-live": "polite" });
  medium.name = el("p", { class: "view-name" });
  const many = medium.views.length > 1;
  medium.play = many && medium.kind === "video" ? el("button", { type: "button", class: "play" }, "Play") : null;
  medium.thumbs = many ? medium.views.map((view, index) => buildThumb(view, index, medium, actions)) : [];
  const bar = el("div", { class: "view-bar" }, medium.name, ...(medium.play ? [medium.play] : []));
  const strip = el("div", { class: "strip", role: "radiogroup", "aria-label": `${medium.source}: views` });
  strip.append(...medium.thumbs.map((thumb) => thumb.button));
  const title = el("h2", { class: "source", dir: "auto" }, medium.source);
  medium.large = el("div", { class: "large" }, el("div", { class: "framed" }, medium.main, bar), medium.readout);
  for (const view of medium.views) loadPicture(view, actions.redraw);
  listenToCanvas(medium.main, () => medium.views[medium.current], actions);
  listenToKeys(medium, actions);
  strip.addEventListener("keydown", (event) => moveAlongStrip(event, medium, actions));
  medium.play?.addEventListener("click", () => (medium.timer ? stop(medium) : play(medium, actions)));
  stillness.addEventListener("change", () => offerPlay(medium));
  offerPlay(medium);
  return el("section", { class: "medium", "aria-label": medium.source }, title, medium.large, ...(many ? [strip] : []));
}

function loadPicture(view, redraw) {
  view.picture = new Image();
  view.picture.onload = redraw;
  view.picture.src = view.src;
}

function buildThumb(view, index, medium, actions) {
  const canvas = el("canvas", { "aria-hidden": "true" });
  canvas.style.aspectRatio = `${view.right - view.left} / ${view.bottom - view.top}`;
  const count = el("span", { class: "count" });
  const label = el("span", { class: "thumb-label" }, el("span", {}, view.label), count);
  const button = el("button", { type: "button", role: "radio", class: "thumb" }, canvas, label);
  button.addEventListener("click", () => {
    stop(medium);
    actions.choose(medium, index);
  });
  listenToCanvas(canvas, () => view, actions, false);
  return { button, canvas, count };
}

/** Looks at the patch under the pointer; a click or tap on a large picture holds it (`holds`). */
function listenToCanvas(canvas, view, actions, holds = true) {
  const look = (event) => {
    const box = canvas.getBoundingClientRect();
    const { left, top, right } = view();
    const scale = (right - left) / box.width;
    return actions.patchAt(view(), left + (event.clientX - box.left) * scale, top + (event.clientY - box.top) * scale);
  };
  canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && actions.hover(look(event)));
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && actions.hover(null));
  if (holds) canvas.addEventListener("click", (event) => actions.hold(look(event)));
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function listenToKeys(medium, actions) {
  medium.main.addEventListener("keydown", (event) => {
    const view = medium.views[medium.current];
    if (ARROWS[event.key]) actions.move(view, ...ARROWS[event.key]);
    else if (event.key === "PageUp" || event.key === "PageDown") actions.step(event.key === "PageDown" ? 1 : -1);
    else if (event.key === "Enter" || event.key === " ") actions.hold(null);
    else return;
    event.preventDefault();
  });
  medium.main.addEventListener("blur", () => actions.hover(null));
}

function moveAlongStrip(event, medium, actions) {
  const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  stop(medium);
  const count = medium.views.length;
  actions.choose(medium, (medium.current + step + count) % count);
  medium.thumbs[medium.current].button.focus();
}

/** Runs through the views until stopped. */
function play(medium, actions) {
  medium.play.textContent = "Stop";
  medium.timer = setInterval(() => actions.choose(medium, (medium.current + 1) % medium.views.length), FRAME_MS);
}

function stop(medium) {
  clearInterval(medium.timer);
  medium.timer = null;
  if (medium.play) medium.play.textContent = "Play";
}

/** No animation for those who asked their system for less motion. */
function offerPlay(medium) {
  if (stillness.matches) stop(medium);
  if (medium.play) medium.play.hidden = stillness.matches;
}

/** Brings one medium up to date with what is to be shown (see `paint`). */
function updateMedium(medium, show) {
  const view = medium.views[medium.current];
  medium.main.style.aspectRatio = `${view.right - view.left} / ${view.bottom - view.top}`;
  medium.large.style.setProperty("--shape", (view.right - view.left) / (view.bottom - view.top));
  medium.main.setAttribute("aria-label", `${medium.source}, ${view.label}: arrow keys move over the patches`);
  medium.name.textContent = `${view.label} · ${plural(tokensIn(view, show), "token")}`;
  medium.thumbs.forEach(({ button, canvas, count }, index) => {
    const tokens = tokensIn(medium.views[index], show);
    const isCurrent = index === medium.current;
    button.setAttribute("aria-checked", isCurrent);
    button.setAttribute("aria-label", `${medium.views[index].label}, ${plural(tokens, "token")}`);
    button.tabIndex = isCurrent ? 0 : -1;
    count.textContent = tokens;
    paint(canvas, medium.views[index], show);
  });
  paint(medium.main, view, show);
  medium.readout.replaceChildren(...describe(medium, show));
}

/** Tokens anchored in a view. */
function tokensIn(view, { stage }) {
  stage.tokensIn ??= new Map();
  if (!stage.tokensIn.has(view)) {
    const isAnchor = (patch) => stage.slot[patch] >= 0 && stage.anchor[stage.slot[patch]] === patch;
    stage.tokensIn.set(view, view.patches.filter(isAnchor).length);
  }
  return stage.tokensIn.get(view);
}

/** The read-out: what the patch that is looked at has become. */
function describe(medium, show) {
  const { data, stage, patch, token } = show;
  if (patch === null || !show.media[data.patches.medium[patch]]) return [el("p", { class: "quiet" }, hint(stage))];
  if (show.media[data.patches.medium[patch]] !== medium) return [el("p", { class: "quiet" }, "")];
  const fate = stage.fates[patch];
  if (token < 0) return [heading(NAMES[fate]), el("p", {}, `${where(show, patch)} ${NOWHERES[fate]}`)];
  const { members } = show;
  const anchor = stage.anchor[token];
  const lines = [["anchored at", where(show, anchor)], ["gathers", plural(members.length, "patch", "patches")]];
  if (members.length > 1) {
    const [high, low] = [members[0], members[members.length - 1]].map((member) => percent(stage.weight[member]));
    lines.push(["weights", high === low ? high : `${low} to ${high}`]);
  }
  if (patch !== anchor) lines.push(["this patch", `${where(show, patch, anchor)}, weight ${percent(stage.weight[patch])}`]);
  const value = show.mode === "heat" && show.heat ? show.heat.values[patch] : NaN;
  if (!Number.isNaN(value)) lines.push(["attention", number(value)]);
  return [
    heading(`Token ${token}`),
    el("dl", {}, ...lines.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))),
    ...(members.length > 1 ? [bars(show)] : []),
  ];
}

const heading = (text) => el("h3", {}, text);
const hint = (stage) =>
  `Point at a token, tap it, or move over the picture with the arrow keys: everything that merged into it lights up. ` +
  `${plural(stage.tokens, "token")} at this stage.`;

const NAMES = { [DROPPED]: "Dropped", [PADDING]: "Padding", [LEFT_OUT]: "Left out" };
const NOWHERES = {
  [DROPPED]: "is in no token any more.",
  [PADDING]: "lies outside of the picture.",
  [LEFT_OUT]: "did not enter the tower: other patches or frames tell what it shows.",
};

/** Where a patch is (-1: in no view of the page); the view is named where that of `near` is another one. */
function where({ data, media }, patch, near = NOWHERE) {
  if (patch === NOWHERE) return "in a frame that is not shown";
  const medium = media[data.patches.medium[patch]];
  const view = viewOf(media, data, patch);
  const { row, column } = placeOf(data, view, patch);
  const isNear = near !== NOWHERE && viewOf(media, data, near) === view;
  const names = [media.length > 1 && medium.source.split("/").pop(), medium.views.length > 1 && view.label];
  const label = isNear ? "" : names.filter(Boolean).map((name) => `${name}, `).join("");
  return `${label}row ${row}, column ${column}`;
}

const viewOf = (media, data, patch) => media[data.patches.medium[patch]].views[data.patches.view[patch]];

/** The heaviest members as bars. */
function bars(show) {
  const { stage, members } = show;
  const items = members.slice(0, LISTED).map((member) => {
    const bar = el("span", { class: "bar" });
    bar.style.width = `${(100 * stage.weight[member]) / stage.weight[members[0]]}%`;
    const track = el("span", { class: "bar-track" }, bar);
    const place = where(show, member, stage.anchor[show.token]);
    return el("li", {}, el("span", {}, place), track, el("span", {}, percent(stage.weight[member])));
  });
  const rest = members.length - items.length;
  if (rest > 0) items.push(el("li", { class: "quiet" }, `and ${rest.toLocaleString("en")} more`));
  return el("ol", { class: "members", "aria-hidden": "true" }, ...items);
}
