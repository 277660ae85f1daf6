/**
 * The page of a peer: signs in, opens the stream of events, and shows one view.
 *
 * How to write a view
 * -------------------
 * A view is `views/NAME.js` and `views/NAME.css`, loaded together when its route is opened first (`lib/route.js` lists the routes). It exports one
 * component as default:
 *
 *     import { html, useState } from "../lib/ui.js";
 *     import { ask } from "../lib/api.js";
 *     import { useCollection } from "../lib/store.js";
 *     import { bytes, errorText, t } from "../lib/texts.js";
 *     import { go, href } from "../lib/route.js";
 *     import { Button, Empty, Name, Page, toast } from "../parts/index.js";
 *
 *     export default function View({ parameters }) {
 *       const { rows, state } = useCollection("shares");
 *       const remove = (name) => ask("share_remove", { name }).catch((error) => toast(errorText(error), { kind: "bad" }));
 *       return html`<${Page} title=${t("shares.title")} actions=${html`<${Button} icon="plus">${t("shares.add")}<//>`}>
 *         ${rows.map((share) => html`<p key=${share.name}><${Name}>${share.name}<//></p>`)}
 *       <//>`;
 *     }
 *
 * - `Page` gives the view its one <h1>; the frame moves the focus there when the route changes, and sets the title of the tab from it.
 * - Text of other people stands in `<${Name}>`; markup never comes from text. All other text comes from the view's own section of the catalogue.
 * - Every error of `ask` is shown, by `toast(errorText(error), {kind: "bad"})` or in place. An exception in a view is caught here: the view says
 *   that it failed, and the rest of the page goes on.
 * - Lists that can be long use `lib/virtual.js`. State that must survive a reload lives in the route (`parameters.query`) or in localStorage.
 * - Styles use the tokens of design.css (`var(--text)`, `var(--space-3)`), logical properties only, and begin each selector with the view's own class.
 */

import { ApiError, openCommand, session } from "./lib/api.js";
import { takeDrops } from "./lib/drops.js";
import { keepFocus } from "./lib/focus.js";
import { connect, currentSession, hasNewAssets, listen, retryNow, useConnection } from "./lib/live.js";
import { watchOffers } from "./lib/notices.js";
import { currentRoute, href, parse, useRoute } from "./lib/route.js";
import { need, prime, useStore } from "./lib/store.js";
import { errorText, loadTexts, number, rate, t } from "./lib/texts.js";
import { applyTheme } from "./lib/theme.js";
import { classes, html, render, useEffect, useErrorBoundary, useKey, useLayoutEffect, useReducer, useRef, useState } from "./lib/ui.js";
import { Button, Icon, Loading, Name, Notice, Toasts, openShortcuts, toast } from "./parts/index.js";

const NAVIGATION = ["people", "transfers", "send", "inbox", "shares", "settings", "health"];
const ON_PHONE = ["people", "transfers", "send", "inbox"]; // the others are in "More"
const SETTLE_MS = 250; // until a position of scrolling is kept
const VIEW_FIRST_MS = 300; // in which a view asks for its own rows, before all transfers are read for the title of the tab
const SCROLLS = ["wheel", "touchmove", "keydown"]; // by which the reader scrolls
const AWAY = new Set(["away", "elsewhere"]); // states of the registry that the reader should know of

const views = new Map(); // from the name of a view to a promise of its component
let failures = 0; // a module that failed is asked for under another address, because browsers remember failures

function loadView(name) {
  if (!views.has(name)) {
    const found = Promise.all([import(`./views/${name}.js${failures ? `?${failures}` : ""}`), loadStyle(name)]).then(([module]) => module.default);
    found.catch(() => {
      failures += 1;
      views.delete(name);
    });
    views.set(name, found);
  }
  return views.get(name);
}

function loadStyle(name) {
  return new Promise((resolve, reject) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(`./views/${name}.css`, import.meta.url);
    link.addEventListener("load", resolve);
    link.addEventListener("error", () => {
      link.remove();
      reject(new Error(`no style of ${name}`));
    });
    document.head.append(link);
  });
}

// Load a view while the pointer or the focus is still on its link.
function anticipate({ target }) {
  const link = target.closest?.('a[href^="#/"]');
  if (link) loadView(parse(link.getAttribute("href")).view).catch(() => {});
}

// Frame

function App({ found }) {
  const connection = useConnection();
  if (connection === "ended") return html`<${SignIn} />`;
  return html`<${Frame} found=${found} connection=${connection} />`;
}

