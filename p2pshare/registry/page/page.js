"use strict";

// Shows who is at this registry. What comes from the server is text: it gets into the page through textContent alone.

const find = (id) => document.getElementById(id);

const PAGE = 500; // names of one request
const KNOWN_MAX = 2000; // names that are loaded, and searched here by any part
const ROWS_STEP = 200; // rows that are shown at first, and with each "Show more"
const SETTLE_MS = 150; // that changes are collected before they are shown
const TYPING_MS = 180; // that the search waits for the next letter
const CLOCK_MS = 15000; // between two looks at the relative times
const POLL_MS = 30000; // between two lists, while nothing tells us of changes
const AGAIN_MS = 5000; // until a request that failed is made again
const REPLY_MS = 8000; // until a request without a whole reply has failed
const SILENCE_MS = 20000; // until a silent stream counts as broken: the registry sends "alive" every 15 s
const RETRY_MS = [2000, 5000, 15000, 30000]; // until the stream is asked for again
const DOUBT_MS = 4000; // that a stream may be broken before we say so: each ends once in a while and goes on
const ANNOUNCE_MS = 30000; // between two announcements of the count, which are made only if it has changed
const DETAILS_MS = 30000; // until the details of an open row are asked for again
const DETAILS_MAX = 8; // open rows that are asked for again at once
const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?$/;
const BEGINNING = /^[a-z0-9][a-z0-9._-]{0,31}$/; // of a name
const RESERVED = ["admin", "healthz", "list", "metrics", "name", "readyz", "registry", "user", "v1"];
const NAME_RULE = find("you-text").textContent;
const HUES = 6;
const KEY_GROUP = 4; // characters, as p2pshare shows keys
const program = "~/.p2pshare/bin/p2pshare"; // where "How to join" installs it

const list = find("list"), empty = find("empty"), more = find("more"), legend = find("legend");
const search = find("search"), offline = find("offline"), state = find("state");
const base = new URL(".", location.href);

const peers = new Map(); // the first names of the registry, up to `end`
const beyond = new Map(); // names behind `end` that begin with what is searched
const rows = new Map(); // the rows that are shown
let end = null; // the last name in `peers`; null if there are no others
let most = ROWS_STEP; // rows that may be shown
let loaded = false; // whether there was a list yet
let asking = null; // aborts the request under way
let skew = 0; // ms that the server's clock is ahead of ours
let isLive = false;
let failed = false; // whether the last request failed
let updated = 0; // when the list was last known to be true, in ms since 1970

const wanted = () => search.value.normalize("NFKC").trim().toLowerCase();
const isHere = (peer) => peer.presence === "online" || peer.presence === "unknown";
const isShown = (peer) => (offline.checked || isHere(peer)) && peer.name.includes(wanted());
const isStale = () => state.dataset.state === "lost";
const plural = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// The list

// Load the first names, page by page, and what `loadBeyond` loads.
function load() {
  return fetching(load, async (request) => {
    const fresh = new Map();
    let next = null;
    do {
      const page = await ask(request, next ? { after: next } : {});
      for (const peer of page.peers) fresh.set(String(peer.name), peer);
      next = page.next;
      if (!loaded) take(fresh, next); // the first time, each page is shown as it comes
    } while (next !== null && fresh.size < KNOWN_MAX);
    take(fresh, next);
    await askBeyond(request);
  });
}

// Load the names behind those that begin with what is searched.
function loadBeyond() {
  return fetching(load, askBeyond);
}

async function askBeyond(request) {
  const part = wanted(), isWanted = end !== null && BEGINNING.test(part);
  const page = isWanted ? await ask(request, { prefix: part }) : { peers: [] };
  beyond.clear();
  for (const peer of page.peers) if (peer.name > end) beyond.set(String(peer.name), peer);
  show();
  if (part && summary() !== lastCount) announceCount();
}

