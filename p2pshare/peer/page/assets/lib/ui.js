/**
 * The one place that knows the library behind the page: Preact with hooks, and htm for markup in template strings.
 *
 * Views import `html`, `render` and the hooks from here. Text in `html` becomes text nodes, so a name from another person can never become
 * markup.
 */

import { Component, Fragment, createContext, h, options, render } from "../vendor/preact.js";
import {
  useCallback, useContext, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useReducer, useRef, useState,
} from "../vendor/hooks.js";
import htm from "../vendor/htm.js";

/** Markup as a tagged template: html`<p class="hint">${text}</p>`, html`<${Button} onClick=${save}>Save<//>`. */
export const html = htm.bind(h);

export {
  Component, Fragment, createContext, h, options, render, useCallback, useContext, useEffect, useErrorBoundary, useId, useLayoutEffect,
  useMemo, useReducer, useRef, useState,
};

/** The phone layout begins below this width; the style sheets use the same figure. */
export const PHONE = "(max-width: 47.99rem)";

/** Return whether a media query matches, and render again when that changes. */
export function useMedia(query) {
  const list = useMemo(() => matchMedia(query), [query]);
  const [matches, setMatches] = useState(list.matches);
  useEffect(() => {
    const update = () => setMatches(list.matches);
    update();
    list.addEventListener("change", update);
    return () => list.removeEventListener("change", update);
  }, [list]);
  return matches;
}

/** Return the time in ms since 1970, and render again every `everyMs`, for texts such as "3 minutes ago". */
export function useNow(everyMs = 15000) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

const KEYS_OFF = "p2pshare.keys"; // in localStorage

/** Whether keys without Ctrl or Alt act wherever the focus is. Users who dictate to the browser turn that off (WCAG 2.1.4). */
export const hasShortcuts = () => localStorage.getItem(KEYS_OFF) !== "off";

/** Turn those keys on or off. */
export const allowShortcuts = (isOn) => (isOn ? localStorage.removeItem(KEYS_OFF) : localStorage.setItem(KEYS_OFF, "off"));

/** Return the key of an event in small letters; on a keyboard of another script the Latin letter or digit at its place. */
export function latinKey({ key, code = "" }) {
  return (key.length === 1 && key > "~" && /^(?:Key|Digit)(.)$/.exec(code)?.[1].toLowerCase()) || key.toLowerCase();
}

/** Call `fn(event)` for keys that are pressed outside of input fields and dialogs, without Ctrl, Alt or Meta, unless shortcuts are off. */
export function useKey(fn) {
  const latest = useRef(fn);
  latest.current = fn;
  useEffect(() => {
    const listen = (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
      if (isTyping(event.target) || document.querySelector("dialog[open]") || (event.key.length === 1 && !hasShortcuts())) return;
      latest.current(event);
    };
    document.addEventListener("keydown", listen);
    return () => document.removeEventListener("keydown", listen);
  }, []);
}

/** Return whether an element takes text. */
export function isTyping(element) {
  return element instanceof HTMLElement && (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName)) && !["checkbox", "radio"].includes(element.type);
}

/** Join the class names that are true: classes("row", isOpen && "open"). */
export const classes = (...names) => names.filter(Boolean).join(" ");
