/** The small picture of a file in a row or a cell: its icon until the picture is there, and if there is none. */

import { url } from "../../lib/api.js";
import { classes, html, useEffect, useLayoutEffect, useRef, useState } from "../../lib/ui.js";
import { Icon } from "../../parts/index.js";
import { hasPreview, iconOf } from "./kinds.js";
import { ThumbnailQueue } from "./thumbnail_queue.js";

export const EDGE = 256; // pixels of the longer edge; one size for list and grid, so that it is fetched once
const REST_MS = 90; // a row that is scrolled past within as long asks for nothing

const queue = new ThumbnailQueue();

/**
 * Let the browser get previews that will be wanted soon, each `{person, path, entry}`, one after the other: a sharer that does not answer holds one
 * connection with them. Returns a function that stops it.
 */
export function preload(files) {
  let image = null;
  const rest = files.filter(({ entry }) => hasPreview(entry)).map(({ person, path, entry }) => previewUrl(person, path, entry, EDGE));
  const next = () => {
    const address = rest.shift();
    image = null;
    if (address === undefined) return;
    if (queue.isKnown(address) || queue.hasFailed(address, performance.now())) return next();
    image = new Image();
    image.onload = () => {
      queue.learn(address);
      next();
    };
    image.onerror = () => {
      queue.fail(address, performance.now());
      next();
    };
    image.src = address;
  };
  next();
  return () => {
    if (image) stop(image);
  };
}

// An image goes on to fetch when it is removed, and keeps a connection as long as the sharer does not answer.
function stop(image) {
  image.onload = image.onerror = null;
  image.removeAttribute("src");
}

/** An image whose fetch ends with it. */
export function FetchedImage(properties) {
  const image = useRef(null);
  useLayoutEffect(() => () => stop(image.current), []);
  return html`<img ref=${image} ...${properties} />`;
}

/** Leave the connections to something that the user waits for, or go on. */
export const pauseThumbnails = (isPaused) => queue.pause(isPaused);

let epoch = 0;

/** Grows when pictures that have failed are worth another attempt. */
export const thumbnailEpoch = () => epoch;

/** Ask again for pictures that have failed, with the next rendering. */
export function retryThumbnails() {
  queue.forgive();
  epoch += 1;
}

/** Return the address of a preview with an edge of this many pixels. */
export const previewUrl = (person, path, entry, edge) => url("preview", person, path, { edge, v: entry.version });

/** `path` is that of the entry; `size` in pixels is that of the icon. */
export function Thumbnail({ person, path, entry, size }) {
  const wanted = hasPreview(entry);
  const address = wanted ? previewUrl(person, path, entry, EDGE) : null;
  return html`<span class=${classes("browse-thumb", `of-${iconOf(entry)}`)}>
    <${Icon} name=${iconOf(entry)} size=${size} />${wanted && html`<${Picture} key=${`${epoch} ${address}`} address=${address} />`}
  </span>`;
}

function Picture({ address }) {
  const [state, setState] = useState(() => (queue.isKnown(address) ? "running" : queue.hasFailed(address, performance.now()) ? "failed" : "resting"));
  const turn = useRef(null);
  useEffect(() => {
    if (state !== "resting") return undefined;
    const timer = setTimeout(() => (turn.current = queue.request(address, () => setState("running"))), REST_MS);
    return () => {
      clearTimeout(timer);
      turn.current?.cancel();
    };
  }, [address]);
  const ended = (isGood) => {
    if (!isGood) queue.fail(address, performance.now());
    setState(isGood ? "shown" : "failed");
    turn.current?.done(isGood);
  };
  if (state === "resting" || state === "failed") return null;
  return html`<${FetchedImage} class=${state} src=${address} alt="" draggable=${false} decoding="async" onLoad=${() => ended(true)} onError=${() => ended(false)} />`;
}
