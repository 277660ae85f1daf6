"use strict";

// The list of the peers of this registry. Text from the server gets into the page by textContent alone.
//
// `loadList` reads the list, page by page, and `connect` opens a stream of changes. The list is read once more when the
// stream opens, so no change is missed in between. While the stream is down, the list is read every `POLL_MS`; its
// outcome tells whether the registry or only the stream is gone. A hidden page closes its stream, since a browser has
// few connections to one server for all its tabs.

const find = (id) => document.getElementById(id);

const PAGE = 500; // names of one request
const KNOWN_MAX = 2000; // names that are loaded, and searched here by any part
const ROWS_STEP = 200; // rows that are shown at first, and with each "Show more"
const SETTLE_MS = 150; // changes are collected for as long before they are shown
const TYPING_MS = 180; // the search waits as long for the next letter
const CLOCK_MS = 15000; // between two updates of the relative times
const POLL_MS = 30000; // between two reads of the list while there is no stream
const RETRY_MS = 5000; // until a request that failed is made again
const REPLY_MS = 8000; // until a request without a complete reply has failed
const SILENCE_MS = 20000; // until a silent stream counts as broken: the registry sends "alive" every 15 s
const RECONNECT_MS = [2000, 5000, 15000, 30000]; // until the stream is opened again
const DOUBT_MS = 4000; // until a broken stream is reported: each ends once in a while, and the browser reopens it
const ANNOUNCE_MS = 30000; // between two announcements of the count, which are made only if it has changed
const DETAILS_MS = 30000; // until the details of an open row are read again
const DETAILS_MAX = 8; // open rows whose details are read at once
const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?$/;
const BEGINNING = /^[a-z0-9][a-z0-9._-]{0,31}$/; // of a name
const RESERVED = ["admin", "healthz", "list", "metrics", "name", "readyz", "registry", "user", "v1"];
const NAME_RULE = find("you-text").textContent;
const HUES = 6;
const KEY = /^[a-z2-7]{52}$/; // of this registry, in links
const KEY_GROUP = 4; // characters, as p2pshare shows keys
const program = "~/.p2pshare/bin/p2pshare"; // where "How to join" installs it

const list = find("list"), empty = find("empty"), more = find("more"), legend = find("legend");
const search = find("search"), offline = find("offline"), state = find("state");
const base = new URL(".", location.href);

const peers = new Map(); // the first names of the registry, up to `end`, and those behind it that match the search
const rows = new Map(); // the rows that are shown
let end = null; // the last name of the list that was loaded; null if that is complete
let rowsMax = ROWS_STEP; // rows that may be shown
let loaded = false; // whether the list was loaded once
let request = null; // aborts the request under way
let skew = 0; // ms by which the server's clock is ahead of ours
let isLive = false; // whether the stream is open
let failed = false; // whether the last request failed
let updated = 0; // when the list was last known to be true, in ms since 1970
let retryTimer = 0;
let registryKey = ""; // which links to people have in place of a URL; "" until it is known

const searchText = () => search.value.normalize("NFKC").trim().toLowerCase();
const mayBeOnline = (peer) => peer.presence === "online" || peer.presence === "unknown";
const matches = (peer) => (offline.checked || mayBeOnline(peer)) && peer.name.includes(searchText());
const isStale = () => state.dataset.state === "lost";
const number = (n) => n.toLocaleString("en");
const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;
const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// The list

// Load the first names, page by page, and those that match the search.
function loadList() {
  return run(async () => {
    const fresh = new Map();
    let next = null;
    do {
      const page = await readPage(next ? { after: next } : {});
      for (const peer of page.peers) fresh.set(String(peer.name), peer);
      next = page.next;
      if (!loaded) replaceList(fresh, next); // the first time, each page is shown as it comes
    } while (next !== null && fresh.size < KNOWN_MAX);
    const matching = await readMatching(next);
    replaceList(new Map([...fresh, ...matching]), next);
    if (!loaded) lastCount = summary(); // a screen reader reads it with the rest of the page
    loaded = true;
    show();
  });
}

// Load the names behind the list that match the search.
function loadMatching() {
  return run(async () => {
    const matching = await readMatching(end);
    for (const name of peers.keys()) if (end !== null && name > end) peers.delete(name);
    for (const [name, peer] of matching) peers.set(name, peer);
    show();
    if (searchText() && summary() !== lastCount) announceCount();
  });
}