// Run one request at a time: a later one ends the one before. If it fails, `again` is called after a while.
async function fetching(again, run) {
  asking?.abort();
  const request = (asking = new AbortController());
  try {
    await run(request);
    updated = Date.now();
    if (failed && relisten) listen(); // the registry is back: do not wait any longer
    failed = false;
    tellOpenRows();
  } catch (error) {
    if (request !== asking || error.name === "AbortError") return;
    failed = true;
    clearTimeout(retry);
    retry = setTimeout(again, AGAIN_MS);
  }
  asking = null;
  tellState();
}

let retry = 0;

function take(fresh, next) {
  peers.clear();
  for (const [name, peer] of fresh) peers.set(name, peer);
  end = next;
  show();
  if (!loaded && (next === null || peers.size >= KNOWN_MAX)) {
    loaded = true;
    lastCount = summary(); // it is read with the rest of the page
  }
  put(find("summary"), summary());
}

async function ask(request, words) {
  const query = new URLSearchParams({ limit: PAGE, ...words, ...(!offline.checked && { online: 1 }) });
  const { reply, body: page } = await get(`v1/peers?${query}`, request);
  if (!reply.ok) throw new Error(`status ${reply.status}`);
  const date = Date.parse(reply.headers.get("Date") ?? "");
  if (date && Math.abs(date - Date.now()) > 2000) skew = date - Date.now();
  return page;
}

// Make a request. It fails if there is no whole reply in time: a machine that is cut off closes no connection.
async function get(path, request = new AbortController()) {
  const late = setTimeout(() => request.abort(new DOMException("no reply in time", "TimeoutError")), REPLY_MS);
  try {
    const reply = await fetch(new URL(path, base), { signal: request.signal, headers: { Accept: "application/json" }, cache: "no-store" });
    const body = await reply.json();
    request.signal.throwIfAborted();
    return { reply, body };
  } finally {
    clearTimeout(late);
  }
}

function matching() {
  const known = [...peers.values(), ...beyond.values()].filter(isShown);
  return known.sort((one, other) => (one.name < other.name ? -1 : one.name > other.name ? 1 : 0));
}

function show() {
  const found = matching(), shown = found.slice(0, most);
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
  legend.hidden = !shown.some((peer) => peer.kind === "classic");
  showEnd(found.length);
  put(find("summary"), loaded ? summary() : "\u00a0");
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
  const head = make("button", "head");
  head.type = "button";
  head.setAttribute("aria-expanded", "false");
  head.append(face, who, make("span", "when"));
  head.addEventListener("click", () => toggle(row, head));
  row.append(head);
  return row;
}

function fill(row, peer) {
  const tag = row.querySelector(".tag");
  tag.className = peer.kind === "classic" ? "tag classic" : "tag";
  put(tag, peer.kind === "owned" ? "" : String(peer.kind).slice(0, 64));
  const isNews = row.peer !== peer;
  row.dataset.presence = String(peer.presence);
  row.peer = peer;
  if (isNews) row.asked = 0; // what is shown of an open row may be old
  tellTime(row);
}

const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

function showEnd(found) {
  const isFull = rows.size >= KNOWN_MAX;
  more.hidden = rows.size >= found && (end === null || rows.size === 0);
  find("more-button").hidden = rows.size >= found || isFull;
  find("more-text").hidden = end === null;
  put(find("more-text"), `This page knows the first ${KNOWN_MAX.toLocaleString("en")} names. Of the others, it finds those that begin with what you type.`);
}

function showEmpty(isEmpty) {
  empty.hidden = !(isEmpty && loaded);
  if (empty.hidden) return;
  const part = wanted();
  put(find("empty-title"), part ? `No name ${offline.checked ? "" : "that is here "}contains “${part}”` : offline.checked ? "Nobody has a name yet" : "Nobody is here just now");
  put(find("empty-text"), part ? (offline.checked ? "Names consist of a–z, 0–9, dots, dashes and underscores." : "Somebody of that name may be offline.") : "New people appear here without a reload.");
}

