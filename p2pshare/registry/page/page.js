"use strict";

// Shows who is at this registry. What comes from the server is text: it gets into the page through textContent alone.

const PAGE = 500; // names of one request
const ROWS_MAX = 2000; // in the document, however many names there are
const SETTLE_MS = 150; // that changes are collected before they are shown
const TYPING_MS = 180; // that the search waits for the next letter
const CLOCK_MS = 15000; // between two looks at the relative times
const POLL_MS = 30000; // between two lists, while nothing tells us of changes
const RETRY_MS = [2000, 5000, 15000, 30000]; // until the stream is asked for again
const DOUBT_MS = 4000; // that a stream may be broken before we say so: each ends once in a while and goes on
const ANNOUNCE_MS = 10000; // between two announcements of the count
const NAME = /^[a-z0-9][a-z0-9._-]{0,31}$/;
const HUES = 6;

const find = (id) => document.getElementById(id);
const list = find("list"), empty = find("empty"), more = find("more"), search = find("search"), offline = find("offline");
const base = new URL(".", location.href);

const peers = new Map(); // what is known of the names up to `end`
const rows = new Map(); // the rows that are shown
let end = null; // the last name that is known; null if all are
let loaded = false; // whether there was a list yet
let asking = null; // aborts the request under way
let skew = 0; // ms that the server's clock is ahead of ours
let isLive = false;
let failed = false; // whether the last request failed

const prefix = () => search.value.normalize("NFKC").trim().toLowerCase();
const isHere = (peer) => peer.presence === "online" || peer.presence === "unknown";
const isShown = (peer) => (offline.checked || isHere(peer)) && peer.name.startsWith(prefix());
const plural = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// The list

async function load(after) {
  asking?.abort();
  asking = null;
  const wanted = prefix();
  if (wanted && !NAME.test(wanted)) return take({ peers: [], next: null }, true);
  const request = (asking = new AbortController());
  const url = new URL("v1/peers", base);
  url.search = new URLSearchParams({ limit: PAGE, ...(wanted && { prefix: wanted }), ...(after && { after }), ...(!offline.checked && { online: 1 }) });
  try {
    const reply = await fetch(url, { signal: request.signal, headers: { Accept: "application/json" }, cache: "no-store" });
    if (!reply.ok) throw new Error(`status ${reply.status}`);
    const date = Date.parse(reply.headers.get("Date") ?? "");
    const page = await reply.json();
    if (request !== asking) return;
    if (date && Math.abs(date - Date.now()) > 2000) skew = date - Date.now();
    asking = null;
    failed = false;
    take(page, !after);
  } catch (error) {
    if (request !== asking || error.name === "AbortError") return;
    asking = null;
    failed = true;
    tellState();
    again(load, 5000, after);
  }
}

let retry = 0;
function again(what, delay, ...words) {
  clearTimeout(retry);
  retry = setTimeout(what, delay, ...words);
}

function take(page, isFirst) {
  if (isFirst) peers.clear();
  for (const peer of page.peers) peers.set(String(peer.name), peer);
  end = page.next;
  loaded = true;
  show();
  tellState();
  if (isFirst && prefix()) announce(summary(true));
}

function show() {
  const known = [...peers.values()].filter(isShown).filter((peer) => end === null || peer.name <= end);
  known.sort((one, other) => (one.name < other.name ? -1 : one.name > other.name ? 1 : 0));
  const shown = known.slice(0, ROWS_MAX);
  const names = new Set(shown.map((peer) => peer.name));
  for (const [name, row] of rows) {
    if (!names.has(name)) {
      row.remove();
      rows.delete(name);
    }
  }
  let next = list.firstElementChild;
  for (const peer of shown) {
    let row = rows.get(peer.name);
    if (!row) {
      row = makeRow(peer);
      rows.set(peer.name, row);
    }
    fill(row, peer);
    if (row === next) next = next.nextElementSibling;
    else list.insertBefore(row, next);
  }
  showEnd(known.length > ROWS_MAX || (shown.length >= ROWS_MAX && end !== null));
  find("summary").textContent = loaded ? summary() : "\u00a0";
  showEmpty(shown.length === 0);
}

