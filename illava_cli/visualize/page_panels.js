// What stands around the pictures: answers, the track of the stages, the shares of attention.

const SHARES = { visual: "visual tokens", system: "system prompt", instruction: "instruction", other: "other" };
const WHERES = { tower: "tower", pool: "", llm: "LLM" };
const LONG = 600; // characters of an answer that may need scrolling
const CROWDED = 12; // stages from which on only some are labelled
const $ = (id) => document.getElementById(id);

const seconds = (value, digits = 3) => (value < 1 ? `${number(1000 * value, digits)} ms` : `${number(value, digits)} s`);
const bytes = (value) => (value < 1e9 ? `${number(value / 1e6, 3)} MB` : `${number(value / 1e9, 3)} GB`);

function buildAnswers(data) {
  const { merged, plain, agreement } = data.answers;
  $("prompt").textContent = data.prompt;
  const common = plain ? sharedStart(merged.text, plain.text) : merged.text.length;
  const cards = [card("merged", merged.text, common)];
  if (plain) cards.push(card("unmodified model", plain.text, common));
  $("answers").append(...cards);
  $("agreement").textContent = agreement ? agreementLine(agreement) : "";
  $("agreement").hidden = !agreement;
  $("costs").append(costs(merged, plain));
}

/** An answer, with what differs from the other one marked. */
function card(name, text, common) {
  const words = el("p", { dir: "auto", tabindex: text.length > LONG ? 0 : null }, text.slice(0, common));
  if (common < text.length) words.append(el("mark", {}, text.slice(common)));
  return el("figure", { class: "answer" }, el("figcaption", {}, name), words);
}

/** Length of the start that two texts share, cut back to a whole word where they part and words have spaces. */
function sharedStart(a, b) {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a === b ? length : a.slice(0, length).search(/[\p{Script=Latin}\d]*$/u);
}

function agreementLine({ same, first_difference: first, kl }) {
  const parts = [same ? "The same answer, token by token" : "The answers differ"];
  if (!same && first !== null) parts[0] += ` from token ${first + 1} on`;
  if (kl !== null) parts.push(`KL divergence of the first token ${number(kl, 2)}`);
  return `${parts.join("; ")}.`;
}

const COSTS = [
  ["visual tokens in the LLM's last layers", (answer) => answer.usage?.visual?.llm_kept, (v) => v.toLocaleString("en")],
  ["answer tokens", (answer) => answer.usage?.completion_tokens, (v) => v.toLocaleString("en"), false],
  ["vision tower", (answer) => answer.timings?.vision_s, seconds],
  ["prefill", (answer) => answer.timings?.prefill_s, seconds],
  ["first token", (answer) => answer.timings?.ttft_s, seconds],
  ["decoding", (answer) => answer.timings?.decode_s, seconds],
  ["peak beyond weights", (answer) => answer.memory?.peak_bytes || null, bytes],
];

/** Tokens, times and memory; a column for the unmodified model and one for the change where it ran too. */
function costs(merged, plain) {
  const head = ["", "merged", ...(plain ? ["unmodified", "change"] : [])];
  const rows = COSTS.map(([name, read, write, compares = true]) => {
    const [mine, other] = [read(merged), plain ? read(plain) : null];
    if (mine == null) return null;
    const cells = [write(mine)];
    if (plain) cells.push(other == null ? "" : write(other), compares && other ? change(mine / other - 1) : "");
    return el("tr", {}, el("th", { scope: "row" }, name), ...cells.map((text) => el("td", {}, text)));
  });
  const header = el("tr", {}, ...head.map((text) => (text ? el("th", { scope: "col" }, text) : el("td"))));
  return el("table", {}, el("thead", {}, header), el("tbody", {}, ...rows.filter(Boolean)));
}

const change = (share) => `${share > 0 ? "+" : share < 0 ? "−" : "±"}${Math.round(Math.abs(100 * share))} %`;

/** A column for each stage, as high as it has tokens, over the slider that chooses among them. */
function buildTrack(data, choose) {
  const { stages } = data;
  const most = Math.max(...stages.map((stage) => stage.tokens), 1);
  $("track").style.setProperty("--n", stages.length);
  $("track").classList.toggle("crowded", stages.length > CROWDED);
  stages.forEach((stage, index) => {
    const isFifth = stage.layer !== null && stage.layer % 5 === 0;
    const bar = el("span", { class: `column-bar ${stage.where}` });
    bar.style.height = `${(100 * stage.tokens) / most}%`;
    const column = el(
      "div",
      { class: "column", title: `${stage.name}: ${plural(stage.tokens, "token")}${took(stage)}` },
      el("span", { class: "column-count" }, stage.tokens.toLocaleString("en")),
      el("span", { class: "column-space" }, bar),
      el("span", { class: `column-name ${isFifth ? "fifth" : ""}` }, shortName(stage)),
      el("span", { class: "column-time" }, stage.seconds === null ? "" : seconds(stage.seconds, 2)),
    );
    column.addEventListener("click", () => choose(index));
    $("columns").append(column);
  });
  for (const run of runsOf(stages)) {
    const group = el("span", { class: `column-group ${run.where}` }, WHERES[run.where]);
    group.style.gridColumn = `${run.from + 1} / ${run.to + 1}`;
    $("columns").append(group);
  }
  $("slider").max = stages.length - 1;
  $("slider").disabled = stages.length < 2;
  $("slider").addEventListener("input", () => choose(Number($("slider").value)));
}

