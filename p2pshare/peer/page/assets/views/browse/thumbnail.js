/** The small picture of a file in a row or a cell: its icon until the picture is there, and if there is none. */

import { problemError, url } from "../../lib/api.js";
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
  const ending = new AbortController();
  const rest = files.filter(({ entry }) => hasPreview(entry)).map(({ person, path, entry }) => previewUrl(person, path, entry, EDGE));
  const next = async () => {
    const address = rest.shift();
    if (address === undefined || ending.signal.aborted) return;
    if (!queue.isKnown(address) && !queue.hasFailed(address, performance.now())) {
      await fetchImage(address, ending.signal).then(
        () => queue.learn(address),
        () => ending.signal.aborted || queue.fail(address, performance.now()),
      );
    }
    next();
  };
  next();
  return () => ending.abort();
}

async function fetchImage(address, signal) {
  const reply = await fetch(address, { signal });
  if (!reply.ok) throw problemError(reply.status, null);
  return reply.blob();
}

const FETCHES_ITSELF = !navigator.vendor.startsWith("Apple"); // in WebKit nothing ends the fetch of an image, so the image gets what is fetched here

/**
 * An image whose fetch ends with it: otherwise it goes on when the image is removed, and keeps a connection as long as the sharer does not answer.
 */
export function FetchedImage({ src, ...properties }) {
  const image = useRef(null);
  const [address, setAddress] = useState(FETCHES_ITSELF ? src : null);
  useLayoutEffect(() => {
    if (FETCHES_ITSELF) return () => stop(image.current);
    const ending = new AbortController();
    let made = "";
    fetchImage(src, ending.signal).then((blob) => setAddress(made = URL.createObjectURL(blob)), () => ending.signal.aborted || properties.onError());
    return () => {
      ending.abort();
      URL.revokeObjectURL(made);
    };
  }, []);
  return address && html`<img ref=${image} ...${properties} src=${address} />`;
}

function stop(image) {
  image.onload = image.onerror = null;
  image.removeAttribute("src");
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
    const timer = setTimeout(() => (turn.current = queue.request(address, () => setState("running"), () => setState("resting"))), REST_MS);
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
