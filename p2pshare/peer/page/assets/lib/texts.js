/**
 * The words of the page, and numbers, sizes and times as the reader's language writes them.
 *
 * A language is one file, `texts/CODE.json`. The server lists the files in index.html, so a new file is a new choice in the settings, without a
 * change of code. Its `_language` has the direction of its script, and `"units": "long"` if sizes are written with the whole words for their
 * units, as "44.5 kilobytes". A text may be a string, or an object with a string for each plural category of the value `n`:
 *
 *     "waiting": {"one": "{n} offer waits", "other": "{n} offers wait"}          t("inbox.waiting", {n: 3})
 *
 * Numbers in values are written in the digits of the language. Strings in values are isolated, so that a name in another direction does not
 * turn the sentence around. `rich` is `t` for markup: its values may be elements.
 */

const LANGUAGE = "p2pshare.language"; // the choice in localStorage
const FALLBACK = "en";
const FALLBACK_MS = 3000; // until it is loaded beside a catalogue that is there; tests show that each has all texts

/** The codes of all languages, in the order of their codes. */
export const languages = (document.querySelector('meta[name="languages"]')?.content ?? FALLBACK).split(" ").filter(Boolean);

const isolate = (text) => `\u2068${text}\u2069`;
const turns = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc]/; // letters and marks that turn text

let catalogue = {};
let fallback = {};
let language = FALLBACK;
let direction = "ltr";

/** Load the catalogue of the chosen language, and set `lang` and `dir` of the document. */
export async function loadTexts() {
  language = chosenLanguage() ?? matching(navigator.languages) ?? FALLBACK;
  catalogue = await load(language);
  if (language !== FALLBACK) {
    const loadFallback = async () => (fallback = await load(FALLBACK));
    if (catalogue._language) setTimeout(loadFallback, FALLBACK_MS);
    else await loadFallback();
  }
  direction = catalogue._language?.direction ?? "ltr";
  document.documentElement.lang = language;
  document.documentElement.dir = direction;
}

/** Return the code of the language in use. */
export const currentLanguage = () => language;

/** Return whether text runs from right to left. */
export const isRightToLeft = () => direction === "rtl";

/** Return the code that was chosen, or null if the browser decides. */
export function chosenLanguage() {
  const code = localStorage.getItem(LANGUAGE);
  return languages.includes(code) ? code : null;
}

/** Keep a choice (null: that of the browser); the page is loaded again in that language. */
export function chooseLanguage(code) {
  if (code === null) localStorage.removeItem(LANGUAGE);
  else localStorage.setItem(LANGUAGE, code);
  location.reload();
}

/** Return the name of a language in itself: "English", "فارسی". */
export function languageName(code) {
  try {
    return new Intl.DisplayNames(code, { type: "language" }).of(code);
  } catch {
    return code;
  }
}

/** Return a text with its values: t("people.found", {n: 3}). */
export function t(key, values = {}) {
  return pieces(key, values, (value) => (typeof value === "number" ? number(value) : isolated(String(value)))).join("");
}

/** Return a text as a list of strings and of the elements among its values, to stand in `html`. */
export function rich(key, values = {}) {
  return pieces(key, values, (value) => (typeof value === "number" ? number(value) : value));
}

/** Return whether there is a text with this key. */
export const hasText = (key) => find(catalogue, key) !== undefined || find(fallback, key) !== undefined;

function pieces(key, values, write) {
  let text = find(catalogue, key) ?? find(fallback, key);
  if (text === undefined) {
    console.error(`no text: ${key}`);
    return [key];
  }
  if (typeof text !== "string") text = text[plural(values.n ?? 0)] ?? text.other ?? key;
  return text.split(/\{(\w+)\}/).map((part, index) => (index % 2 === 0 ? part : part in values ? write(values[part]) : `{${part}}`));
}

const find = (texts, key) => key.split(".").reduce((found, part) => found?.[part], texts);
const isolated = (text) => (direction === "rtl" || turns.test(text) ? isolate(text) : text);
const plural = (n) => made("plural", () => new Intl.PluralRules(language)).select(n);

/** Return a number in the digits of the language. */
export const number = (value, options = {}) => made(`number ${JSON.stringify(options)}`, () => new Intl.NumberFormat(language, options)).format(value);

/** Return what a reader has typed with the digits and separators of ASCII: those of Persian and Arabic keyboards are others. */
export const plainDigits = (text) => text.replace(/[\u0660-\u0669\u06f0-\u06f9]/g, (digit) => digit.charCodeAt(0) & 15).replace(/\u066b/g, ".").replace(/\u066c/g, "");