function makeRow(peer) {
  const row = make("li", "person");
  let hue = 0;
  for (const letter of peer.name) hue = (hue * 31 + letter.codePointAt(0)) % 9973;
  const face = make("span", `face hue${hue % HUES}`, peer.name.slice(0, 1));
  face.setAttribute("aria-hidden", "true");
  const who = make("span", "who");
  who.append(make("span", "name", peer.name), make("span", "tag"));
  row.append(face, who, make("span", "when"));
  return row;
}

function fill(row, peer) {
  const kind = String(peer.kind).slice(0, 64), presence = String(peer.presence);
  const tag = row.querySelector(".tag");
  tag.className = kind === "classic" ? "tag classic" : "tag";
  put(tag, kind === "classic" ? "classic, nobody vouches for it" : kind);
  row.dataset.presence = presence;
  row.peer = peer;
  tellTime(row);
}

const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

function showEnd(isFull) {
  more.hidden = end === null && !isFull;
  find("more-button").hidden = isFull;
  find("more-text").hidden = !isFull;
  put(find("more-text"), `These are the first ${ROWS_MAX.toLocaleString("en")}. Type the start of a name to find others.`);
}

function showEmpty(isEmpty) {
  empty.hidden = !(isEmpty && loaded && end === null);
  if (empty.hidden) return;
  const wanted = prefix();
  put(find("empty-title"), wanted ? `No name ${offline.checked ? "" : "that is here "}starts with “${wanted}”` : offline.checked ? "Nobody has a name yet" : "Nobody is here just now");
  put(find("empty-text"), wanted ? (offline.checked ? "Names are made of a–z, 0–9, dots, dashes and underscores." : "Somebody of that name may be offline.") : "Who joins appears here by itself.");
}

function summary(isSearch) {
  const shown = [...rows.values()].map((row) => row.peer);
  if (isSearch) return plural(shown.length, "name found", "names found");
  const online = shown.filter((peer) => peer.presence === "online").length;
  const unknown = shown.filter((peer) => peer.presence === "unknown").length;
  const parts = [`${online.toLocaleString("en")} online`];
  if (unknown) parts.push(`${unknown.toLocaleString("en")} classic`);
  if (offline.checked) parts.push(`${(shown.length - online - unknown).toLocaleString("en")} offline`);
  return parts.join(", ") + (end === null ? "" : `, among the first ${shown.length.toLocaleString("en")}`);
}

// Time

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [["year", 31536000], ["month", 2592000], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60]];

function ago(seconds) {
  for (const [unit, size] of UNITS) if (seconds >= size) return relative.format(-Math.floor(seconds / size), unit);
  return "just now";
}

function tellTime(row) {
  const { presence, last_seen: seen } = row.peer;
  const when = row.querySelector(".when");
  if (presence === "online") return put(when, "here now");
  const word = presence === "unknown" ? "registered" : "seen";
  if (!Number.isSafeInteger(seen)) return put(when, presence === "unknown" ? "maybe here" : "offline");
  const text = `${word} ${ago(Math.max(0, (Date.now() + skew) / 1000 - seen))}`;
  if (when.textContent === text) return;
  const time = make("time", "", text);
  time.dateTime = new Date(seen * 1000).toISOString();
  time.title = new Date(seen * 1000).toLocaleString();
  when.replaceChildren(time);
}

// Changes, as they come

const changes = new Map(); // by name, those that are not shown yet
let settling = 0;

function changed(event) {
  let peer;
  try {
    peer = JSON.parse(event.data);
  } catch {
    return;
  }
  changes.set(peer.name, peer);
  if (changes.size > 4 * ROWS_MAX) return reload(); // it would take longer to follow than to ask
  settling ||= setTimeout(settle, SETTLE_MS);
}

function settle() {
  settling = 0;
  if (!loaded || asking) {
    settling = setTimeout(settle, SETTLE_MS); // what is being loaded may be older
    return;
  }
  const arrived = [];
  for (const peer of changes.values()) {
    const before = peers.get(peer.name);
    if (peer.presence === "gone" || (!offline.checked && !isHere(peer))) peers.delete(peer.name);
    else if (peer.name.startsWith(prefix()) && (end === null || peer.name <= end)) {
      peers.set(peer.name, peer);
      if (peer.presence === "online" && before?.presence !== "online") arrived.push(peer.name);
    }
  }
  changes.clear();
  show();
  for (const name of arrived) {
    const row = rows.get(name);
    row?.classList.add("new");
    row?.addEventListener("animationend", () => row.classList.remove("new"), { once: true });
  }
  announceLater();
}

