// A conversation is a list of turns; a request says all of them again.
//
// A turn is {text, media, keep, reply, plain, map}: the question, its share of visual tokens (null: as the server is
// set), the answer, that of the unmodified model where it was asked for, and its merge map: {path}, which is null
// while the map is drawn.

import { part } from "./media.js";
import { newReply } from "./server.js";

export const newTurn = (text, media, keep) => ({ text, media, keep, reply: newReply(), plain: null, map: null });

/** The messages up to the question of the last of these turns. */
function messages(turns, address) {
  return turns.flatMap(({ text, media, reply }, index) => {
    const parts = [...media.map((one) => part(one, address)), { type: "text", text }];
    const question = { role: "user", content: media.length ? parts : text };
    return index === turns.length - 1 ? [question] : [question, { role: "assistant", content: reply.text }];
  });
}

/**
 * The request that asks the last of these turns, greedily: so two answers differ only where the models do.
 *
 * `merges: false` asks the unmodified model, `map` asks for the merge map; `address` gives each medium's.
 */
export function request(model, turns, { merges = true, map = false, address = (one) => one.data } = {}) {
  const { keep } = turns[turns.length - 1];
  const body = { model, messages: messages(turns, address), temperature: 0 };
  if (!merges) body.preset = "off";
  else if (keep !== null) body.keep = keep;
  if (map) body.merge_map = true;
  return body;
}

export const streamed = (body) => ({ ...body, stream: true, stream_options: { include_usage: true } });
