/** The beginning of a text, and more of it on request. The bytes become text nodes, whatever they say. */

import { url } from "../../lib/api.js";
import { bytes as sizeText, currentLanguage, errorText, t } from "../../lib/texts.js";
import { html, useEffect, useReducer, useRef, useState } from "../../lib/ui.js";
import { Button, Loading } from "../../parts/index.js";
import { readRange } from "./byte_range.js";
import { Card } from "./card.js";
import { blocks, shown, textOf } from "./text_bytes.js";

const PART_BYTES = 65536; // read at first
export const TEXT_BYTES_MAX = 1048576; // shown of one text; the rest is for a download

export function Text({ person, folder, path, entry }) {
  const [wanted, setWanted] = useState(PART_BYTES);
  const [attempt, again] = useReducer((count) => count + 1, 0);
  const [state, setState] = useState({});
  useEffect(() => {
    const ending = new AbortController();
    read(url("file", person, path, { v: entry.version }), entry.bytes, wanted, state.bytes ?? new Uint8Array(0), ending.signal).then(
      (found) => setState(found),
      (error) => ending.signal.aborted || setState({ error }),
    );
    return () => ending.abort();
  }, [wanted, attempt]);

  const base = useRef(null);
  const hasText = typeof state.text === "string";
  useEffect(() => { // so that the keys scroll it
    if (hasText && !document.activeElement?.matches("button")) base.current.focus({ preventScroll: true });
  }, [hasText]);

  const card = (reason, onRetry = null) => html`<${Card} person=${person} folder=${folder} entry=${entry} reason=${reason} onRetry=${onRetry} />`;
  if (state.error) return card(errorText(state.error), again);
  if (!state.bytes) return html`<${Loading} />`;
  if (state.text === null) return card(t("viewer.no_text"));
  const read_ = state.bytes.length;
  const canGrow = read_ < entry.bytes && read_ < TEXT_BYTES_MAX;
  return html`<div ref=${base} class="viewer-text" tabindex="0" role="document" aria-label=${t("viewer.text")}>
    ${blocks(state.text).map((block, index) => html`<pre key=${index} dir="auto">${block}</pre>`)}
    ${entry.bytes === 0 && html`<p class="viewer-note">${t("viewer.empty")}</p>`}
    ${read_ < entry.bytes && html`<p class="viewer-note">${t("viewer.part", { part: sizeText(read_), all: sizeText(entry.bytes) })}
      ${canGrow && html` <${Button} onClick=${() => setWanted(Math.min(TEXT_BYTES_MAX, wanted * 4))}>${t("viewer.more")}<//>`}</p>`}
  </div>`;
}

async function read(address, size, wanted, before, signal) {
  const end = Math.min(size, wanted);
  const added = end > before.length ? await readRange(address, before.length, end, signal) : new Uint8Array(0);
  const bytes = new Uint8Array(before.length + added.length);
  bytes.set(before);
  bytes.set(added, before.length);
  const found = textOf(bytes, { isWhole: bytes.length >= size, language: currentLanguage() });
  return { bytes, text: found === null ? null : shown(found.text) };
}