function Frame({ found, connection }) {
  const route = useRoute();
  useTitle(found.name);
  useScrollPositions();
  useEffect(() => keepFocus(document.getElementById("main")), []);
  useKey((event) => ["?", "\u061f"].includes(event.key) && openShortcuts());
  const skip = (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  };
  return html`<div class="frame" onPointerOver=${anticipate} onFocusIn=${anticipate}>
    <a class="skip" href="#main" onClick=${skip}>${t("common.skip")}</a>
    <header class="top">
      <a class="brand" href="#/people"><img src=${new URL("./icon.svg", import.meta.url)} width="28" height="28" alt="" />
        <span class="brand-text"><span class="product">p2pshare</span><span class="own-name"><${Name}>${found.name}<//></span></span></a>
      <${Rates} /><${Lamp} connection=${connection} />
    </header>
    <${Navigation} view=${route.view} />
    <main id="main" tabindex="-1"><${Bars} connection=${connection} /><${ViewOf} key=${route.view} route=${route} /></main>
    <${Toasts} />
  </div>`;
}

function Navigation({ view }) {
  const [isOpen, setOpen] = useState(false);
  const current = { person: "people", browse: "people" }[view] ?? view;
  const more = useRef(null);
  useEffect(() => setOpen(false), [view]);
  useEffect(() => {
    if (!isOpen) return undefined;
    const outside = (event) => more.current?.contains(event.target) || setOpen(false);
    const escape = (event) => {
      if (event.key !== "Escape") return;
      setOpen(false);
      more.current.querySelector('[aria-controls="nav-more"]').focus();
    };
    document.addEventListener("pointerdown", outside);
    document.addEventListener("keydown", escape);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("keydown", escape);
    };
  }, [isOpen]);
  const waiting = useStore((store) => store.inbox.rows.filter((item) => item.state === "waiting").length);
  const running = useStore((store) => store.jobs.rows.filter((job) => job.state === "running").length);
  const trouble = useStore((store) => (AWAY.has(store.health?.registry?.state) ? 1 : 0));
  const isLan = useStore((store) => store.health?.registry?.state === "lan");
  useEffect(() => void (isLan && need("people")), [isLan]); // only without a registry do people ask to be let in
  const asking = useStore((store) => store.people.rows.filter((person) => person.trust === "waiting").length);
  const badge = { people: asking, inbox: waiting, transfers: running };
  const notes = { people: "common.nav_asking", inbox: "common.nav_waiting", transfers: "common.nav_running" };
  const link = (name) => html`<a key=${name} class="nav-item" href=${href(name)} aria-current=${name === current ? "page" : undefined}>
    <span class="nav-icon"><${Icon} name=${name} size=${22} />${name === "health" && trouble > 0 && html`<span class="badge dot" aria-hidden="true"></span>`}</span>
    <span class="nav-text">${t(`common.nav.${name}`)}${badge[name] > 0 && html`<span class="unseen"> – ${t(notes[name], { n: badge[name] })}</span>`}</span>
    ${badge[name] > 0 && html`<span class=${classes("badge", name)} aria-hidden="true">${number(badge[name])}</span>`}
  </a>`;
  return html`<nav ref=${more} class="nav" aria-label=${t("common.navigation")}>
    ${NAVIGATION.map((name) => html`<div key=${name} class=${ON_PHONE.includes(name) ? "nav-place" : "nav-place on-desktop"}>${link(name)}</div>`)}
    <div class="nav-place on-phone">
      <button type="button" class="nav-item" aria-expanded=${String(isOpen)} aria-controls="nav-more" data-current=${ON_PHONE.includes(current) ? undefined : ""} onClick=${() => setOpen(!isOpen)}>
        <span class="nav-icon"><${Icon} name="menu" size=${22} />${trouble > 0 && html`<span class="badge dot" aria-hidden="true"></span>`}</span><span class="nav-text">${t("common.more")}</span></button>
    </div>
    <div id="nav-more" class="nav-more on-phone" hidden=${!isOpen}>${NAVIGATION.filter((name) => !ON_PHONE.includes(name)).map(link)}</div>
  </nav>`;
}

function Rates() {
  const traffic = useStore((store) => store.traffic);
  if (!traffic.down && !traffic.up) return html`<span class="rates"></span>`;
  return html`<a class="rates" href=${href("transfers")}>
    <span><${Icon} name="down" size=${16} label=${t("common.receiving")} />${rate(traffic.down)}</span><span><${Icon} name="up" size=${16} label=${t("common.sending")} />${rate(traffic.up)}</span></a>`;
}

function Lamp({ connection }) {
  return html`<span class="lamp-text" data-state=${connection}><span class="lamp" aria-hidden="true"></span><span class="lamp-label">${t(`common.connection.${connection}`)}</span></span>`;
}

