/**
 * A picture: its small preview at once, a larger one, then the picture itself, each painted over the one before as its bytes arrive.
 *
 * The browser decodes the picture itself only if the first bytes say that it is a picture of a bearable size: a file of a few kB can claim a
 * thousand million pixels. All layers have the same box, so nothing moves while the picture sharpens.
 */

import { url } from "../../lib/api.js";
import { bytes, errorText, number, t } from "../../lib/texts.js";
import { html, useEffect, useReducer, useState } from "../../lib/ui.js";
import { Button, Loading } from "../../parts/index.js";
import { readRange } from "./byte_range.js";
import { Card } from "./card.js";
import { isShownWhole, viewerOf } from "./kinds.js";
import { join } from "./paths.js";
import { HEADER_BYTES, PIXELS_MAX, pictureSize } from "./picture_size.js";
import { EDGE, FetchedImage, previewUrl } from "./thumbnail.js";
import { useZoom } from "./zoom.js";

const LARGE_EDGE = 512; // pixels of the second preview, the largest that the peer gives
const SMALL_FILE = 400000; // bytes; a picture that is no larger needs no second preview

const REST_MS = 100; // of a picture that is passed on the way to another one, only the previews are asked for

const AHEAD_BYTES_MAX = 8e6; // of the next picture, which is fetched while this one is looked at

/** `next` is the entry beside it, or undefined. */
export function Picture({ person, folder, path, entry, next }) {
  const [attempt, again] = useReducer((count) => count + 1, 0);
  return html`<${Layers} key=${attempt} person=${person} folder=${folder} path=${path} entry=${entry} next=${next} onRetry=${again} />`;
}

function Layers({ person, folder, path, entry, next, onRetry }) {
  const wantsLarge = entry.bytes > SMALL_FILE || !isShownWhole(entry);
  const [small, setSmall] = useState({ state: "loading" });
  const [large, setLarge] = useState({ state: wantsLarge ? "loading" : "none" });
  const [whole, setWhole] = useState({ state: isShownWhole(entry) ? "asking" : "none" });
  const address = url("file", person, path, { v: entry.version });

  useEffect(() => {
    if (whole.state !== "asking") return undefined;
    const ending = new AbortController();
    const timer = setTimeout(() => readSize(address, entry.bytes, ending.signal).then(
      (size) => setWhole(judged(size)),
      (error) => ending.signal.aborted || setWhole({ state: "failed", reason: errorText(error) }),
    ), REST_MS);
    return () => {
      clearTimeout(timer);
      ending.abort();
    };
  }, []);

  useEffect(() => { // into the cache of the browser
    if (whole.state !== "shown" || !next || viewerOf(next) !== "picture" || !isShownWhole(next) || next.bytes > AHEAD_BYTES_MAX) return undefined;
    const ending = new AbortController();
    fetch(url("file", person, join(folder, next.name), { v: next.version }), { signal: ending.signal }).then((reply) => reply.arrayBuffer()).catch(() => {});
    return () => ending.abort();
  }, [whole.state]);

  const layers = { small, large, whole };
  const box = boxOf(layers);
  const zoom = useZoom(box);
  const hasSome = Object.values(layers).some(({ state }) => state === "shown" || state === "arriving");
  const isOver = Object.values(layers).every(({ state }) => ["failed", "none", "shown"].includes(state));
  if (!hasSome && isOver) {
    return html`<${Card} person=${person} folder=${folder} entry=${entry} reason=${whole.reason ?? t("viewer.no_preview")} onRetry=${whole.isFinal ? null : onRetry} />`;
  }
  const image = (name, source, set, layer, extra = {}) => html`<${FetchedImage} key=${name} class=${`viewer-layer ${name} ${layer.state}`} src=${source} alt="" draggable=${false}
    decoding="async" onLoad=${(event) => set({ ...layer, state: "shown", ...natural(event.currentTarget) })} onError=${() => set({ ...layer, state: "failed", ...extra })} />`;
  return html`<div class="viewer-picture" ...${zoom.handlers} data-zoomed=${zoom.isZoomed ? "" : undefined}>
    ${!hasSome && html`<${Loading} />`}
    <div class="viewer-box" role="img" aria-label=${t("viewer.picture_label", { name: entry.name })} style=${{ ...box?.style, ...zoom.style }}>
      ${small.state !== "failed" && whole.state !== "shown" && image("small", previewUrl(person, path, entry, EDGE), setSmall, small)}
      ${wantsLarge && small.state !== "loading" && large.state !== "failed" && whole.state !== "shown" && image("large", previewUrl(person, path, entry, LARGE_EDGE), setLarge, large)}
      ${["arriving", "shown"].includes(whole.state) && (!wantsLarge || large.state !== "loading" || small.state === "loading") && image("whole", address, setWhole, whole, { reason: t("viewer.broken") })}
    </div>
    ${zoom.isZoomed && html`<p class="viewer-zoom" aria-hidden="true">${number(zoom.scale, { style: "percent" })}</p>`}
    <${Note} whole=${whole} entry=${entry} onRetry=${onRetry} />
  </div>`;
}

/** What is still to come, or why the picture itself is not shown. */
function Note({ whole, entry, onRetry }) {
  if (whole.state === "asking" || whole.state === "arriving") return html`<p class="viewer-note" role="status">${t("viewer.sharpening", { size: bytes(entry.bytes) })}</p>`;
  if (whole.state === "none") return html`<p class="viewer-note">${t("viewer.only_preview")}</p>`;
  if (whole.state === "failed") return html`<p class="viewer-note" role="alert">${t("viewer.only_preview")} ${whole.reason}${!whole.isFinal && html` <${Button} kind="quiet" onClick=${onRetry}>${t("common.try_again")}<//>`}</p>`;
  return null;
}

async function readSize(address, fileBytes, signal) {
  for (const most of HEADER_BYTES) {
    const size = pictureSize(await readRange(address, 0, Math.min(fileBytes, most), signal));
    if (size !== null || fileBytes <= most) return size;
  }
  return null;
}

function judged(size) {
  if (size === null) return { state: "failed", reason: t("viewer.no_picture"), isFinal: true };
  const { width, height } = size;
  if (width * height > PIXELS_MAX) return { state: "failed", reason: t("viewer.too_many_pixels", { width, height }), isFinal: true };
  return { state: "arriving", head: size };
}

const natural = ({ naturalWidth: width, naturalHeight: height }) => ({ width, height });

/** The box of all layers: the size of the picture if it is known, its shape from whatever layer has arrived; null if nothing is known. */
function boxOf({ small, large, whole }) {
  const shape = [whole, large, small].find(({ width, height }) => width > 0 && height > 0);
  const size = whole.head;
  if (!shape && !size) return null;
  let { width, height } = shape ?? size;
  if (whole.state !== "shown" && size && shape) {
    const isTurned = width > height !== size.width > size.height && width !== height; // by its EXIF data
    [width, height] = isTurned ? [size.height, size.width] : [size.width, size.height];
  } else if (whole.state !== "shown" && !size) [width, height] = [width * 100, height * 100]; // as large as there is room
  return { width, height, style: { "--w": width, "--h": height } };
}