/** Return a part as per cent; `value` is 0 to 1. */
export const percent = (value) => number(Math.max(0, Math.min(1, value)), { style: "percent" });

const SIZES = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte", "petabyte"];

/** Return a number of bytes: "44.5 kB". */
export const bytes = (count) => sized(count, "common.bytes");

/** Return bytes per second: "2.1 MB/s". */
export const rate = (count) => (count < 999.5 ? sized(count, "common.bytes_per_second") : rich("common.per_second", { size: sized(count) }).join(""));

function sized(count, plain) {
  let step = 0;
  let value = Math.max(0, count);
  while (value >= 999.5 && step < SIZES.length - 1) {
    value /= 1000;
    step += 1;
  }
  const maximumFractionDigits = step === 0 || value >= 99.95 ? 0 : 1;
  if (step === 0) return t(plain, { n: Math.round(value) });
  return number(value, { style: "unit", unit: SIZES[step], unitDisplay: catalogue._language?.units ?? "short", maximumFractionDigits });
}

const SPANS = [["year", 31557600], ["month", 2629800], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60]];

/** Return how long ago a Unix time was: "5 minutes ago", "now". */
export function ago(time, nowMs = Date.now()) {
  const seconds = time - nowMs / 1000;
  const format = made("ago", () => new Intl.RelativeTimeFormat(language, { numeric: "auto" }));
  const [unit, length] = SPANS.find(([, span]) => Math.abs(seconds) >= span) ?? ["second", 0];
  return length ? format.format(Math.trunc(seconds / length), unit) : format.format(0, "second");
}

/** Return a Unix time as date and time of the reader: "30 Nov 2026, 10:15". */
export const date = (time, options = { dateStyle: "medium", timeStyle: "short" }) =>
  made(`date ${JSON.stringify(options)}`, () => new Intl.DateTimeFormat(language, options)).format(time * 1000);

/** Return how long a number of seconds is, in its largest unit: "3 weeks"; less than a minute is a minute. */
export function span(seconds) {
  const [unit, length] = SPANS.find(([, one]) => seconds >= one) ?? SPANS.at(-1);
  return number(Math.max(1, Math.trunc(seconds / length)), { style: "unit", unit, unitDisplay: "long" });
}

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** Return a number of seconds in its two largest units: "1 hr, 5 min". */
export function duration(seconds) {
  let rest = Math.max(0, Math.round(seconds));
  const first = UNITS.findIndex(([, length]) => rest >= length);
  const found = [];
  for (const [unit, length] of UNITS.slice(first < 0 ? UNITS.length - 1 : first).slice(0, 2)) {
    const value = Math.floor(rest / length);
    rest -= value * length;
    if (value > 0 || found.length === 0) found.push(number(value, { style: "unit", unit, unitDisplay: "short" }));
  }
  return made("units", () => new Intl.ListFormat(language, { type: "unit" })).format(found);
}

/** Return texts as an enumeration: "a, b and c". */
export const enumeration = (texts) => made("list", () => new Intl.ListFormat(language, { type: "conjunction" })).format(texts.map(isolated));

/** Return a function that orders texts as the language does, with numbers by their value. */
export const collator = () => made("order", () => new Intl.Collator(language, { numeric: true, sensitivity: "base" }));

/** Whether a sentence of the peer names commands or options, which are of no use on a page. */
export const isForTerminals = (message) => /`| --[a-z]/.test(message);

/**
 * Return the sentence for an error of a request: in English that of the peer, unless it names commands for a terminal, otherwise that of the
 * catalogue if there is one.
 */
export function errorText(error) {
  const key = `common.errors.${error.error}`;
  if (error.error === "NoReply" || ((language !== FALLBACK || isForTerminals(error.message)) && find(catalogue, key) !== undefined)) return t(key);
  return error.message;
}

/** Return a sentence of the peer, which is English, if it can be shown to this reader on a page; otherwise nothing. */
export const peerText = (message) => (language === FALLBACK && message && !isForTerminals(message) ? message : "");

const formats = new Map();

function made(key, make) {
  if (!formats.has(key)) formats.set(key, make());
  return formats.get(key);
}

const matching = (wanted) => wanted.map((code) => languages.find((one) => one === code || one === code.split("-")[0])).find(Boolean);

// A catalogue that cannot be read must not keep the page from coming up: the other one, or the keys, are shown.
async function load(code) {
  try {
    const reply = await fetch(new URL(`../texts/${code}.json`, import.meta.url));
    return reply.ok ? await reply.json() : {};
  } catch (error) {
    console.error(`texts of ${code}:`, error);
    return {};
  }
}
