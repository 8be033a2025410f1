// The state of the page, what changes it, and the one function that brings everything up to date.

const data = open(JSON.parse($("payload").textContent));
const media = viewsOf(data);
const state = { stage: data.stages.length - 1, mode: "kept", heat: data.heat.length ? "0" : "stage", patch: null, held: false };
let isStale = false;

/** What `paint` and the read-outs need of the state. */
function shown() {
  const stage = data.stages[state.stage];
  const { mode, patch } = state;
  const token = patch === null ? -1 : stage.slot[patch];
  const members = token < 0 ? [] : membersOf(stage, token);
  const touched = new Set((patch === null ? [] : [patch, ...members]).map((one) => viewOf(media, data, one)));
  return {
    data, media, stage, token, mode, patch, members, touched,
    key: `${state.stage} ${mode} ${state.heat}`,
    heat: state.mode === "heat" ? heatOf(data, stage, state.heat) : null,
  };
}

function update() {
  isStale = false;
  const show = shown();
  updateTrack(data, state.stage);
  $("heat-choice").hidden = state.mode !== "heat";
  updateLegend(state.mode, show.heat, data.stages);
  for (const medium of media) updateMedium(medium, show);
}

/** Many changes within one frame of the screen are drawn once. */
function redraw() {
  if (!isStale) requestAnimationFrame(update);
  isStale = true;
}

function set(changes) {
  Object.assign(state, changes);
  redraw();
}

const setStage = (stage) => set({ stage: Math.max(0, Math.min(data.stages.length - 1, stage)) });

/** What can happen on the pictures. */
const actions = {
  redraw,
  patchAt: (view, x, y) => patchAt(data, view, x, y),
  hover: (patch) => !state.held && patch !== state.patch && set({ patch }),
  hold: (patch) => {
    const target = patch ?? state.patch;
    const isHeld = target !== null && !(state.held && target === state.patch);
    set({ patch: isHeld || patch === null ? target : null, held: isHeld });
  },
  move: (view, dx, dy) => {
    const isHere = state.patch !== null && view.patches.includes(state.patch);
    const { fates } = data.stages[state.stage];
    const first = view.patches.find((patch) => fates[patch] === KEPT) ?? view.patches[0] ?? null;
    set({ patch: isHere ? neighbour(data, view, state.patch, dx, dy) : first });
  },
  step: (by) => setStage(state.stage + by),
  choose: (medium, index) => {
    medium.current = index;
    redraw();
  },
};

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").setAttribute("aria-pressed", theme === "dark");
  redraw();
}

/** The theme is the system's, or the one that a page says behind the `#` which shows this one in a frame. */
function followTheme() {
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  const said = () => ["dark", "light"].find((theme) => location.hash === `#${theme}`);
  const follow = () => setTheme(said() ?? (darkness.matches ? "dark" : "light"));
  darkness.addEventListener("change", follow);
  addEventListener("hashchange", follow);
  follow();
  $("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
}

function buildControls() {
  for (const input of document.querySelectorAll("#modes input")) {
    input.addEventListener("change", () => set({ mode: input.value }));
  }
  const scores = data.stages.some((stage) => stage.attention);
  document.querySelector("#modes [value=heat]").parentElement.hidden = !scores && !data.heat.length;
  if (scores) $("heat").append(el("option", { value: "stage" }, "this stage"));
  data.heat.forEach((map, index) => $("heat").append(el("option", { value: index }, map.name)));
  $("heat").value = state.heat;
  $("heat").addEventListener("change", () => set({ heat: $("heat").value }));
}

function start() {
  document.documentElement.classList.toggle("framed", window.parent !== window);
  $("title").textContent = data.title;
  $("model").textContent = `${data.model} · preset ${data.preset}`;
  $("config-text").textContent = data.config;
  $("notes").append(...data.note.map((note) => el("li", { dir: "auto" }, note)));
  buildAnswers(data);
  buildTrack(data, setStage);
  buildControls();
  $("media").append(...media.map((medium) => buildMedium(medium, actions)));
  buildShares(data);
  followTheme();
  addEventListener("resize", redraw);
  addEventListener("keydown", (event) => event.key === "Escape" && set({ patch: null, held: false }));
}

// What tests look at; nothing here changes the page.
window.illava = Object.freeze({
  get shown() {
    const { mode, patch, token, members, stage } = shown();
    return { stage: stage.name, tokens: stage.tokens, counts: [...stage.counts], mode, patch, token, members };
  },
  get isDrawn() {
    return !isStale && media.every((medium) => medium.views.every((view) => view.picture.complete));
  },
});

start();
