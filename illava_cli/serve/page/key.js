// The field for an API key, which shows where the server asks for one.

import { $ } from "./elements.js";
import { keepKey } from "./server.js";

/** `tryIt` is called with a new key in place; where it is refused too, the field comes back. */
export function listenForKey(tryIt) {
  $("key").addEventListener("submit", async (event) => {
    event.preventDefault();
    keepKey($("key-field").value.trim());
    $("key").hidden = true;
    await tryIt();
    if ($("key").hidden) $("question").focus();
  });
}

export function askForKey() {
  $("key").hidden = false;
  $("key-field").value = "";
  $("key-field").focus();
}
