// The pictures and clips of the next question: dropped, pasted or chosen, and removed again.

import { $, button, el, say } from "./elements.js";
import { forget, medium, show } from "./media.js";

let items = []; // media, in their order

/** Listens for media; `tell` says in words what is none, `limits` asks for the server's. */
export function openTray({ tell, limits }) {
  const add = (files) => {
    for (const file of files) {
      try {
        const made = medium(file);
        put([...items, made]);
        // where the server does not answer yet, the file is read when it is sent
        limits().then((known) => made.read(known).catch((error) => remove(made) && tell(error.message)), () => {});
        say(`${file.name} added.`);
      } catch (error) {
        tell(error.message);
      }
    }
    $("question").focus();
  };
  $("choose").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => {
    add($("files").files);
    $("files").value = ""; // the same file may be chosen again
  });
  addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    const isText = types.includes("text/plain") && types.includes("text/html"); // a word processor's, drawn as well
    if (!files.length || isText) return;
    event.preventDefault();
    add(files);
  });
  listenForDrops(add);
}

/** Gives up what the tray holds. */
export function take() {
  const taken = items;
  put([]);
  return taken;
}

/** Puts media back, before those that have come meanwhile; not those that the server would not take. */
export function giveBack(media) {
  put([...media, ...items]);
  for (const one of media) one.read({}).catch(() => remove(one));
}

function listenForDrops(add) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    $("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true; // it has left the window
  });
  addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    add(event.dataTransfer.files);
  });
}

function remove(item) {
  if (!items.includes(item)) return false;
  put(items.filter((other) => other !== item));
  forget(item);
  return true;
}

function put(media) {
  const old = new Map(items.map((item, index) => [item, $("tray").children[index]]));
  items = media;
  $("tray").replaceChildren(...items.map((item) => old.get(item) ?? thumb(item)));
}

function thumb(item) {
  const leave = () => {
    remove(item);
    $("question").focus();
  };
  return el("li", { title: item.name }, show(item), button("×", leave, { "aria-label": `Remove ${item.name}` }));
}
