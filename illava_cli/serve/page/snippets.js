// A request as others send it: with curl, or with the openai package. Media are files of the reader's.

const BEYOND = ["keep", "preset", "merge_map"]; // fields that the openai package does not know

/** Stands for a medium in a request until it is written down. */
export class FileOf {
  constructor(medium, number) {
    this.medium = medium;
    this.number = number;
  }
}

/** Gives every medium of a request its place: the `address` of `request`, and the files in their order. */
export function places() {
  const files = [];
  const address = (medium) => {
    let file = files.find((other) => other.medium === medium);
    if (!file) files.push((file = new FileOf(medium, files.length + 1)));
    return file;
  };
  return { files, address };
}

/** Bash: the request on curl's standard input, as a picture may be longer than a command line. */
export function curl(address, body, files, hasKey) {
  const json = write(body, "", { true: "true", false: "false", string: inHereDocument, file: inShell });
  return [
    ...files.map(({ number, medium }) => `file${number}=$(base64 < ${quoted(medium.name)} | tr -d '\\n')`),
    `curl ${quoted(`${address}/chat/completions`)} \\`,
    "  -H 'Content-Type: application/json' \\",
    ...(hasKey ? ['  -H "Authorization: Bearer $ILLAVA_API_KEY" \\'] : []),
    `  --data-binary @- <<JSON\n${json}\nJSON`,
  ].join("\n");
}

/** Python, for the openai package. */
export function python(address, body, files, hasKey) {
  const style = { true: "True", false: "False", string: JSON.stringify, file: inPython };
  const known = Object.entries(body).filter(([name]) => !BEYOND.includes(name));
  const beyond = Object.entries(body).filter(([name]) => BEYOND.includes(name));
  if (beyond.length) known.push(["extra_body", Object.fromEntries(beyond)]);
  const fields = known.map(([name, value]) => `    ${name}=${write(value, "    ", style)},`);
  return [
    ...(files.length ? ["import base64"] : []),
    ...(hasKey ? ["import os"] : []),
    ...(files.length ? ["from pathlib import Path"] : []),
    ...(files.length || hasKey ? [""] : []),
    "from openai import OpenAI",
    "",
    ...(files.length ? DATA : []),
    `client = OpenAI(base_url=${JSON.stringify(address)}, api_key=${hasKey ? 'os.environ["ILLAVA_API_KEY"]' : '"none"'})`,
    `answer = client.chat.completions.create(\n${fields.join("\n")}\n)`,
    "print(answer.choices[0].message.content)",
  ].join("\n");
}

const DATA = [
  "",
  "def data(path: str, kind: str) -> str:",
  '    return f"data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"',
  "",
  "",
];

/** A value as JSON, or as a literal that is written like it. */
function write(value, indent, style) {
  if (value instanceof FileOf) return style.file(value);
  if (typeof value === "string") return style.string(value);
  if (typeof value === "boolean") return style[value];
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const isList = Array.isArray(value);
  const items = Object.entries(value).map(
    ([name, item]) => `${inner}${isList ? "" : `${style.string(name)}: `}${write(item, inner, style)}`,
  );
  const [left, right] = isList ? "[]" : "{}";
  return `${left}\n${items.join(",\n")}\n${indent}${right}`;
}

/** For bash in single quotes. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A JSON string within a here-document in which variables are replaced. */
const inHereDocument = (text) => JSON.stringify(text).replace(/[\\$`]/g, "\\$&");

const inShell = ({ number, medium }) => `"data:${medium.type};base64,$file${number}"`;

const inPython = ({ medium }) => `data(${JSON.stringify(medium.name)}, ${JSON.stringify(medium.type)})`;
