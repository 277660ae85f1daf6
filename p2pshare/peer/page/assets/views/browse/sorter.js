/** The order of a folder's entries, kept by a worker: the page sends names, and gets places. */

const SCRIPT = new URL("./order_worker.js", import.meta.url).href;

// The page's policy lets no text become the address of a script. This one address may, and no other.
const policy = globalThis.trustedTypes?.createPolicy("p2pshare-worker", { createScriptURL: () => SCRIPT });

export class Sorter {
  /** Start the worker; `language` is the code of the language whose order is used. */
  constructor(language) {
    this.worker = new Worker(policy ? policy.createScriptURL(SCRIPT) : SCRIPT, { type: "module" });
    this.worker.addEventListener("message", ({ data }) => this.answered(data));
    this.worker.addEventListener("error", (event) => this.failed(event));
    this.turns = new Map(); // from the number of a question to the functions of its promise
    this.turn = 0;
    this.post({ do: "begin", language });
  }

  /** Add entries; their ids go on from those before. */
  add(entries) {
    this.post({
      do: "add",
      names: entries.map((entry) => entry.name),
      sizes: entries.map((entry) => entry.bytes),
      times: entries.map((entry) => entry.modified),
      folders: entries.map((entry) => entry.kind === "folder"),
    });
  }

  /** Return the `{order, places}` of all entries that were added, as a promise. */
  sort({ by, isDescending, filter }) {
    return this.ask({ do: "sort", by, isDescending, filter });
  }

  /** Return the place of the next name that begins with a text, in the order of the last `sort`, as a promise; -1 if there is none. */
  async find(text, from) {
    return (await this.ask({ do: "find", text, from })).place;
  }

  /** End the worker; questions without an answer get none. */
  close() {
    this.worker.terminate();
    this.turns.clear();
  }

  ask(question) {
    this.turn += 1;
    const { turn } = this;
    return new Promise((resolve, reject) => {
      this.turns.set(turn, { resolve, reject });
      this.post({ ...question, turn });
    });
  }

  post(message) {
    this.worker.postMessage(message);
  }

  answered(data) {
    this.turns.get(data.turn)?.resolve(data);
    this.turns.delete(data.turn);
  }

  failed(event) {
    for (const { reject } of this.turns.values()) reject(new Error(event.message ?? "the worker has failed"));
    this.turns.clear();
  }
}