async function readMatching(last) {
  const prefix = searchText();
  const page = last !== null && BEGINNING.test(prefix) ? await readPage({ prefix }) : { peers: [] };
  return page.peers.filter((peer) => peer.name > last).map((peer) => [String(peer.name), peer]);
}

// Run one request at a time: a later one aborts the one before. If it fails, the list is loaded after a while.
async function run(read) {
  request?.abort();
  const own = (request = new AbortController());
  try {
    await read();
    updated = Date.now();
    if (failed && reconnectTimer) connect(); // the registry is back: do not wait any longer
    failed = false;
    updateOpenRows();
  } catch (error) {
    if (own !== request || error.name === "AbortError") return;
    failed = true;
    clearTimeout(retryTimer);
    retryTimer = setTimeout(loadList, RETRY_MS);
  }
  request = null;
  updateState();
}

function replaceList(fresh, next) {
  peers.clear();
  for (const [name, peer] of fresh) peers.set(name, peer);
  end = next;
  show();
}

async function readPage(words) {
  const query = new URLSearchParams({ limit: PAGE, ...words, ...(!offline.checked && { online: 1 }) });
  const { reply, body: page } = await get(`v1/peers?${query}`, request);
  if (!reply.ok) throw new Error(`status ${reply.status}`);
  const date = Date.parse(reply.headers.get("Date") ?? "");
  if (date && Math.abs(date - Date.now()) > 2000) skew = date - Date.now();
  return page;
}

// Make a request. It fails if there is no complete reply in time: a machine that is cut off closes no connection.
async function get(path, own = new AbortController()) {
  const late = setTimeout(() => own.abort(new DOMException("no reply in time", "TimeoutError")), REPLY_MS);
  try {
    const reply = await fetch(new URL(path, base), { signal: own.signal, headers: { Accept: "application/json" }, cache: "no-store" });
    const body = await reply.json();
    own.signal.throwIfAborted();
    return { reply, body };
  } finally {
    clearTimeout(late);
  }
}

function matching() {
  return [...peers.values()].filter(matches).sort((one, other) => (one.name < other.name ? -1 : one.name > other.name ? 1 : 0));
}

function show() {
  const found = matching(), shown = found.slice(0, rowsMax);
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
    if (!row) rows.set(peer.name, (row = makeRow(peer)));
    fill(row, peer);
    if (row === next) next = next.nextElementSibling;
    else list.insertBefore(row, next);
  }
  legend.hidden = !shown.some((peer) => peer.kind === "classic");
  more.hidden = rows.size >= found.length && (end === null || rows.size === 0);
  find("more-button").hidden = rows.size >= found.length || rows.size >= KNOWN_MAX;
  find("more-text").hidden = end === null;
  put(find("more-text"), `This page lists the first ${number(KNOWN_MAX)} names. To find another one, type how it begins.`);
  put(find("summary"), loaded || peers.size ? summary() : "\u00a0");
  showEmpty(loaded && shown.length === 0);
}

function makeRow(peer) {
  const row = make("li", "person");
  let hue = 0;
  for (const letter of peer.name) hue = (hue * 31 + letter.codePointAt(0)) % 9973;
  const face = make("span", `face hue${hue % HUES}`, peer.name.slice(0, 1));
  face.setAttribute("aria-hidden", "true");
  const who = make("span", "who");
  who.append(make("bdi", "name", peer.name), make("span", "tag"));
  const head = make("button", "head");
  head.type = "button";
  head.setAttribute("aria-expanded", "false");
  head.append(face, who, make("span", "when"));
  head.addEventListener("click", () => toggle(row, head));
  const open = make("a", "button open", "Open");
  open.setAttribute("aria-label", `Open ${peer.name} in your p2pshare`);
  open.title = "Open in your p2pshare";
  row.append(head, open);
  return row;
}

function fill(row, peer) {
  const tag = row.querySelector(".tag");
  tag.className = peer.kind === "classic" ? "tag warning" : "tag";
  put(tag, peer.kind === "owned" ? "" : String(peer.kind).slice(0, 64));
  tag.hidden = peer.kind === "owned";
  row.querySelector(".face").classList.toggle("online", peer.presence === "online");
  row.querySelector(".face").classList.toggle("offline", peer.presence === "offline");
  row.querySelector(".face").classList.toggle("unknown", !["online", "offline"].includes(peer.presence));
  row.dataset.presence = String(peer.presence);
  if (row.peer !== peer) row.asked = 0; // the details of an open row may be old
  row.peer = peer;
  updateLink(row);
  updateTime(row);
}