// How many there are, and how many of them are in sight: "3 online, 1 classic", "200 of 502 shown".
function summary() {
  const found = matching();
  const online = found.filter((peer) => peer.presence === "online").length;
  const unknown = found.filter((peer) => peer.presence === "unknown").length;
  const parts = wanted() ? [plural(found.length, "name found", "names found")] : [isStale() ? plural(online, "was online", "were online") : `${online.toLocaleString("en")} online`];
  if (unknown && !wanted()) parts.push(`${unknown.toLocaleString("en")} classic`);
  if (offline.checked && !wanted()) parts.push(`${(found.length - online - unknown).toLocaleString("en")} offline`);
  const all = found.length.toLocaleString("en");
  if (end !== null && !wanted()) parts.push(`${rows.size.toLocaleString("en")} of more than ${all} shown`);
  else if (rows.size < found.length) parts.push(`${rows.size.toLocaleString("en")} of ${all} shown`);
  return parts.join(", ");
}

// What a row opens to

let openedRows = 0; // for the ids of what is opened

const isOpen = (row) => row.querySelector(".head").getAttribute("aria-expanded") === "true";

function toggle(row, head) {
  head.setAttribute("aria-expanded", String(!isOpen(row)));
  let details = row.querySelector(".details");
  if (!details) {
    details = make("div", "details");
    details.id = `details${openedRows++}`;
    head.setAttribute("aria-controls", details.id);
    row.append(details);
  }
  details.hidden = !isOpen(row);
  if (isOpen(row)) tellDetails(row);
}

async function tellDetails(row) {
  const { name } = row.peer, details = row.querySelector(".details");
  const asked = (row.asked = Date.now());
  let view;
  try {
    const { reply, body } = await get(`v1/peers/${encodeURIComponent(name)}`);
    if (!reply.ok && reply.status !== 404) throw new Error(`status ${reply.status}`);
    view = reply.ok ? body : {};
  } catch {
    if (row.asked === asked) row.asked = 0;
    if (!details.firstChild) details.append(make("p", "hint", "The registry does not answer. This page keeps trying."));
    return;
  }
  const shown = JSON.stringify([view.key, view.addresses]);
  if (row.asked !== asked || row.shown === shown) return; // leave a selection and the focus alone
  row.shown = shown;
  const facts = make("dl", "facts");
  if (view.key) {
    const key = make("code", "key", String(view.key).slice(0, 64).match(new RegExp(`.{1,${KEY_GROUP}}`, "g")).join(" "));
    addFact(facts, "Key", key, make("p", "hint", `Is it ${name}? Compare this with what “p2pshare whoami” shows there.`));
  } else addFact(facts, "Key", make("span", "", "none: anybody can take this name when it is free"));
  addFact(facts, "Address", make("span", "", addressKinds(view.addresses)));
  const parts = [facts];
  if (NAME.test(name)) parts.push(makeCommand(`${program} ls ${name} --name YOU --registry URL`));
  details.replaceChildren(...parts);
  tellCommands();
}

// Ask again for the details that are the oldest.
function tellOpenRows() {
  const old = [...rows.values()].filter((row) => isOpen(row) && Date.now() - row.asked >= DETAILS_MS);
  old.sort((one, other) => one.asked - other.asked).slice(0, DETAILS_MAX).forEach(tellDetails);
}

function addFact(facts, term, ...values) {
  const description = make("dd", "");
  description.append(...values);
  facts.append(make("dt", "", term), description);
}

// The kinds of a peer's addresses, not the addresses: these say where a peer can be reached from.
function addressKinds(addresses) {
  const kinds = new Set((Array.isArray(addresses) ? addresses : []).map((each) => addressKind(String(each))));
  return [...kinds].join("; ") || "none while it is offline";
}

