// Painting: one view's picture on a canvas, and over each patch what became of it.

// Okabe and Ito's colours, which colour-blind people tell apart; orange lights up the token that is looked at.
const ORANGE = "#e69f00";
const GROUPS = ["#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#0072b2"];
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const RAMP = Array.from({ length: 64 }, (_, i) => rampColour(i / 63));
const VEIL = { light: "#d3d4d1", dark: "#2c2f34" }; // neither white nor black: pages and night scenes are
const MARGIN = { light: "#ecece8", dark: "#25272b" }; // around a picture, where only padding is

function rampColour(share) {
  const at = share * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const mixed = VIRIDIS[low].map((c, i) => Math.round(c + (at - low) * (VIRIDIS[low + 1][i] - c)));
  return `rgb(${mixed.join(",")})`;
}

const isDark = () => document.documentElement.dataset.theme === "dark";

/** A fill that repeats: stripes for dropped patches, dots for padding, fainter stripes the other way for what was left out. */
function pattern(ctx, fate) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const t = tile.getContext("2d");
  t.fillStyle = fate === DROPPED ? "#26282c" : MARGIN[isDark() ? "dark" : "light"];
  t.fillRect(0, 0, 8, 8);
  if (fate === PADDING) {
    t.fillStyle = "#8b8f96";
    t.fillRect(3, 3, 2, 2);
  } else {
    const [from, to] = fate === DROPPED ? [8, 0] : [0, 8];
    t.strokeStyle = "#7d828a";
    t.lineWidth = fate === DROPPED ? 1.4 : 0.7;
    t.beginPath();
    for (const shift of [-8, 0, 8]) {
      t.moveTo(shift, from);
      t.lineTo(shift + 8, to);
    }
    t.stroke();
  }
  return ctx.createPattern(tile, "repeat");
}

/** What `paint` fills patches with, ready for one canvas. */
function fills(ctx) {
  const theme = isDark() ? "dark" : "light";
  const patterns = Object.fromEntries([DROPPED, PADDING, LEFT_OUT].map((fate) => [fate, pattern(ctx, fate)]));
  return { ...patterns, veil: VEIL[theme], margin: MARGIN[theme] };
}

function fill(ctx, style, alpha, [x, y, w, h]) {
  ctx.globalAlpha = alpha;
  ctx.fillStyle = style;
  ctx.fillRect(x, y, w, h);
}

function ring(ctx, [x, y, w, h], colour, width) {
  ctx.globalAlpha = 1;
  for (const [style, wide] of [["#000", width + 2], [colour, width]]) {
    ctx.strokeStyle = style;
    ctx.lineWidth = wide;
    ctx.strokeRect(x, y, w, h);
  }
}

/**
 * Paints `view` on `canvas`, whose width on the page decides the scale, unless it shows the same already.
 *
 * `show` is {data, stage, mode, heat, patch, token, members}: the patch that is looked at and its token, or null
 * and -1; `key` names all of it but these, and `touched` are the views that these reach.
 */
function paint(canvas, view, show) {
  const ratio = window.devicePixelRatio || 1;
  const scale = (canvas.clientWidth * ratio) / (view.right - view.left);
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round((view.bottom - view.top) * scale);
  const lit = show.touched.has(view) ? `${show.patch} ${show.token}` : "";
  const key = [show.key, view.index, width, height, isDark(), view.picture.complete, lit].join();
  if (!width || !height || canvas.painted === key) return;
  canvas.painted = key;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const ctx = canvas.getContext("2d");
  const styles = fills(ctx);
  fill(ctx, styles.margin, 1, [0, 0, width, height]);
  if (view.picture.complete && view.picture.naturalWidth) {
    ctx.drawImage(view.picture, -view.left * scale, -view.top * scale, view.width * scale, view.height * scale);
  }
  const tint = tints(show);
  const veiled = new Path2D();
  const heaviest = show.token < 0 ? 0 : show.stage.weight[show.members[0]];
  for (const patch of view.patches) {
    const area = areaOf(show.data, view, patch, scale);
    const isLit = show.token >= 0 && show.stage.slot[patch] === show.token;
    if (isLit) light(ctx, show.stage.weight[patch] / heaviest, area, ratio);
    else paintPatch(ctx, styles, tint(patch), show.stage.fates[patch], area, veiled);
  }
  veil(ctx, styles.veil, 0.72, veiled);
  paintRings(ctx, view, show, scale, ratio);
  ctx.globalAlpha = 1;
}

/** The box of a patch in pixels of the canvas, on whole ones, so that neighbours neither overlap nor gape. */
function areaOf(data, view, patch, scale) {
  const [x, y, w, h] = data.patches.box.subarray(4 * patch, 4 * patch + 4);
  const left = Math.round((x - view.left) * scale), top = Math.round((y - view.top) * scale);
  const right = Math.round((x + w - view.left) * scale), bottom = Math.round((y + h - view.top) * scale);
  return [left, top, right - left, bottom - top];
}

