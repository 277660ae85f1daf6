/**
 * The events of the peer, and what to do when they stop.
 *
 * `hello` begins a stream: it names the run of the peer (`boot`) and its files for the page (`assets`). When the stream ends or is silent, the
 * page says so and opens it again with back-off. Every new stream makes the store fetch its lists again, so no change is missed.
 *
 *     connecting ──hello──► live ──end, silence──► lost ──hello──► live
 *                             └───────401────► ended (the page asks to sign in)
 *
 * All tabs of a browser share one stream, because a browser has six connections to a server for all tabs together. The tab that holds the
 * lock opens the stream and repeats its events to the others over a channel. When that tab is closed, or its session ends, another one gets the
 * lock. When it is frozen, the others hear nothing for a while, and one of them takes the lock away. Without locks (plain HTTP under a name) each
 * tab has its own stream.
 */

import { openStream } from "./stream.js";
import { session } from "./api.js";
import { useEffect, useReducer, useRef } from "./ui.js";

const RETRY_MS = [300, 700, 1500, 3000, 6000, 10000]; // between attempts; the last is repeated
const SILENCE_MS = 50000; // without a word of the tab that has the stream: it is frozen
const LOCK = "p2pshare.events";
const OWN_ASSETS = new URL("..", import.meta.url).pathname.split("/").at(-2);

const handlers = new Map(); // from the kind of an event to functions
const watchers = new Set(); // functions that are called after each change of the state
let channel = null; // to the other tabs
let isLeader = false; // whether this tab has the stream
let release = () => {}; // gives the lock back
let close = () => {}; // closes the stream
let state = "connecting";
let hello = null; // the last one
let known = null; // what is known of the session
let attempt = 0;
let retryTimer = 0;
let silenceTimer = 0;

/** Begin to follow the peer; `found` is the reply of `session.read()`. */
export function connect(found) {
  known = found;
  addEventListener("online", retryNow);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && retryNow());
  session.onEnd(end);
  if (!navigator.locks) {
    lead();
    return;
  }
  channel = new BroadcastChannel(LOCK);
  channel.addEventListener("message", ({ data }) => received(data));
  queue();
  channel.postMessage({ ask: true });
  listenForLeader();
}

/** Call `fn(data)` for each event of a kind; "hello" comes with each new stream, "state" when the connection changes. Returns a function that ends it. */
export function listen(kind, fn) {
  if (!handlers.has(kind)) handlers.set(kind, new Set());
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
  const [, render] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    watchers.add(render);
    render();
    return () => watchers.delete(render);
  }, []);
  return state;
}

/** Return what is known of the session and the peer: `{name, program, …}`; null without a session. */
export const currentSession = () => known;

/** Return whether the peer has other files for this page than those that run here. */
export const hasNewAssets = () => Boolean(hello?.assets) && hello.assets !== OWN_ASSETS;

/** Try again at once. */
export function retryNow() {
  if (state !== "lost") return;
  if (isLeader) {
    attempt = 0;
    open();
  } else {
    channel?.postMessage({ retry: true });
  }
}

// The tab that has the stream

function queue(options = {}) {
  const request = navigator.locks.request(LOCK, options, () => new Promise((done) => { // held until the tab or its session ends, or the lock is taken away
    release = done;
    lead();
  }));
  request.catch(() => {
    isLeader = false;
    stop();
    queue();
    listenForLeader();
  });
}

function lead() {
  if (state === "ended") return release();
  isLeader = true;
  clearTimeout(silenceTimer);
  return open();
}

function open() {
  stop();
  close = openStream("/api/v1/events", told, (status) => (status === 401 ? end() : lost()));
}

function told(kind, data) {
  channel?.postMessage({ kind, data });
  handle(kind, data);
}

function lost() {
  set("lost");
  const wait = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)];
  attempt += 1;
  retryTimer = setTimeout(open, wait * (0.8 + Math.random() * 0.4));
}

function stop() {
  close();
  close = () => {};
  clearTimeout(retryTimer);
}

// All tabs

function received({ kind, data, ask, retry, state: next }) {
  if (isLeader) {
    if (ask && state === "live") channel.postMessage({ kind: "hello", data: hello });
    else if (ask) channel.postMessage({ state });
    if (retry) retryNow();
    return;
  }
  if (ask || retry) return; // another tab that has no stream either
  listenForLeader();
  if (state === "ended") return; // a new session needs a new page
  if (next) set(next);
  if (kind) handle(kind, data);
}

function listenForLeader() {
  clearTimeout(silenceTimer);
  silenceTimer = setTimeout(() => state !== "ended" && queue({ steal: true }), SILENCE_MS * (1 + Math.random()));
}

function handle(kind, data) {
  if (kind === "hello") {
    const isNewRun = hello !== null && hello.boot !== data.boot;
    attempt = 0;
    hello = data;
    known = { ...known, ...data };
    set("live");
    for (const watch of watchers) watch(); // the files of the page may be others
    tell(kind, { ...data, isNewRun });
  } else if (kind === "overrun") {
    if (isLeader) open();
  } else {
    tell(kind, data);
  }
}

function tell(kind, data) {
  for (const fn of handlers.get(kind) ?? []) {
    try {
      fn(data);
    } catch (error) { // neither the other functions nor the stream end with it
      reportError(error);
    }
  }
}

// The session has ended. Whoever leads next finds out whether the browser has a new one.
function end() {
  stop();
  isLeader = false;
  known = null;
  set("ended");
  release();
}

function set(next) {
  if (next === state) return;
  state = next;
  document.documentElement.dataset.connection = state;
  if (isLeader) channel?.postMessage({ state });
  tell("state", state);
  for (const watch of watchers) watch();
}
