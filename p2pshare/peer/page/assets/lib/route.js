/**
 * Routes in the fragment of the URL: `#/people/alice/files/photos/2026?sort=name`. Fragments never reach a server or its log.
 *
 * `parse` turns a fragment into `{view, parameters, query, path}`, `href` builds one, `go` moves there. Each segment is percent-encoded by
 * itself, so that names and paths may contain any character.
 */

import { useEffect, useState } from "./ui.js";

const VIEWS = ["people", "transfers", "send", "inbox", "shares", "settings", "health"];
const LATER_MS = 30000; // after which every browser takes an address again
const listeners = new Set();

/** Return the fragment for segments: href("people", name, "files", ...path.split("/")); the last may be a query object. */
export function href(...segments) {
  const query = typeof segments.at(-1) === "object" ? segments.pop() : {};
  const words = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "")).toString();
  return `#/${segments.filter((part) => part !== "").map(encodeURIComponent).join("/")}${words && "?"}${words}`;
}

/** Return the route of a fragment; an unknown one is that of the people. */
export function parse(fragment) {
  const [path, words = ""] = split(fragment.replace(/^#?\/?/, ""));
  const segments = path.split("/").filter((part) => part !== "").map(decode);
  const query = Object.fromEntries(new URLSearchParams(words));
  const [first = "people", name, word, ...rest] = segments;
  const route = (view, parameters = {}) => ({ view, parameters: { ...parameters, query }, query, path: `/${segments.map(encodeURIComponent).join("/")}` });
  if (first === "people" && name !== undefined) {
    return word === "files" ? route("browse", { name, path: rest.join("/") }) : route("person", { name });
  }
  return route(VIEWS.includes(first) ? first : "people");
}

/**
 * Go to a fragment ("#/people/bob") or a path ("/people/bob"). With `replace`, no new entry of the history. Browsers take few changes of the address
 * in a short time, less than a key that is held causes: they ignore more, or throw. The view changes all the same, and the address follows later.
 */
export function go(target, { replace = false } = {}) {
  const fragment = target.startsWith("#") ? target : `#${target}`;
  if (fragment === shown) return;
  try {
    history[replace ? "replaceState" : "pushState"](null, "", fragment);
  } catch (error) {
    if (error.name !== "SecurityError") throw error;
  }
  clearTimeout(timer);
  if (location.hash !== fragment) timer = setTimeout(() => history.replaceState(null, "", fragment), LATER_MS);
  update(fragment);
}

/** Return the present route, and render again when it changes. */
export function useRoute() {
  const [route, setRoute] = useState(current);
  useEffect(() => {
    listeners.add(setRoute);
    setRoute(current);
    return () => listeners.delete(setRoute);
  }, []);
  return route;
}

/** Return the present route, outside of components. */
export const currentRoute = () => current;

let shown = location.hash;
let current = parse(shown);
let timer = 0; // sets an address that the browser did not take

function update(fragment) {
  if (fragment.startsWith("#/") || fragment === "") {
    shown = fragment;
    current = parse(fragment);
  }
  for (const listen of listeners) listen(current);
}

function moved() { // by the browser
  clearTimeout(timer);
  update(location.hash);
}

function split(text) {
  const at = text.indexOf("?");
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

addEventListener("popstate", moved);
addEventListener("hashchange", moved);
