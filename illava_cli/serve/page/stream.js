// Server-sent events: what a streamed answer is made of.

/** The JSON of each event of a body, up to `[DONE]`. Throws where the stream ends before that. */
export async function* events(body) {
  let data = [];
  for await (const line of lines(body)) {
    if (line.startsWith("data:")) {
      data.push(line.slice(5).replace(/^ /, ""));
    } else if (line === "" && data.length) {
      const event = data.join("\n");
      data = [];
      if (event === "[DONE]") return;
      yield parsed(event);
    } // anything else is a comment, or a field that this API does not use
  }
  throw new Error("The server broke off in the middle of its answer.");
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("The server's answer cannot be read.");
  }
}

/** The lines of a stream of bytes, whatever ends them; a piece may end within a line or a character. */
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(brokenOff);
      if (done) break;
      const parts = (rest + value).split(/\r\n|\n|\r(?=[^])/); // a last \r may be half of \r\n
      rest = parts.pop();
      yield* parts;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {}); // a reader that leaves early ends the request
  }
}

function brokenOff(error) {
  throw error.name === "AbortError" ? error : new Error("The connection broke off in the middle of the answer.");
}
