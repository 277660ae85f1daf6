/**
 * Text from bytes of unknown encoding: whether they are text at all, which encoding they have, and what of it is safe to show.
 */

const ODD_SHARE_MAX = 0.02; // control characters in a text, as a part of its characters
const UTF_16_SHARE_MIN = 0.4; // zeros at even or odd places, as a part of those places
const LEGACY = { fa: "windows-1256", ar: "windows-1256", ru: "windows-1251", uk: "windows-1251", el: "windows-1253", he: "windows-1255" };
const ODD = /[\u0000-\u0008\u000e-\u001f\u007f\ufffd]/g;
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g;

/**
 * Return `{text, encoding}` of bytes, or null if they are no text.
 *
 * Args: `bytes` a Uint8Array; `isWhole` whether the file ends with them, otherwise a character may be cut; `language` decides which old
 * encoding is tried last.
 */
export function textOf(bytes, { isWhole = true, language = "en" } = {}) {
  const encoding = encodingOf(bytes, isWhole) ?? LEGACY[language] ?? "windows-1252";
  const text = new TextDecoder(encoding).decode(bytes, { stream: !isWhole });
  const odd = text.match(ODD)?.length ?? 0;
  return odd > text.length * ODD_SHARE_MAX ? null : { text, encoding };
}

function encodingOf(bytes, isWhole) {
  const [first, second, third] = bytes;
  if (first === 0xff && second === 0xfe) return "utf-16le";
  if (first === 0xfe && second === 0xff) return "utf-16be";
  if (first === 0xef && second === 0xbb && third === 0xbf) return "utf-8";
  if (isUtf8(bytes, isWhole)) return zeros(bytes) ? utf16(bytes) ?? "utf-8" : "utf-8";
  return utf16(bytes);
}

function isUtf8(bytes, isWhole) {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: !isWhole });
    return true;
  } catch {
    return false;
  }
}

const zeros = (bytes) => bytes.includes(0);

/** Latin text in UTF-16 has zeros at every other place. */
function utf16(bytes) {
  const counts = [0, 0];
  bytes.forEach((byte, place) => (counts[place % 2] += byte === 0 ? 1 : 0));
  const half = Math.max(1, bytes.length / 2);
  if (counts[1] / half > UTF_16_SHARE_MIN && counts[0] / half < 0.1) return "utf-16le";
  return counts[0] / half > UTF_16_SHARE_MIN && counts[1] / half < 0.1 ? "utf-16be" : null;
}

const BLOCK = 8192; // characters

/** Return a text in blocks of whole lines where possible, because the browser lays out one block at a time. */
export function blocks(text, most = BLOCK) {
  const found = [];
  for (let at = 0; at < text.length || found.length === 0; ) {
    let end = Math.min(text.length, at + most);
    if (end < text.length) {
      const line = text.lastIndexOf("\n", end - 1) + 1;
      if (line > at) end = line;
      else if (/[\ud800-\udbff]/.test(text[end - 1])) end -= 1; // half of a character
    }
    found.push(text.slice(at, end));
    at = Math.max(end, at + 1);
  }
  return found;
}

/** Return a text with its control characters as visible signs; line ends are one kind. */
export const shown = (text) =>
  text.replace(/\r\n?/g, "\n").replace(CONTROLS, (each) => (each === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + each.charCodeAt(0))));
