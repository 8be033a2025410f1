// The page: what is being asked, what has been, and one request at a time.

import { showCode } from "./code.js";
import { newTurn, request, streamed } from "./conversation.js";
import { visualOf } from "./costs.js";
import { $, say } from "./elements.js";
import { askForKey, listenForKey } from "./key.js";
import { forget } from "./media.js";
import { apiAddress, hasKey, listen, newReply, servedModel } from "./server.js";
import { chosenShare, openShare, showShare } from "./share.js";
import { curl, places, python } from "./snippets.js";
import { followTheme } from "./theme.js";
import { giveBack, openTray, take } from "./tray.js";
import { drawTurn } from "./turn.js";

const NEAR = 120; // pixels from the end of the page within which it follows an answer
let model = null; // as the server describes it; null until it has
let connecting = null;
let turns = [];
let running = null; // what stops the request under way
const views = new Map(); // what draws each turn

const limits = () => model?.illava?.limits ?? {};

function tell(words) {
  $("trouble").textContent = words;
}

/** Asks what is served, where that is not known yet. */
async function connect() {
  connecting ??= model ? null : servedModel().finally(() => (connecting = null));
  model ??= await connecting;
  $("model").textContent = [model.id, model.illava?.preset && `preset ${model.illava.preset}`].filter(Boolean).join(" · ");
}

/** An error in words; a missing key is asked for. */
function explain(error) {
  if (error.status === 401) askForKey();
  tell(error.status === 401 && !hasKey() ? "" : error.message);
}

function updateTurn(turn) {
  const upTo = turns.slice(0, turns.indexOf(turn) + 1);
  const hasMedia = upTo.some(({ media }) => media.length);
  views.get(turn)?.update({ isBusy: running !== null, isLast: upTo.length === turns.length, hasMedia });
}

function update() {
  const isBusy = running !== null;
  turns.forEach(updateTurn);
  if ($("stop").hidden === isBusy) {
    const hadFocus = [$("ask"), $("stop")].includes(document.activeElement);
    $("ask").hidden = isBusy;
    $("stop").hidden = !isBusy;
    if (hadFocus) $("question").focus();
  }
  $("new").hidden = !turns.length;
  $("question").placeholder = turns.length ? "Ask on" : "What is shown?";
  document.body.classList.toggle("fresh", !turns.length);
}

/** Fills `reply` with the answer to a turn; its state says how that ended. */
async function perform(turn, reply, options = {}) {
  const mine = (running = new AbortController());
  tell("");
  update();
  try {
    await connect();
    await Promise.all(turns.flatMap(({ media }) => media.map((one) => one.read(limits()))));
    const body = streamed(request(model.id, turns.slice(0, turns.indexOf(turn) + 1), options));
    mine.signal.throwIfAborted();
    await listen(reply, body, { signal: mine.signal, onText: () => follow(() => updateTurn(turn)), most: limits().body_bytes });
    reply.state = "done";
  } catch (error) {
    reply.state = error.name === "AbortError" ? "stopped" : "broken";
    if (reply.state === "broken" && turns.includes(turn)) explain(error);
    say(reply.state === "stopped" ? "Stopped." : "");
  }
  if (running === mine) running = null;
  return reply.state;
}

/** Makes a change, and stays at the end of the page if that is where it is looked at. */
function follow(change) {
  const page = document.documentElement;
  const isAtEnd = page.scrollHeight - page.scrollTop - page.clientHeight < NEAR;
  change();
  if (isAtEnd) page.scrollTop = page.scrollHeight;
}

async function ask() {
  const text = $("question").value.trim();
  if (running) return;
  if (!text) return tell("Write a question first.");
  const turn = newTurn(text, take(), chosenShare());
  $("question").value = "";
  begin(turn);
  await answer(turn);
}

function begin(turn) {
  turns.push(turn);
  const view = drawTurn(turn, {
    compare: () => compare(turn),
    map: () => map(turn),
    again: () => again(turn),
    curl: () => copyAs("curl", curl, turn),
    python: () => copyAs("Python", python, turn),
  });
  views.set(turn, view);
  $("turns").append(view.element);
  update();
  document.documentElement.scrollTop = document.documentElement.scrollHeight;
}

/** Asks a turn. Where nothing came, `undo` is called: by itself the question then stands where it was written. */
async function answer(turn, undo = takeBack) {
  await perform(turn, turn.reply);
  if (!turns.includes(turn)) return;
  if (turn.reply.state === "done") {
    say(`Answer: ${turn.reply.text}`);
    const visual = visualOf(turn.reply);
    if (visual && turn.keep === null) showShare(visual.kept / visual.unmerged);
  } else if (!turn.reply.text) {
    undo(turn);
  }
  follow(update);
}

function takeBack(turn) {
  turns = turns.filter((other) => other !== turn);
  views.get(turn).element.remove();
  views.delete(turn);
  giveBack(turn.media);
  $("question").value = [turn.text, $("question").value].filter(Boolean).join("\n");
  if ($("key").hidden) $("question").focus();
}

/** The last question once more, with the share that is set now. */
async function again(turn) {
  const before = { ...turn };
  Object.assign(turn, { reply: newReply(), plain: null, map: null, keep: chosenShare() });
  await answer(turn, () => Object.assign(turn, before));
}

async function compare(turn) {
  const plain = (turn.plain = newReply());
  const state = await perform(turn, plain, { merges: false });
  if (state !== "done") turn.plain = null;
  else say(`The unmodified model's answer: ${plain.text}`);
  update();
}

async function map(turn) {
  const reply = newReply();
  turn.map = { path: null };
  const state = await perform(turn, reply, { map: true });
  const path = reply.illava.merge_map;
  turn.map = path ? { path } : null;
  if (state === "done" && !path) tell("The server drew no merge map.");
  update();
  views.get(turn)?.element.querySelector(".map")?.scrollIntoView({ block: "start" });
}

function copyAs(name, write, turn) {
  const { files, address } = places();
  const body = request(model.id, turns.slice(0, turns.indexOf(turn) + 1), { address });
  showCode(views.get(turn).code, name, write(apiAddress(), body, files, hasKey()));
}

function startAnew() {
  running?.abort();
  running = null;
  turns.flatMap(({ media }) => media).forEach(forget);
  turns = [];
  views.clear();
  $("turns").replaceChildren();
  tell("");
  update();
  $("question").focus();
}

function listenForKeys() {
  $("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
}

function start() {
  followTheme();
  openShare();
  openTray({ tell, limits: () => connect().then(limits) });
  listenForKeys();
  listenForKey(() => connect().then(() => tell(""), explain));
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  $("stop").addEventListener("click", (event) => event.detail < 2 && running?.abort()); // not Ask's double click
  $("new").addEventListener("click", startAnew);
  connect().catch(explain);
  update();
}

start();
