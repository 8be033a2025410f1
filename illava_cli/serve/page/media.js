// A picture or a clip: from a file to what a request says, and how it is shown.

import { bytes, el } from "./elements.js";
import { fitted } from "./scale.js";

// for files whose type the browser does not know
const ENDINGS = { mkv: "video/x-matroska", avi: "video/x-msvideo", mov: "video/quicktime", m4v: "video/mp4", heic: "image/heic", heif: "image/heif" };
const ENCODED = 4 / 3; // what base64 makes of a byte
const LOADING_MS = 10_000;
const ROOM = 10_000; // bytes of a body for its words

/**
 * {kind, name, type, shown, data, isScaled, read} of a file. `shown` is an address for this page; `data`, what a request
 * sends, is there once `read(limits)` is done, which is rejected in words where the server would not take the file.
 */
export function medium(file) {
  const type = file.type || ENDINGS[file.name.split(".").pop().toLowerCase()] || "";
  const kind = type.split("/")[0];
  if (kind !== "image" && kind !== "video") throw new Error(`${file.name} is neither a picture nor a clip.`);
  const made = { kind, name: file.name, type, shown: URL.createObjectURL(file), data: null, isScaled: false };
  let reading = null;
  made.read = (limits) => (reading ??= read(made, file, limits));
  return made;
}

/** Lets go of a medium's address, once nothing that has left the page can still be loading it. */
export const forget = ({ shown }) => setTimeout(() => URL.revokeObjectURL(shown), LOADING_MS);

/** The part of a message; `address` gives a medium's. */
export function part(one, address) {
  const name = `${one.kind}_url`;
  return { type: name, [name]: { url: address(one) } };
}

/** The picture, or the clip's first moment; `controls` lets it be played. What cannot be shown is named. */
export function show(one, controls = false) {
  const shown =
    one.kind === "image"
      ? el("img", { src: one.shown, alt: one.name })
      : el("video", { src: one.shown, "aria-label": one.name, muted: "", playsinline: "", preload: "auto", controls: controls ? "" : null });
  shown.addEventListener("error", () => shown.replaceWith(el("span", { class: "unshown" }, one.name)));
  return shown;
}

async function read(made, file, limits) {
  const most = Math.min(limits.media_bytes ?? Infinity, ((limits.body_bytes ?? Infinity) - ROOM) / ENCODED);
  const sent = made.kind === "image" ? await fitted(file, { pixels: limits.pixels, bytes: most }) : file;
  if (sent.size > most) throw new Error(`${file.name} has ${bytes(sent.size)}; the server takes ${bytes(most)}.`);
  const type = sent === file ? made.type : sent.type;
  made.isScaled = sent !== file;
  made.data = `data:${type};base64,${await base64(sent)}`;
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The file cannot be read any more."));
    reader.readAsDataURL(blob);
  });
}