// What is wrong with the whole page: the peer is gone, the registry is away, new files.
function Bars({ connection }) {
  const [shown, setShown] = useState(false);
  const registry = useStore((store) => store.health?.registry);
  useEffect(() => {
    if (connection !== "lost") return setShown(false);
    const timer = setTimeout(() => setShown(true), 700); // a stream that comes back at once is no news
    return () => clearTimeout(timer);
  }, [connection]);
  const isAway = connection === "live" && AWAY.has(registry?.state);
  return html`<div class="bars" role="status">
    ${connection === "lost" && shown && html`<${Notice} kind="warning" actions=${html`<${Button} onClick=${retryNow}>${t("common.retry_now")}<//>`}>${t("common.peer_lost", { command: openCommand() })}<//>`}
    ${isAway && html`<${Notice} kind="warning" actions=${html`<${Button} href=${href("health")}>${t("common.nav.health")}<//>`}>${t(`common.registry.${registry.state}`)}<//>`}
    ${hasNewAssets() && html`<${Notice} kind="info" actions=${html`<${Button} kind="primary" onClick=${() => location.reload()}>${t("common.reload")}<//>`}>${t("common.new_page")}<//>`}
  </div>`;
}

function ViewOf({ route }) {
  const [attempt, again] = useReducer((count) => count + 1, 0);
  const [state, setState] = useState({});
  const [error, resetError] = useErrorBoundary((problem) => console.error(problem));
  useEffect(() => {
    let isWanted = true;
    setState({});
    loadView(route.view).then((component) => isWanted && setState({ component }), (problem) => isWanted && setState({ problem }));
    return () => (isWanted = false);
  }, [route.view, attempt]);
  const restart = () => {
    resetError();
    again();
  };
  if (error || state.problem) return html`<${Failed} problem=${error ?? state.problem} onRetry=${restart} />`;
  if (!state.component) return html`<${Loading} />`;
  return html`<${Shown} view=${state.component} route=${route} />`;
}

function Shown({ view: View, route }) {
  useFocusOnHeading();
  return html`<${View} key=${route.view === "browse" ? route.parameters.name : route.view === "person" ? route.path : route.view} parameters=${route.parameters} />`;
}

// A new view gets the focus, at its heading, unless it has put it somewhere itself.
function useFocusOnHeading() {
  useLayoutEffect(() => {
    const main = document.getElementById("main");
    const active = document.activeElement;
    if (hasMoved && (active === main || !main.contains(active))) main.querySelector("h1")?.focus({ preventScroll: true });
    hasMoved = true;
  }, []);
}

let hasMoved = false; // the first view leaves the focus where the browser puts it

function Failed({ problem, onRetry }) {
  useFocusOnHeading();
  return html`<section class="page"><h1 tabindex="-1">${t("common.view_failed")}</h1>
    <${Notice} kind="bad" actions=${html`<${Button} onClick=${onRetry}>${t("common.try_again")}<//>`}>
      <p>${t("common.view_failed_text")}</p><p><code dir="ltr">${problem instanceof ApiError ? errorText(problem) : String(problem?.message ?? problem)}</code></p><//></section>`;
}

function headingText() {
  const heading = document.querySelector("#main h1")?.cloneNode(true);
  for (const each of heading?.querySelectorAll('[aria-hidden="true"]') ?? []) each.remove();
  return heading?.textContent ?? "";
}

// The title of the tab: rate, waiting offers, heading, name of the peer.
function useTitle(name) {
  useEffect(() => {
    const timer = setTimeout(() => ["inbox", "jobs"].forEach(need), VIEW_FIRST_MS);
    return () => clearTimeout(timer);
  }, []);
  const down = useStore((store) => store.traffic.down + store.traffic.up);
  const waiting = useStore((store) => store.inbox.rows.filter((item) => item.state === "waiting").length);
  const heading = useRef("");
  const write = () => {
    const counts = waiting > 0 ? `(${number(waiting)}) ` : "";
    const speed = down > 0 ? `${rate(down)} · ` : "";
    document.title = `${counts}${speed}${heading.current ? `${heading.current} – ` : ""}${name} – p2pshare`;
  };
  const latest = useRef(write);
  latest.current = write;
  useEffect(write, [down, waiting, name]);
  useEffect(() => {
    const look = () => {
      const text = headingText();
      if (text === heading.current) return;
      heading.current = text;
      latest.current();
    };
    const observer = new MutationObserver(look);
    observer.observe(document.getElementById("main"), { childList: true, subtree: true, characterData: true });
    look();
    return () => observer.disconnect();
  }, []);
}

// Each entry of the history keeps its place; a reload and "back" return to it.
function useScrollPositions() {
  const route = useRoute();
  useLayoutEffect(() => {
    history.scrollRestoration = "manual";
    const main = document.getElementById("main");
    let timer = 0;
    const keep = () => {
      clearTimeout(timer);
      timer = setTimeout(() => history.replaceState({ ...history.state, top: main.scrollTop }, ""), SETTLE_MS);
    };
    main.addEventListener("scroll", keep, { passive: true });
    return () => main.removeEventListener("scroll", keep);
  }, []);
  useLayoutEffect(() => {
    const main = document.getElementById("main");
    const wanted = history.state?.top ?? 0;
    if (wanted === 0) {
      main.scrollTop = 0;
      return undefined;
    }
    const started = performance.now();
    let frame = 0;
    const restore = () => { // the rows come later; give up when the reader scrolls, or after 3 s
      main.scrollTop = wanted;
      if (Math.abs(main.scrollTop - wanted) > 2 && performance.now() - started < 3000) frame = requestAnimationFrame(restore);
    };
    restore();
    const stop = () => {
      cancelAnimationFrame(frame);
      for (const kind of SCROLLS) removeEventListener(kind, stop);
    };
    for (const kind of SCROLLS) addEventListener(kind, stop, { passive: true });
    return stop;
  }, [route.path]);
}

// Sign in

function SignIn({ problem }) {
  const [View, setView] = useState(null);
  useEffect(() => void loadView("signin").then((component) => setView(() => component)), []);
  return View && html`<${View} problem=${problem} onDone=${() => location.reload()} />`;
}

// Whether another web page has led the browser here. It must not choose what is shown: a look at a person connects to them, so they would learn
// who has visited that page. A reload is the reader's own, whoever led here before.
const isLedHere = document.querySelector('meta[name="visit"]')?.content === "elsewhere" && performance.getEntriesByType("navigation")[0]?.type === "navigate";
let isKeptAway = false; // from a view that another page wanted

function show(fragment) {
  history.replaceState(null, "", fragment);
  dispatchEvent(new PopStateEvent("popstate"));
}

function keepAway() {
  if (["", "#/", "#/people"].includes(location.hash)) return;
  isKeptAway = true;
  show("#/people");
}

// The fragment "#open=TOKEN&to=/people/bob" signs in once; it is removed from the history before anything else.
function takeLink() {
  if (!location.hash.startsWith("#open=")) return null;
  const words = new URLSearchParams(location.hash.slice(1));
  const to = words.get("to") ?? "";
  const fragment = to.startsWith("/") ? `#${to}` : "#/people";
  show(fragment);
  return { token: words.get("open"), fragment };
}

async function signInByLink() {
  const link = takeLink();
  if (isLedHere) keepAway();
  if (link === null) return null;
  try {
    const found = await session.begin({ token: link.token });
    if (isKeptAway) show(link.fragment); // a good token comes from this user, wherever the link was
    isKeptAway = false;
    return found;
  } catch (error) {
    if (error.status !== 401 && error.status !== 403) throw error;
    return null; // an old link: the session of before may still be good
  }
}

async function start() {
  applyTheme();
  const signedIn = signInByLink();
  signedIn.catch(() => {});
  loadView(currentRoute().view).catch(() => {});
  await loadTexts();
  const root = document.getElementById("app");
  let found = null;
  try {
    found = (await signedIn) ?? (await session.read());
  } catch (error) {
    if (error.status === 401 || error.status === 403) render(html`<${SignIn} problem=${error.problem} />`, root);
    else {
      render(html`<div class="plain-message"><${Notice} kind="bad">${errorText(error)}<//></div>`, root);
      setTimeout(start, 3000);
    }
    return;
  }
  if (currentRoute().view === "people") prime("people");
  connect(found);
  takeDrops();
  watchOffers();
  render(html`<${App} found=${found} />`, root);
  if (isKeptAway) toast(t("common.led_here"));
}

// A link that is opened in this tab changes the fragment only: a tab that is signed in already just goes there.
addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#open=")) return;
  if (currentSession()) takeLink();
  else location.reload();
});

// Whether a reload would take something from the reader: an open dialog, text in a field, or what a view marks with `data-unsaved`.
function isBusy() {
  if (document.querySelector("dialog[open], :is(input, textarea):focus, audio, video, [data-unsaved]")) return true;
  return [...document.querySelectorAll('main :is(textarea, input:not([type="search"], [type="checkbox"], [type="radio"]))')].some((field) => field.value !== "");
}

// New files of the page: loaded at once, unless the reader is in the middle of something; never twice for the same files.
listen("hello", ({ assets }) => {
  if (!hasNewAssets() || sessionStorage.getItem("p2pshare.assets") === assets) return;
  if (isBusy()) return;
  sessionStorage.setItem("p2pshare.assets", assets);
  location.reload();
});

// Whether the browser can show the page; the newest of what is used here, docs/how-to/page.md has the versions.
function isFit() {
  try {
    localStorage.getItem("p2pshare.theme"); // fails where cookies are blocked
  } catch {
    return false;
  }
  return CSS.supports("color", "light-dark(#000, #fff)") && "popover" in HTMLElement.prototype && "any" in AbortSignal;
}

if (isFit()) start();
else document.getElementById("unfit").classList.add("known");