function addressKind(address) {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/[[\]]/g, "");
  const family = host.includes(":") ? "IPv6" : "IPv4";
  if (/^127\.|^::1$/.test(host)) return `${family}, reachable on its own machine only`;
  if (/^(10|192\.168|172\.(1[6-9]|2\d|3[01])|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])|169\.254)\.|^f[cd]|^fe[89ab]/.test(host)) return `${family}, reachable on its own network`;
  return `${family}, public`;
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
  if (presence === "online") return put(when, isStale() ? "was here" : "here now");
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
  updated = Date.now();
  changes.set(peer.name, peer);
  if (changes.size > 4 * KNOWN_MAX) return reload(); // it would take longer to follow than to ask
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
    const before = peers.get(peer.name) ?? beyond.get(peer.name);
    const known = end === null || peer.name <= end ? peers : beyond;
    if (peer.presence === "gone" || (!offline.checked && !isHere(peer))) known.delete(peer.name);
    else if (known === peers || beyond.has(peer.name) || (BEGINNING.test(wanted()) && peer.name.startsWith(wanted()))) {
      known.set(peer.name, peer);
      if (peer.presence === "online" && before?.presence !== "online") arrived.push(peer.name);
    }
  }
  changes.clear();
  show();
  tellOpenRows();
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

let source = null, relisten = 0, doubt = 0, silence = 0, tries = 0, opened = false;
let isResting = true; // until the stream is there that we want

function listen() {
  clearTimeout(relisten);
  relisten = 0;
  source?.close();
  const own = (source = new EventSource(new URL("v1/events", base)));
  heard();
  own.addEventListener("open", () => {
    clearTimeout(doubt);
    tries = doubt = 0;
    heard();
    isLive = true;
    isResting = false;
    if (!opened) reload(); // all that happens after this list is told
    opened = true;
    tellState();
  });
  own.addEventListener("presence", changed);
  own.addEventListener("reset", reload);
  for (const each of ["presence", "reset", "alive"]) own.addEventListener(each, heard);
  own.addEventListener("error", () => {
    if (own !== source) return;
    if (isLive) updated = Date.now();
    isLive = isResting = false;
    doubt ||= setTimeout(load, DOUBT_MS); // its outcome tells whether the registry or only the stream is gone
    if (own.readyState === EventSource.CLOSED) listenLater(); // refused: the browser does not try again by itself
    if (!loaded && !asking) load();
  });
}

function listenLater() {
  clearTimeout(silence);
  opened = false;
  const delay = RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)];
  relisten = setTimeout(listen, delay * (1 + Math.random() / 4));
}

// The stream is alive, or has just been asked for.
function heard() {
  if (isLive) updated = Date.now();
  clearTimeout(silence);
  silence = setTimeout(() => {
    source.close(); // a machine that is cut off does not do so
    isLive = isResting = false;
    listenLater();
    load();
  }, SILENCE_MS);
}

function rest() { // a browser has few connections for all its tabs
  clearTimeout(relisten);
  clearTimeout(doubt);
  clearTimeout(silence);
  source?.close();
  source = null;
  doubt = relisten = 0;
  isLive = opened = false;
  isResting = true;
  tellState();
}

// What is said besides

const STATES = { live: "Live", slow: `Every ${POLL_MS / 1000} s`, lost: "Not connected", waiting: "Connecting" };

function tellState() {
  const now = isResting ? "waiting" : failed ? "lost" : isLive ? "live" : "slow";
  if (state.dataset.state === now) return;
  const was = state.dataset.state;
  state.dataset.state = now;
  put(find("state-text"), STATES[now]);
  list.classList.toggle("stale", now === "lost");
  tellLost(now === "lost");
  rows.forEach(tellTime);
  put(find("summary"), loaded ? summary() : "\u00a0");
  if (now === "lost") announce(find("lost").textContent);
  else if (was === "lost") announce("Connected again.");
}

function tellLost(isLost) {
  find("lost").hidden = !isLost;
  const when = updated ? `Last updated ${new Date(updated).toLocaleTimeString()}.` : "Nothing was loaded yet.";
  put(find("lost"), `The registry does not answer. This page keeps trying. ${when}`);
}