// The link to a person in the visitor's own p2pshare. Names without a key lead nowhere there.
function updateLink(row) {
  const open = row.querySelector(".open"), link = row.peer.kind === "owned" ? linkTo(row.peer.name) : "";
  open.hidden = !link;
  if (link) open.href = link;
  else open.removeAttribute("href");
}

const linkTo = (name) => (registryKey && NAME.test(name) ? `p2pshare://${registryKey}/${name}` : "");

function showEmpty(isEmpty) {
  empty.hidden = !isEmpty;
  if (!isEmpty) return;
  const part = searchText();
  put(find("empty-title"), part ? `No ${offline.checked ? "" : "online "}name contains “${part}”` : offline.checked ? "There are no names yet" : "Nobody is online at the moment");
  put(find("empty-text"), part ? (offline.checked ? "Names consist of a–z, 0–9, dots, dashes and underscores." : "A peer with this name may be offline.") : "New people appear here without a reload.");
}

// Count the names, and those that are shown: "3 online, 1 classic", "200 of 502 shown".
function summary() {
  const found = matching(), part = searchText();
  const count = (presence) => found.filter((peer) => peer.presence === presence).length;
  const online = count("online"), unknown = count("unknown");
  const parts = part ? [plural(found.length, "name found", "names found")] : [isStale() ? plural(online, "was online", "were online") : `${number(online)} online`];
  if (unknown && !part) parts.push(`${number(unknown)} classic`);
  if (offline.checked && !part) parts.push(`${number(found.length - online - unknown)} offline`);
  if (end !== null && !part) parts.push(`${number(rows.size)} of more than ${number(found.length)} shown`);
  else if (rows.size < found.length) parts.push(`${number(rows.size)} of ${number(found.length)} shown`);
  return parts.join(", ");
}

// The details of a row

let detailsCount = 0; // for the ids of details

const isOpen = (row) => row.querySelector(".head").getAttribute("aria-expanded") === "true";

function toggle(row, head) {
  head.setAttribute("aria-expanded", String(!isOpen(row)));
  let details = row.querySelector(".details");
  if (!details) {
    details = make("div", "details");
    details.id = `details${detailsCount++}`;
    head.setAttribute("aria-controls", details.id);
    row.append(details);
  }
  details.hidden = !isOpen(row);
  if (isOpen(row)) updateDetails(row);
}

async function updateDetails(row) {
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
    addFact(facts, "Key", key, make("p", "hint", `To be sure that this is ${name}, compare it with the key that “p2pshare whoami” shows there.`));
  } else addFact(facts, "Key", make("span", "", "none: anybody can register this name when it is free"));
  const kinds = new Set((Array.isArray(view.addresses) ? view.addresses : []).map((each) => addressKind(String(each))));
  addFact(facts, "Address", make("span", "", [...kinds].join("; ") || "none while it is offline"));
  details.replaceChildren(facts);
  if (NAME.test(name)) details.append(makeCommand(`${program} ls ${name} --name YOU --registry URL`));
  const link = linkTo(name);
  if (link && row.peer.kind === "owned") {
    details.append(make("p", "hint", "If “Open” does nothing, this command opens the same page:"), makeCommand(`${program} open ${link}`));
  }
  updateCommands();
}

// Read the details that are the oldest again.
function updateOpenRows() {
  const old = [...rows.values()].filter((row) => isOpen(row) && Date.now() - row.asked >= DETAILS_MS);
  old.sort((one, other) => one.asked - other.asked).slice(0, DETAILS_MAX).forEach(updateDetails);
}

function addFact(facts, term, ...values) {
  const description = make("dd", "");
  description.append(...values);
  facts.append(make("dt", "", term), description);
}

// The kind of an address, not the address: from where the peer can be reached.
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

function lasting(seconds) {
  for (const [unit, size] of UNITS) {
    const n = Math.floor(seconds / size);
    if (n > 0) return `online for ${n} ${unit}${n > 1 ? "s" : ""}`;
  }
  return "online now";
}

