/**
 * The stream of events, and what to do when it breaks.
 *
 * `hello` begins a stream: it names the run of the peer (`boot`) and its files for the page (`assets`). When the stream ends or is silent, the
 * page says so and opens it again with back-off; before that it asks whether the session is still good, because an EventSource cannot tell
 * "signed out" from "gone". Every new stream makes the store fetch its lists again, so no change is missed.
 *
 *     connecting ──hello──► live ──error, silence──► lost ──hello──► live
 *                             └────────401────► ended (the page asks to sign in)
 */

import { session } from "./api.js";
import { useEffect, useRef, useState } from "./ui.js";

const RETRY_MS = [300, 700, 1500, 3000, 6000, 10000]; // between attempts; the last is repeated
const SILENCE_MS = 40000; // the peer sends `alive` every 15 s
const OWN_ASSETS = new URL("..", import.meta.url).pathname.split("/").at(-2);

const handlers = new Map(); // from the kind of an event to functions
const watchers = new Set(); // functions that get the state
let source = null;
let state = "connecting";
let boot = null;
let attempt = 0;
let retryTimer = 0;
let silenceTimer = 0;
let isOutdated = false;
let session_ = null;

/** Open the stream; `found` is the reply of `session.read()`. */
export function connect(found) {
  session_ = found;
  open();
  addEventListener("online", retryNow);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && retryNow());
  session.onEnd(() => {
    stop();
    set("ended");
  });
}

/** Call `fn(data)` for each event of a kind, outside of components; "hello" comes with each new stream. Returns a function that ends it. */
export function listen(kind, fn) {
  if (!handlers.has(kind)) {
    handlers.set(kind, new Set());
    if (source) subscribe(source, kind);
  }
  handlers.get(kind).add(fn);
  return () => handlers.get(kind).delete(fn);
}

/** Call `fn(data)` for each event of a kind while the component is shown. */
export function useLive(kind, fn) {
  const latest = useRef(fn);
  latest.current = fn;
  useEffect(() => listen(kind, (data) => latest.current(data)), [kind]);
}

/** Return "connecting", "live", "lost" or "ended", and render again when that changes. */
export function useConnection() {
  const [, render] = useState(0);
  useEffect(() => {
    const update = () => render((count) => count + 1);
    watchers.add(update);
    update();
    return () => watchers.delete(update);
  }, []);
  return state;
}

/** Return what `session.read()` told last: `{name, program, …}`. */
export const currentSession = () => session_;

/** Return whether the peer has other files for this page than those that run here. */
export const hasNewAssets = () => isOutdated;

/** Try again at once. */
export function retryNow() {
  if (state !== "lost" && state !== "connecting") return;
  attempt = 0;
  if (retryTimer) reopen();
}

function open() {
  stop();
  source = new EventSource("/api/v1/events");
  source.addEventListener("error", lost);
  source.addEventListener("hello", (event) => greeted(JSON.parse(event.data)));
  source.addEventListener("alive", heard);
  source.addEventListener("overrun", lost);
  for (const kind of handlers.keys()) subscribe(source, kind);
  heard();
}

function subscribe(to, kind) {
  if (kind === "hello") return; // told by `greeted`
  to.addEventListener(kind, (event) => {
    if (to !== source) return;
    heard();
    tell(kind, JSON.parse(event.data));
  });
}

function tell(kind, data) {
  for (const fn of handlers.get(kind) ?? []) fn(data);
}

function greeted(hello) {
  attempt = 0;
  heard();
  const isNewRun = boot !== null && hello.boot !== boot;
  boot = hello.boot;
  session_ = { ...session_, ...hello };
  isOutdated = Boolean(hello.assets) && hello.assets !== OWN_ASSETS;
  set("live");
  tell("hello", { ...hello, isNewRun });
}

function heard() {
  clearTimeout(silenceTimer);
  silenceTimer = setTimeout(lost, SILENCE_MS);
}

function lost() {
  stop();
  set("lost");
  const wait = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)];
  attempt += 1;
  retryTimer = setTimeout(reopen, wait * (0.8 + Math.random() * 0.4));
}

async function reopen() {
  clearTimeout(retryTimer);
  retryTimer = 0;
  try {
    session_ = { ...session_, ...(await session.read()) };
  } catch (error) {
    if (error.status === 401) {
      stop();
      set("ended");
    } else {
      lost();
    }
    return;
  }
  open();
}

function stop() {
  source?.close();
  source = null;
  clearTimeout(retryTimer);
  clearTimeout(silenceTimer);
  retryTimer = 0;
}

function set(next) {
  if (next === state) return;
  state = next;
  document.documentElement.dataset.connection = state;
  for (const watch of watchers) watch();
}