/** Paints what became of one patch; those that a veil covers are collected in `veiled`. */
function paintPatch(ctx, styles, tint, fate, area, veiled) {
  if (tint) fill(ctx, tint.colour, tint.alpha, area);
  else if (fate === MERGED) veiled.rect(...area);
  else if (fate !== KEPT) fill(ctx, styles[fate], 0.92, area);
}

/** Takes the colour out of an area and covers it, by `alpha`. */
function veil(ctx, style, alpha, area) {
  ctx.globalAlpha = 1;
  ctx.globalCompositeOperation = "saturation";
  ctx.fillStyle = "#000";
  ctx.fill(area);
  ctx.globalCompositeOperation = "source-over";
  ctx.globalAlpha = alpha;
  ctx.fillStyle = style;
  ctx.fill(area);
}

/** Lights up a patch of the token that is looked at; `strength` is its weight over the largest. */
function light(ctx, strength, [x, y, w, h], ratio) {
  const area = new Path2D();
  area.rect(x, y, w, h);
  veil(ctx, ORANGE, 0.3 + 0.6 * strength, area);
  ctx.globalAlpha = 1;
  ctx.strokeStyle = ORANGE;
  ctx.lineWidth = ratio;
  ctx.strokeRect(x + ratio / 2, y + ratio / 2, w - ratio, h - ratio);
}

/** patch -> {colour, alpha} or null, by the mode. */
function tints({ data, stage, mode, heat }) {
  if (mode === "heat" && heat) {
    const last = RAMP.length - 1;
    return (patch) => {
      const value = heat.values[patch];
      return Number.isNaN(value) ? null : { colour: RAMP[Math.min(last, Math.round((last * value) / heat.top))], alpha: 0.8 };
    };
  }
  if (mode === "merged") {
    const { slot, weight, gathers, anchor } = stage;
    const { heaviest, colour } = (stage.groups ??= groupsOf(stage));
    return (patch) => {
      const token = slot[patch];
      if (token < 0 || !gathers[token]) return null;
      const strength = anchor[token] === patch ? 1 : weight[patch] / heaviest[token];
      return { colour: GROUPS[colour[token]], alpha: 0.4 + 0.5 * strength };
    };
  }
  return () => null;
}

/** The largest weight within each token, and the colours of those that gathered, in turn (tokens,). */
function groupsOf({ slot, weight, anchor, gathers }) {
  const heaviest = new Float32Array(anchor.length);
  slot.forEach((token, patch) => {
    if (token >= 0) heaviest[token] = Math.max(heaviest[token], weight[patch]);
  });
  let turn = 0;
  return { heaviest, colour: gathers.map((does) => (does ? turn++ % GROUPS.length : 0)) };
}

/** Rings: white around tokens that gathered (when that is the question), orange around the lit one's anchor. */
function paintRings(ctx, view, show, scale, ratio) {
  const { data, stage, mode, token, patch } = show;
  const isHere = (p) => data.patches.medium[p] === view.medium && data.patches.view[p] === view.index;
  if (mode === "merged") {
    for (const p of view.patches) {
      const own = stage.slot[p];
      if (own >= 0 && stage.anchor[own] === p && stage.gathers[own]) ring(ctx, areaOf(data, view, p, scale), "#fff", ratio);
    }
  }
  if (token >= 0 && isHere(stage.anchor[token])) {
    ring(ctx, areaOf(data, view, stage.anchor[token], scale), ORANGE, 2.5 * ratio);
  }
  if (patch !== null && isHere(patch)) ring(ctx, areaOf(data, view, patch, scale), "#fff", 1.5 * ratio);
}

/** A swatch of the legend, painted as the pictures are. */
function paintSwatch(canvas, kind) {
  const area = [0, 0, (canvas.width = 44), (canvas.height = 28)];
  const ctx = canvas.getContext("2d");
  const sky = ctx.createLinearGradient(0, 0, 44, 28);
  sky.addColorStop(0, "#6d8fa8");
  sky.addColorStop(1, "#b08d57");
  fill(ctx, sky, 1, area);
  if (kind === "lit") light(ctx, 0.7, area, 2);
  else if (kind === "group") {
    GROUPS.slice(0, 4).forEach((colour, i) => fill(ctx, colour, 0.8, [11 * i, 0, 11, 28]));
  } else if (kind === "heat") {
    RAMP.forEach((colour, i) => fill(ctx, colour, 1, [(44 * i) / RAMP.length, 0, 2, 28]));
  } else {
    const styles = fills(ctx);
    const veiled = new Path2D();
    paintPatch(ctx, styles, null, kind, area, veiled);
    veil(ctx, styles.veil, 0.72, veiled);
  }
}