function updateTime(row) {
  const { presence, since } = row.peer;
  const when = row.querySelector(".when");
  if (presence === "online" && isStale()) return put(when, "was online");
  if (!Number.isSafeInteger(since)) return put(when, { online: "online now", unknown: "maybe online" }[presence] ?? "offline");
  const age = Math.max(0, (Date.now() + skew) / 1000 - since);
  const text = presence === "online" ? lasting(age) : `${presence === "unknown" ? "registered" : "seen"} ${ago(age)}`;
  if (when.textContent === text) return;
  const time = make("time", "", text);
  time.dateTime = new Date(since * 1000).toISOString();
  time.title = new Date(since * 1000).toLocaleString();
  when.replaceChildren(time);
}

// Changes

const changes = new Map(); // by name, those that are not shown yet
let settleTimer = 0;

function receive(event) {
  let peer;
  try {
    peer = JSON.parse(event.data);
  } catch {
    return;
  }
  updated = Date.now();
  changes.set(peer.name, peer);
  if (changes.size > 4 * KNOWN_MAX) return reload(); // to apply them would take longer than to load the list
  settleTimer ||= setTimeout(settle, SETTLE_MS);
}

function settle() {
  settleTimer = 0;
  if (!loaded || request) {
    settleTimer = setTimeout(settle, SETTLE_MS); // the list under way may be older
    return;
  }
  const arrived = [];
  for (const peer of changes.values()) {
    const before = peers.get(peer.name);
    const isListed = end === null || peer.name <= end || before || (BEGINNING.test(searchText()) && peer.name.startsWith(searchText()));
    if (peer.presence === "gone" || (!offline.checked && !mayBeOnline(peer))) peers.delete(peer.name);
    else if (isListed) {
      peers.set(peer.name, peer);
      if (peer.presence === "online" && before?.presence !== "online") arrived.push(peer.name);
    }
  }
  changes.clear();
  show();
  updateOpenRows();
  for (const name of arrived) {
    const row = rows.get(name);
    row?.classList.add("new");
    row?.addEventListener("animationend", () => row.classList.remove("new"), { once: true });
  }
  announceLater();
}

function reload() {
  changes.clear();
  loadList();
}

// The stream of changes

let source = null, reconnectTimer = 0, doubtTimer = 0, silenceTimer = 0, tries = 0, opened = false;
let isConnecting = true; // until a stream that was asked for opens or fails

function connect() {
  clearTimeout(reconnectTimer);
  reconnectTimer = 0;
  source?.close();
  const own = (source = new EventSource(new URL("v1/events", base)));
  restartSilenceTimer();
  own.addEventListener("open", () => {
    clearTimeout(doubtTimer);
    tries = doubtTimer = 0;
    isLive = true;
    isConnecting = false;
    restartSilenceTimer();
    if (!opened) reload(); // the stream has all changes after this list
    opened = true;
    updateState();
  });
  own.addEventListener("presence", receive);
  own.addEventListener("reset", reload);
  for (const each of ["presence", "reset", "alive"]) own.addEventListener(each, restartSilenceTimer);
  own.addEventListener("error", () => {
    if (own !== source) return;
    if (isLive) updated = Date.now();
    isLive = isConnecting = false;
    doubtTimer ||= setTimeout(loadList, DOUBT_MS);
    if (own.readyState === EventSource.CLOSED) connectLater(); // refused: the browser does not retry
    if (!loaded && !request) loadList();
  });
}

function connectLater() {
  clearTimeout(silenceTimer);
  opened = false;
  const delay = RECONNECT_MS[Math.min(tries++, RECONNECT_MS.length - 1)];
  reconnectTimer = setTimeout(connect, delay * (1 + Math.random() / 4));
}

function restartSilenceTimer() {
  if (isLive) updated = Date.now();
  clearTimeout(silenceTimer);
  silenceTimer = setTimeout(() => {
    source.close(); // a machine that is cut off does not close it
    isLive = isConnecting = false;
    connectLater();
    loadList();
  }, SILENCE_MS);
}

function disconnect() {
  for (const timer of [reconnectTimer, doubtTimer, silenceTimer]) clearTimeout(timer);
  source?.close();
  source = null;
  doubtTimer = reconnectTimer = 0;
  isLive = opened = false;
  isConnecting = true;
  updateState();
}

// The state of the connection, and announcements for screen readers

