/**
 * The entries of one folder of a person, read page by page, without the document.
 *
 * The first page is told as soon as it is there. A read that fails half-way keeps its pages, and `retry` goes on behind the last one. Nothing tells
 * this peer that a folder of another one has changed, so `look` compares the beginning of the folder now and then.
 */

export const PAGE_ENTRIES = 1000; // the most that the peer gives
const FIRST_ENTRIES = 200; // of the first page, which is on the screen sooner
export const ENTRIES_MAX = 200000; // shown of one folder; the rest is counted as left out by the page
const LEFT_OUT_MAX = 1000; // names kept of what is left out; all are counted

export class Listing {
  /** Read with `ask(action, fields, options)`; `onChange` is called after each step. */
  constructor(person, path, { ask, onChange, pageEntries = PAGE_ENTRIES }) {
    this.person = person;
    this.path = path;
    this.ask = ask;
    this.onChange = onChange;
    this.pageEntries = pageEntries;
    this.entries = [];
    this.leftOut = []; // {name, why}
    this.leftOutCount = 0;
    this.isFull = false; // there are more than ENTRIES_MAX
    this.state = "reading"; // "reading" | "ready" | "failed"
    this.error = null;
    this.ending = new AbortController();
    this.signature = "";
  }

  /** Read all pages. */
  async read() {
    this.state = "reading"; // an error of before stays until a page has come
    this.onChange(this);
    try {
      let more = true;
      while (more && !this.isFull) more = await this.readPage();
      this.state = "ready";
    } catch (error) {
      if (this.hasEnded) return;
      this.state = "failed";
      this.error = error;
    }
    if (!this.hasEnded) this.onChange(this);
  }

  /** Go on after a failure. */
  retry() {
    if (this.state === "failed") this.read();
  }

  /** Stop reading; nothing is told any more. */
  end() {
    this.ending.abort();
  }

  get hasEnded() {
    return this.ending.signal.aborted;
  }

  /** Return whether the beginning of the folder has changed since it was read. An error is not a change. */
  async look() {
    if (this.state !== "ready") return false;
    try {
      const { entries, more } = await this.page("", this.pageEntries);
      const known = this.entries.slice(0, entries.length);
      return !this.hasEnded && (more !== this.entries.length > entries.length || signature(known) !== signature(entries));
    } catch {
      return false;
    }
  }

  async readPage() {
    const limit = this.entries.length ? this.pageEntries : Math.min(FIRST_ENTRIES, this.pageEntries);
    const { entries, more, left_out: leftOut = [], unnamed = 0 } = await this.page(this.entries.at(-1)?.name ?? "", limit);
    this.error = null;
    const room = ENTRIES_MAX - this.entries.length;
    this.isFull = entries.length > room || (more && entries.length === room);
    for (const entry of entries.slice(0, room)) this.entries.push(entry);
    this.leftOut.push(...leftOut.slice(0, LEFT_OUT_MAX - this.leftOut.length));
    this.leftOutCount += leftOut.length + unnamed;
    if (more && entries.length > 0) this.onChange(this);
    return more && entries.length > 0;
  }

  async page(after, limit) {
    return this.ask("list", { name: this.person, path: this.path, after, limit }, { signal: this.ending.signal });
  }
}

const signature = (entries) => entries.map(({ name, kind, bytes, modified, version }) => [name, kind, bytes, modified, version].join("\0")).join("\n");
