// The server's public API, and its errors in words.

import { bytes } from "./elements.js";
import { keep, kept } from "./kept.js";
import { events } from "./stream.js";

const KEY = "illava-key";
const MODELS = "v1/models";
const CHAT = "v1/chat/completions";
const UNFINISHED = "The server could not finish its answer.";
const UNREACHABLE = "The server does not answer. Is it still running?";

/** What went wrong, in words; `status` is that of HTTP, 0 where there was no answer. */
export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const key = () => kept("sessionStorage", KEY);
export const hasKey = () => Boolean(key());
export const keepKey = (given) => keep("sessionStorage", KEY, given);

/** The served model: {id, illava: {preset, limits: {pixels, media_bytes, body_bytes}}}, where it says so. */
export async function servedModel() {
  const { data } = await (await send(MODELS)).json();
  if (!data?.length) throw new ServerError("The server has no model.");
  return data[0];
}

/** Where outside of this page a request goes: the address of the API, for the clients of others. */
export const apiAddress = () => new URL("v1", document.baseURI).href;

/** An address that the server gave, below the page's own: it may itself be below a proxy's path. */
export const addressOf = (path) => new URL(path.replace(/^\/+/, ""), document.baseURI).href;

/** An answer to come; its `state` is "asking", then "done", "stopped" or "broken". */
export const newReply = () => ({ state: "asking", text: "", usage: null, illava: {}, finish: null, first: null, total: null });

/**
 * Streams an answer into `reply`; `onText` is called after each piece. Times are milliseconds from the question.
 *
 * What came before an error or a stop stays in `reply`.
 */
export async function listen(reply, body, { signal, onText, most = Infinity }) {
  const text = JSON.stringify(body);
  if (text.length > most) {
    throw new ServerError(`The conversation has ${bytes(text.length)} with its media; the server takes ${bytes(most)}.`, 413);
  }
  const start = performance.now();
  const response = await send(CHAT, { method: "POST", body: text, signal });
  for await (const chunk of events(response.body)) {
    if (chunk.error) throw new ServerError(chunk.error.message || UNFINISHED);
    const choice = chunk.choices?.[0];
    reply.finish = choice?.finish_reason ?? reply.finish;
    reply.usage = chunk.usage ?? reply.usage;
    Object.assign(reply.illava, chunk.illava);
    if (choice?.delta?.content) {
      reply.first ??= performance.now() - start;
      reply.text += choice.delta.content;
      onText();
    }
  }
  reply.total = performance.now() - start;
}

async function send(path, options = {}) {
  const headers = { "Content-Type": "application/json" };
  if (hasKey()) headers.Authorization = `Bearer ${key()}`;
  let response;
  try {
    response = await fetch(path, { headers, ...options });
  } catch (error) {
    throw error.name === "AbortError" ? error : new ServerError(UNREACHABLE);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** A refusal in the server's own words, and what to do about it. */
async function refusal(response) {
  const { status } = response;
  const said = await response.json().then((body) => body.error?.message, () => null);
  const wait = Number(response.headers.get("Retry-After"));
  const advice = status === 429 || status === 503 ? ` Ask again ${wait ? `in ${wait} s` : "in a moment"}.` : "";
  return new ServerError(`${said || `The server refused the question (status ${status}).`}${advice}`, status);
}