const STATES = { live: "Live", slow: `Every ${POLL_MS / 1000} s`, lost: "Not connected", waiting: "Connecting" };

function updateState() {
  const was = state.dataset.state, now = isConnecting ? "waiting" : failed ? "lost" : isLive ? "live" : "slow";
  if (was === now) return;
  state.dataset.state = now;
  put(find("state-text"), STATES[now]);
  list.classList.toggle("stale", now === "lost");
  find("lost").hidden = now !== "lost";
  const when = updated ? `Last updated ${new Date(updated).toLocaleTimeString()}.` : "Nothing was loaded yet.";
  put(find("lost"), `The registry does not answer. This page keeps trying. ${when}`);
  rows.forEach(updateTime);
  put(find("summary"), loaded ? summary() : "\u00a0");
  if (now === "lost") announce(find("lost").textContent);
  else if (was === "lost") announce("Connected again.");
}

let announced = 0, announceTimer = 0, lastCount = "";

const announce = (text) => { find("news").textContent = text; };

function announceCount() {
  announced = Date.now();
  lastCount = summary();
  announce(lastCount);
}

function announceLater() {
  if (summary() === lastCount) return;
  announceTimer ||= setTimeout(() => {
    announceTimer = 0;
    if (summary() !== lastCount) announceCount();
  }, Math.max(1000, announced + ANNOUNCE_MS - Date.now()));
}

// How to join

// Return the text of the field "Your name" if it is a valid name.
function yourName() {
  const name = find("you").value.normalize("NFKC").trim().toLowerCase();
  return NAME.test(name) && !RESERVED.includes(name) ? name : "";
}

// Fill this registry's URL and the visitor's name into every command.
function updateCommands() {
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

function updateNameHint(isNeeded) {
  const text = find("you").value.trim(), name = yourName(), hint = find("you-text");
  const isTaken = peers.get(name)?.kind === "owned";
  const isWrong = Boolean(text) && !name;
  find("you").setAttribute("aria-invalid", String(isWrong));
  hint.classList.toggle("error", isWrong || isNeeded || isTaken);
  if (isNeeded) put(hint, "Type your name here first: the command needs it.");
  else if (isTaken) put(hint, `${name} is taken. Use it only if you own it.`);
  else put(hint, isWrong ? `This is not a valid name. Use ${NAME_RULE}` : NAME_RULE);
}

function makeCommand(words) {
  const command = make("div", "command"), code = make("code", ""), button = make("button", "button copy", "Copy");
  code.dataset.command = words;
  button.type = "button";
  command.append(code, button);
  return command;
}

async function showHowToJoin() {
  find("host").textContent = base.host;
  updateCommands();
  try {
    const { reply, body } = await get("v1/");
    find("invitation").hidden = !(reply.ok && body.invite_only === true);
    registryKey = reply.ok && KEY.test(body.key) ? body.key : "";
    rows.forEach(updateLink);
  } catch { /* the list shows that the registry does not answer */ }
}

async function copy(button, code) {
  if (!code.isReady) {
    updateNameHint(true);
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

// Start

let typingTimer = 0;
search.addEventListener("input", () => {
  rowsMax = ROWS_STEP;
  show(); // at once what is loaded, then what the registry has beyond
  clearTimeout(typingTimer);
  typingTimer = setTimeout(loadMatching, TYPING_MS);
});
offline.addEventListener("change", () => {
  show();
  loadList();
});
find("you").addEventListener("input", () => {
  updateNameHint(false);
  updateCommands();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest(".copy");
  if (button) copy(button, button.previousElementSibling);
});
find("tools").addEventListener("submit", (event) => {
  event.preventDefault();
  loadList();
});
find("more-button").addEventListener("click", () => {
  const last = list.lastElementChild;
  rowsMax = Math.min(rowsMax + ROWS_STEP, KNOWN_MAX);
  show();
  last?.nextElementSibling?.querySelector("button").focus({ preventScroll: true });
  announceCount();
});
setInterval(() => {
  rows.forEach(updateTime);
  if (!document.hidden) updateOpenRows();
}, CLOCK_MS);
setInterval(() => { if (!isLive && !request && !document.hidden) loadList(); }, POLL_MS);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) disconnect();
  else if (!source) connect();
});
showHowToJoin();
if (!document.hidden) connect();
