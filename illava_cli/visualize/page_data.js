// The payload as the page reads it: packed arrays opened, and the fate of every patch at every stage.

const KEPT = 0, MERGED = 1, DROPPED = 2, PADDING = 3, LEFT_OUT = 4;
const FATES = ["kept", "merged away", "dropped", "padding", "left out"];
const GONE = { [-1]: DROPPED, [-2]: PADDING, [-3]: LEFT_OUT }; // by the slot of a patch that is in no token
const MISSING = 0xffff;
const POOLED = "pooled"; // the stage at which cells are joined by their place
const ARRAYS = { int8: Int8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array, uint16: Uint16Array };

/** The typed array in {type, data}; with a `step`, the floats that it stands for, NaN where there is none. */
function unpack({ type, data, step }) {
  const text = atob(data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const array = new ARRAYS[type](bytes.buffer);
  return step ? Float32Array.from(array, (value) => (value === MISSING ? NaN : value * step)) : array;
}

/** The payload with its arrays open, and `fates` and `counts` in each stage. Heat maps open when looked at. */
function open(payload) {
  const { medium, view, box } = payload.patches;
  const patches = { medium: unpack(medium), view: unpack(view), box: unpack(box) };
  const stages = payload.stages.map((stage) => ({
    ...stage,
    slot: unpack(stage.slot),
    weight: unpack(stage.weight),
    anchor: unpack(stage.anchor),
    attention: stage.attention && unpack(stage.attention),
  }));
  decideFates(stages, patches.medium.length);
  const heat = payload.heat.map((map) => ({ ...map, packed: map.values, values: null }));
  return { ...payload, patches, stages, heat };
}

/**
 * Gives each stage its `fates` (patches,), their `counts`, and `gathers` (tokens,): who took a merged patch in.
 *
 * A patch is kept while it anchors its token, or was alive when a pooling joined it with its anchor into one
 * cell: a pooled cell keeps all of its patches, not the one that gives it its position.
 */
function decideFates(stages, count) {
  const alive = new Uint8Array(count).fill(1);
  let cell = Int32Array.from(alive, (_, patch) => patch);
  for (const stage of stages) {
    const { slot, anchor } = stage;
    const pools = stage.name === POOLED;
    stage.fates = new Uint8Array(count);
    stage.counts = FATES.map(() => 0);
    stage.gathers = new Uint8Array(anchor.length);
    for (let patch = 0; patch < count; patch++) {
      const token = slot[patch];
      if (token < 0) {
        alive[patch] = 0;
        stage.fates[patch] = GONE[token];
      } else {
        const together = pools || cell[patch] === cell[anchor[token]];
        alive[patch] = anchor[token] === patch || (alive[patch] && together) ? 1 : 0;
        stage.fates[patch] = alive[patch] ? KEPT : MERGED;
        if (!alive[patch]) stage.gathers[token] = 1;
      }
      stage.counts[stage.fates[patch]]++;
    }
    if (pools) cell = slot;
  }
}

/** A heat map's values (patches,), and the value that the strongest colour stands for. */
function heatOf(data, stage, choice) {
  if (choice === "stage") {
    if (!stage.attention) return null;
    stage.received ??= withTop(Float32Array.from(stage.slot, (token) => (token < 0 ? NaN : stage.attention[token])));
    return stage.received;
  }
  const map = data.heat[choice];
  map.values ??= withTop(unpack(map.packed));
  return map.values;
}

/** The top is the 98th percentile: a few patches take far more attention than the rest. */
function withTop(values) {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort();
  const top = sorted.length ? sorted[Math.floor(0.98 * (sorted.length - 1))] : 0;
  return { values, top: top || sorted[sorted.length - 1] || 1 };
}

/** The patches of a token at a stage, heaviest first. */
function membersOf(stage, token) {
  const members = [];
  stage.slot.forEach((owner, patch) => owner === token && members.push(patch));
  return members.sort((a, b) => stage.weight[b] - stage.weight[a] || a - b);
}

/** The views of all media, each with its patches and the extent of its picture and of all their boxes. */
function viewsOf(data) {
  const { medium, view, box } = data.patches;
  const media = data.media.map((one, number) => ({
    ...one,
    current: 0,
    views: one.views.map((v, index) => ({
      ...v, medium: number, index, patches: [], cell: [0, 0], left: 0, top: 0, right: v.width, bottom: v.height,
    })),
  }));
  for (let patch = 0; patch < medium.length; patch++) {
    const home = media[medium[patch]].views[view[patch]];
    const [x, y, w, h] = box.subarray(4 * patch, 4 * patch + 4);
    home.patches.push(patch);
    home.left = Math.min(home.left, x);
    home.top = Math.min(home.top, y);
    home.right = Math.max(home.right, x + w);
    home.bottom = Math.max(home.bottom, y + h);
    home.cell = [Math.max(home.cell[0], w), Math.max(home.cell[1], h)];
  }
  return media;
}

/** Row and column of a patch in its view, from 1. */
function placeOf(data, view, patch) {
  const [x, y, w, h] = data.patches.box.subarray(4 * patch, 4 * patch + 4);
  return {
    row: Math.floor((y + h / 2 - view.top) / view.cell[1]) + 1,
    column: Math.floor((x + w / 2 - view.left) / view.cell[0]) + 1,
  };
}

/** The patch of `view` whose box holds the point (x, y) of its picture, or null. */
function patchAt(data, view, x, y) {
  const { box } = data.patches;
  const found = view.patches.find((patch) => {
    const i = 4 * patch;
    return x >= box[i] && y >= box[i + 1] && x < box[i] + box[i + 2] && y < box[i + 1] + box[i + 3];
  });
  return found ?? null;
}

/** The nearest patch of `view` from `patch` in the direction (dx, dy), or `patch` at the edge. */
function neighbour(data, view, patch, dx, dy) {
  const { box } = data.patches;
  const centre = (p) => [box[4 * p] + box[4 * p + 2] / 2, box[4 * p + 1] + box[4 * p + 3] / 2];
  const [x, y] = centre(patch);
  let best = patch, least = Infinity;
  for (const other of view.patches) {
    const [ox, oy] = centre(other);
    const along = (ox - x) * dx + (oy - y) * dy;
    const aside = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
    const farness = along + 4 * aside;
    const isAhead = along > 0.4 * (dx ? view.cell[0] : view.cell[1]);
    if (isAhead && aside <= along && farness < least) [best, least] = [other, farness];
  }
  return best;
}