const took = (stage) => (stage.seconds === null ? "" : `, ${seconds(stage.seconds)}`);
const shortName = ({ name }) => (name === "tower in" ? "in" : name.replace(/^(tower|LLM), /, "").replace(/,? ?layer /, " ").trim());

/** Neighbouring stages in the same place: [{where, from, to}]. */
function runsOf(stages) {
  const runs = [];
  stages.forEach(({ where }, index) => {
    const last = runs[runs.length - 1];
    if (last?.where === where) last.to = index + 1;
    else runs.push({ where, from: index, to: index + 1 });
  });
  return runs;
}

function updateTrack(data, index) {
  const stage = data.stages[index];
  const patches = stage.fates.length;
  const told = FATES.map((_, fate) => fate).filter((fate) => stage.counts[fate] || fate <= MERGED);
  const parts = told.map((fate) => `${stage.counts[fate].toLocaleString("en")} ${FATES[fate]}`);
  $("slider").value = index;
  $("slider").setAttribute("aria-valuetext", `${stage.name}, ${plural(stage.tokens, "token")}${took(stage)}`);
  $("stage-name").textContent = stage.name;
  $("stage-tokens").textContent = `${plural(stage.tokens, "token")}${took(stage)}`;
  $("stage-patches").textContent = `${plural(patches, "patch", "patches")}: ${parts.join(", ")}`;
  [...$("columns").querySelectorAll(".column")].forEach((column, i) => column.classList.toggle("now", i === index));
}

/** Stacked shares of attention per layer of the LLM, visual tokens at the bottom; arrow keys go through them. */
function buildShares({ shares, stages }) {
  $("shares").hidden = !shares;
  if (!shares) return;
  const parts = Object.keys(SHARES).filter((name) => shares[name]?.some((value) => value > 0));
  const merging = new Set(stages.filter(({ where }) => where === "llm").map(({ layer }) => layer));
  const every = Math.ceil(shares.layers.length / 14);
  const columns = shares.layers.map((layer, index) => {
    const stack = el("span", { class: "stack" }, ...parts.map((name) => block(name, shares[name][index])));
    const mark = el("span", { class: "mark" }, merging.has(layer) ? "▾" : "");
    const label = el("span", { class: "layer" }, index % every ? "" : `${layer}`);
    return el("div", { class: "share" }, mark, stack, label);
  });
  const legend = parts.map((name) => el("span", {}, el("i", { class: `dot ${name}` }), SHARES[name]));
  const chart = el("div", { class: "chart", tabindex: 0, role: "application", "aria-label": "Layers: arrow keys read them" });
  chart.append(...columns);
  $("shares-chart").append(el("p", { class: "legend" }, ...legend), chart);
  let now = 0;
  const read = (index) => {
    now = Math.max(0, Math.min(columns.length - 1, index));
    columns.forEach((column, i) => column.classList.toggle("now", i === now));
    const said = parts.map((name) => `${SHARES[name]} ${percent(shares[name][now])}`);
    $("shares-line").textContent = `Layer ${shares.layers[now]}: ${said.join(", ")}.`;
  };
  columns.forEach((column, index) => {
    column.addEventListener("pointerenter", () => read(index));
    column.addEventListener("click", () => read(index));
  });
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    read(now + step);
  });
  read(0);
}

function block(name, share) {
  const made = el("span", { class: `block ${name}` });
  made.style.height = `${100 * share}%`;
  return made;
}

function updateLegend(mode, heat, stages) {
  const swatch = (kind, text) => {
    const canvas = el("canvas", { class: "swatch", "aria-hidden": "true" });
    paintSwatch(canvas, kind);
    return el("span", {}, canvas, text);
  };
  const occurs = (fate) => stages.some((stage) => stage.counts[fate]);
  const gone = [DROPPED, PADDING, LEFT_OUT].filter(occurs).map((fate) => swatch(fate, FATES[fate]));
  const items = {
    kept: () => [swatch(KEPT, "kept"), swatch(MERGED, "merged away"), ...gone],
    merged: () => [swatch("group", "merged into the ringed token of its colour"), swatch(KEPT, "nothing merged in"), ...gone],
    heat: () => [
      heat ? swatch("heat", `0 to ${number(heat.top, 2)} and more`) : el("span", {}, "nothing was scored at this stage"),
    ],
  };
  $("legend").replaceChildren(...items[mode](), swatch("lit", "in the token looked at"));
}