function reload() {
  changes.clear();
  load();
}

let source = null, relisten = 0, doubt = 0, tries = 0, opened = false;
let isResting = true; // until the stream is there that we want

function listen() {
  const own = (source = new EventSource(new URL("v1/events", base)));
  own.addEventListener("open", () => {
    clearTimeout(doubt);
    tries = doubt = 0;
    isLive = true;
    isResting = false;
    if (!opened) reload(); // all that happens after this list is told
    opened = true;
    tellState();
  });
  own.addEventListener("presence", changed);
  own.addEventListener("reset", reload);
  own.addEventListener("error", () => {
    if (own !== source) return;
    isLive = isResting = false;
    doubt ||= setTimeout(tellState, DOUBT_MS);
    if (own.readyState === EventSource.CLOSED) { // refused: the browser does not try again by itself
      opened = false;
      const delay = RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)];
      relisten = setTimeout(listen, delay * (1 + Math.random() / 4));
    }
    if (!loaded && !asking) load();
  });
}

function rest() { // a browser has few connections for all its tabs
  clearTimeout(relisten);
  clearTimeout(doubt);
  source?.close();
  source = null;
  doubt = 0;
  isLive = opened = false;
  isResting = true;
  tellState();
}

// What is said besides

const state = find("state");
const STATES = { live: "Live", lost: "Retrying…", waiting: "Connecting" };

function tellState() {
  const now = isResting ? "waiting" : isLive && !failed ? "live" : "lost";
  if (state.dataset.state === now) return;
  const was = state.dataset.state;
  state.dataset.state = now;
  put(find("state-text"), STATES[now]);
  list.classList.toggle("stale", now === "lost");
  if (now === "lost") announce("The connection is lost. What you see may be out of date.");
  else if (was === "lost") announce("Connected again.");
}

let announced = 0, announcing = 0, lastAnnounced = "";

function announce(text) {
  announced = Date.now();
  lastAnnounced = text;
  find("news").textContent = text;
}

function announceLater() {
  announcing ||= setTimeout(() => {
    announcing = 0;
    if (summary() !== lastAnnounced) announce(summary());
  }, Math.max(1000, announced + ANNOUNCE_MS - Date.now()));
}

async function tellHowToJoin() {
  const url = base.href.replace(/\/$/, "");
  find("host").textContent = base.host;
  for (const code of document.querySelectorAll("[data-command]")) {
    const words = `${code.dataset.command} ${url}`.split(" ").map((word) => make("span", "word", word));
    code.replaceChildren(...words.flatMap((word, n) => (n ? [" ", word] : [word])));
  }
  for (const button of document.querySelectorAll(".copy")) {
    const code = button.previousElementSibling;
    button.setAttribute("aria-label", `Copy: ${code.textContent}`);
    button.addEventListener("click", () => copy(button, code));
  }
  try {
    const reply = await fetch(new URL("v1/", base));
    find("invitation").hidden = !(reply.ok && (await reply.json()).invite_only === true);
  } catch { /* the stream tells that the registry is away */ }
}

async function copy(button, code) {
  let done = true;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch { // there is no clipboard without https
    getSelection().selectAllChildren(code);
    done = document.execCommand("copy");
  }
  button.textContent = done ? "Copied" : "Selected";
  button.classList.toggle("done", done);
  announce(done ? "Copied." : "Selected: copy it with your keyboard.");
  setTimeout(() => {
    button.textContent = "Copy";
    button.classList.remove("done");
  }, 2000);
}

// Begin

let typing = 0;
search.addEventListener("input", () => {
  show(); // at once, of what is here; then of what the registry has
  clearTimeout(typing);
  typing = setTimeout(load, TYPING_MS);
});
offline.addEventListener("change", () => {
  show();
  load();
});
find("tools").addEventListener("submit", (event) => {
  event.preventDefault();
  load();
});
const moreButton = find("more-button");
moreButton.addEventListener("click", async () => {
  if (asking || end === null) return;
  moreButton.setAttribute("aria-disabled", "true");
  await load(end);
  moreButton.removeAttribute("aria-disabled");
  announce(summary());
});
setInterval(() => rows.forEach(tellTime), CLOCK_MS);
setInterval(() => { if (!isLive && !asking && !document.hidden) load(); }, POLL_MS);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) rest();
  else if (!source) listen();
});
tellHowToJoin();
if (!document.hidden) listen();
