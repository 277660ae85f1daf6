/**
 * What the page knows of the peer: lists that are read by an action and kept up to date by events.
 *
 * A collection is read when something asks for it first, and again with every new stream. Events that arrive during a read win over its rows.
 * While a read runs or fails, the old rows stay, so a view keeps its rows, its place and its selection when the peer restarts.
 *
 *     const { rows, map, state, error } = useCollection("jobs");     // state: "loading" | "ready" | "failed" | "unavailable"
 *     const { leftOut } = useCollection("people");                   // how many further rows there are, which the peer does not list
 *     const { trouble, oldSince } = useCollection("people");         // why the list gets no changes, and the Unix time since when; or null
 *     const waiting = useStore((store) => store.inbox.rows.filter((item) => item.state === "waiting").length);
 */

import { ask, askAll } from "./api.js";
import { listen } from "./live.js";
import { useEffect, useReducer, useRef } from "./ui.js";

const SETTLE_MS = 50; // events are collected for as long before views are told,
const SETTLE_MS_PER_ROW = 0.05; // and longer while a long list changes, because views sort and search it again
const FIRST_SHOWN_MS = 100; // until the first rows of a long list are shown, and the others may come
const RETRY_MS = 5000; // after a read that failed while the stream is open

const COLLECTIONS = {
  people: { action: "people", fields: { offline: true }, first: { limit: 50 }, rows: "people", key: "name", event: "person" },
  jobs: { action: "jobs", fields: {}, rows: "jobs", key: "id", event: "job" },
  inbox: { action: "inbox", fields: {}, rows: "items", key: "id", event: "inbox" },
  offers: { action: "offers", fields: {}, rows: "offers", key: "id", event: "offer" },
  shares: { action: "shares", fields: {}, rows: "shares", key: "name", event: "shares" },
};
// `first`: fields of a small page that is shown while the whole list is read; of people, those who are online.
const EMPTY = { rows: [], map: new Map(), state: "loading", error: null, leftOut: 0, trouble: null, oldSince: null };

const store = { health: null, traffic: { down: 0, up: 0 }, actions: null };
const readers = new Map(); // from the name of a collection that was asked for to its Reader
const watchers = new Set();
let settleTimer = 0;

for (const name of Object.keys(COLLECTIONS)) store[name] = EMPTY;

/** Return the state of a collection, read it if nothing has asked for it before, and render again when it changes. */
export function useCollection(name) {
  useEffect(() => need(name), [name]);
  return useStore((all) => all[name]);
}

/** Return `select(store)`, and render again when that is another value. */
export function useStore(select) {
  const [, render] = useReducer((count) => count + 1, 0);
  const latest = useRef(null);
  latest.current = { select, value: select(store) };
  useEffect(() => {
    const update = () => {
      const { select: now, value } = latest.current;
      if (!Object.is(now(store), value)) render();
    };
    watchers.add(update);
    update();
    return () => watchers.delete(update);
  }, []);
  return latest.current.value;
}

/** Read a collection unless it is already kept. */
export function need(name) {
  if (readers.has(name)) return;
  readers.set(name, new Reader(name, COLLECTIONS[name]));
  if (store.actions) readers.get(name).read();
}

/** Read the first rows of a collection before the stream of events is open, so that the page shows something at once. */
export function prime(name) {
  readers.set(name, readers.get(name) ?? new Reader(name, COLLECTIONS[name]));
  const reader = readers.get(name);
  reader.early = reader.readFirst().catch(() => {}); // the complete read follows, and tells what is wrong
}

/** Read a collection again, for example after a request that failed half-way. */
export const refresh = (name) => readers.get(name)?.read();

/** Return the store, outside of components. */
export const peek = () => store;

/** Put the row that an action returned into its collection at once, before the event comes. */
export const put = (name, row) => readers.get(name)?.change(row);

class Reader {
  constructor(name, definition) {
    this.name = name;
    this.definition = definition;
    this.meanwhile = null; // events during a read
    this.run = 0;
    this.early = null; // the promise of the first rows
    this.dirty = null; // the map that is changed until views are told
    listen(definition.event, (row) => this.change(row));
  }

  async read() {
    const { action, fields, first, rows, key } = this.definition;
    if (!store.actions.includes(action)) {
      this.set({ ...EMPTY, state: "unavailable" });
      return;
    }
    const run = (this.run += 1);
    this.meanwhile = [];
    try {
      if (first && store[this.name].state !== "ready") {
        await (this.early ?? this.readFirst());
        await new Promise((resolve) => setTimeout(resolve, FIRST_SHOWN_MS));
      }
      if (run !== this.run) return;
      let about = aboutList({});
      const found = await askAll(action, fields, rows, key, { onPage: (reply) => (about = aboutList(reply)) });
      if (run !== this.run) return;
      const map = new Map(found.map((row) => [row[key], row]));
      for (const row of this.meanwhile) apply(map, row, key);
      this.meanwhile = null;
      this.dirty = null;
      this.set({ rows: [...map.values()], map, state: "ready", error: null, ...about });
    } catch (error) {
      if (run !== this.run) return;
      this.meanwhile = null;
      this.set({ ...store[this.name], state: store[this.name].rows.length ? "ready" : "failed", error });
      if (!error.isLost) setTimeout(() => run === this.run && this.read(), RETRY_MS);
    }
  }

  async readFirst() {
    const { action, first, rows, key } = this.definition;
    const reply = await ask(action, first);
    if (store[this.name].rows.length > 0) return; // somebody was faster
    this.set({ rows: reply[rows], map: new Map(reply[rows].map((row) => [row[key], row])), state: "loading", error: null, ...aboutList(reply) });
  }

  change(row) {
    this.meanwhile?.push(row);
    this.dirty ??= new Map(store[this.name].map);
    apply(this.dirty, row, this.definition.key);
    settle(this.dirty.size * SETTLE_MS_PER_ROW);
  }

  flush() {
    if (!this.dirty) return;
    const map = this.dirty;
    this.dirty = null;
    store[this.name] = { ...store[this.name], rows: [...map.values()], map };
  }

  set(next) {
    store[this.name] = next;
    for (const watch of watchers) watch();
  }
}

const aboutList = (reply) => ({ leftOut: reply.left_out ?? 0, trouble: reply.trouble ?? null, oldSince: reply.old_since ?? null });

function apply(map, row, key) {
  const id = row[key];
  if (row.removed) map.delete(id);
  else map.set(id, row);
}

function settle(moreMs = 0) {
  settleTimer ||= setTimeout(() => {
    settleTimer = 0;
    for (const reader of readers.values()) reader.flush();
    for (const watch of watchers) watch();
  }, SETTLE_MS + moreMs);
}

function change(fields) {
  Object.assign(store, fields);
  settle();
}

listen("hello", async (hello) => {
  store.actions = hello.actions ?? (await ask("version")).actions;
  for (const reader of readers.values()) reader.read();
  if (store.actions.includes("health")) ask("health").then((health) => change({ health }), () => {});
  settle();
});
listen("people", (about) => {
  if (about.again) refresh("people"); // more has changed at once than events tell
  else readers.get("people")?.set({ ...store.people, ...aboutList(about) });
});
listen("health", (health) => change({ health }));
listen("state", (state) => state === "live" || change({ traffic: { down: 0, up: 0 } })); // an old rate is worse than none
listen("traffic", (traffic) => change({ traffic }));