let announced = 0, announcing = 0, lastCount = "";

const announce = (text) => { find("news").textContent = text; };

function announceCount() {
  announced = Date.now();
  lastCount = summary();
  announce(lastCount);
}

function announceLater() {
  if (summary() === lastCount) return;
  announcing ||= setTimeout(() => {
    announcing = 0;
    if (summary() !== lastCount) announceCount();
  }, Math.max(1000, announced + ANNOUNCE_MS - Date.now()));
}

// Your name, if it is a legal one.
function yourName() {
  const name = find("you").value.normalize("NFKC").trim().toLowerCase();
  return NAME.test(name) && !RESERVED.includes(name) ? name : "";
}

// Fill in every command: this registry's URL, and the name from the field "Your name".
function tellCommands() {
  const name = yourName(), values = { URL: base.href.replace(/\/$/, ""), YOU: name || "YOU" };
  for (const code of document.querySelectorAll("[data-command]")) {
    const isAsked = "asks" in code.dataset; // the program asks for the name by itself
    const command = !name && isAsked ? code.dataset.command.replace(" --name YOU", "") : code.dataset.command;
    code.isReady = name || !command.includes("YOU");
    const words = command.split(" ").map((word) => make("span", "word", values[word] ?? word));
    code.replaceChildren(...words.flatMap((word, n) => (n ? [" ", word] : [word])));
    code.nextElementSibling.setAttribute("aria-label", `Copy: ${code.textContent}`);
  }
}

function tellYourName(isWanted) {
  const text = find("you").value.trim(), name = yourName();
  const isTaken = peers.get(name)?.kind === "owned";
  const isWrong = Boolean(text) && !name;
  find("you").setAttribute("aria-invalid", String(isWrong));
  find("you-text").classList.toggle("wrong", isWrong || isWanted || isTaken);
  if (isWanted) put(find("you-text"), "Type your name here first: the command needs it.");
  else if (isTaken) put(find("you-text"), `${name} has an owner here. Take it only if it is you.`);
  else put(find("you-text"), isWrong ? `This is not a possible name. Use ${NAME_RULE}` : NAME_RULE);
}

function makeCommand(words) {
  const command = make("div", "command"), code = make("code", ""), button = make("button", "copy", "Copy");
  code.dataset.command = words;
  button.type = "button";
  command.append(code, button);
  return command;
}

async function tellHowToJoin() {
  find("host").textContent = base.host;
  tellCommands();
  try {
    const { reply, body } = await get("v1/");
    find("invitation").hidden = !(reply.ok && body.invite_only === true);
  } catch { /* the stream tells that the registry is away */ }
}

async function copy(button, code) {
  if (!code.isReady) {
    tellYourName(true);
    find("you").focus();
    return;
  }
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
  most = ROWS_STEP;
  show(); // at once, of what is here; then of what the registry has beyond
  clearTimeout(typing);
  typing = setTimeout(loadBeyond, TYPING_MS);
});
offline.addEventListener("change", () => {
  show();
  load();
});
find("you").addEventListener("input", () => {
  tellYourName(false);
  tellCommands();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest(".copy");
  if (button) copy(button, button.previousElementSibling);
});
find("tools").addEventListener("submit", (event) => {
  event.preventDefault();
  load();
});
find("more-button").addEventListener("click", () => {
  const last = list.lastElementChild;
  most = Math.min(most + ROWS_STEP, KNOWN_MAX);
  show();
  last?.nextElementSibling?.querySelector("button").focus({ preventScroll: true });
  announceCount();
});
setInterval(() => {
  rows.forEach(tellTime);
  if (!document.hidden) tellOpenRows();
}, CLOCK_MS);
setInterval(() => { if (!isLive && !asking && !document.hidden) load(); }, POLL_MS);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) rest();
  else if (!source) listen();
});
tellHowToJoin();
if (!document.hidden) listen();
