/**
 * One file of a folder, over the whole window. Left and right go to the files beside it in the order of the folder, Home and End to the first and
 * the last; so does a swipe. Escape closes.
 */

import { bytes, isRightToLeft, t } from "../../lib/texts.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef } from "../../lib/ui.js";
import { IconButton, Loading, Menu, Name, visible } from "../../parts/index.js";
import { Card } from "./card.js";
import { downloadItems } from "./downloads.js";
import { viewerOf } from "./kinds.js";
import { Audio, Video } from "./media.js";
import { join } from "./paths.js";
import { Picture } from "./picture.js";
import { useSwipe } from "./swipe.js";
import { Text } from "./text.js";
import { pauseThumbnails, preload } from "./thumbnail.js";

const SHOWN_BY = { picture: Picture, text: Text, audio: Audio, video: Video, card: Card };

function returnFocus(before) {
  const isThere = before?.isConnected && !before.matches("body, h1"); // a heading has the focus after a reload
  (isThere ? before : document.querySelector(".browse [data-virtual]"))?.focus({ preventScroll: true });
}

export function Viewer({ person, path, sight, name, isReading, onShow, onClose }) {
  const files = useMemo(() => [...sight.order].map((id) => sight.entries[id]).filter((entry) => entry.kind === "file"), [sight]);
  const place = useMemo(() => files.findIndex((entry) => entry.name === name), [files, name]);
  const entry = useMemo(() => files[place] ?? sight.entries.find((each) => each.name === name) ?? null, [files, place, name]);
  const dialog = useRef(null);
  const stage = useRef(null);
  const opened = useRef(name); // what the user has opened begins to play; what is come upon does not
  const close = () => onClose(name);

  useLayoutEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    pauseThumbnails(true);
    stage.current.focus({ preventScroll: true }); // not a button: the keys of the viewer are what is wanted first
    return () => {
      pauseThumbnails(false);
      queueMicrotask(() => returnFocus(before)); // nothing else takes the focus as long as the dialog is there
    };
  }, []);
  const step = (count) => {
    const next = files[place + count];
    if (next) onShow(next.name);
  };
  const goTo = (index) => files[index] && files[index].name !== name && onShow(files[index].name);
  const swipe = useSwipe((count) => step(isRightToLeft() ? -count : count));
  useEffect(() => { // the pictures beside this one will be wanted next
    const beside = [files[place + 1], files[place - 1]].filter(Boolean);
    return preload(beside.map((one) => ({ person, path: join(path, one.name), entry: one })));
  }, [place, files]);

  const pressed = (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const isMedia = event.target.closest("audio, video, [role=menu]");
    const forward = isRightToLeft() ? "ArrowLeft" : "ArrowRight";
    const back = isRightToLeft() ? "ArrowRight" : "ArrowLeft";
    const actions = { [forward]: () => step(1), [back]: () => step(-1), Home: () => goTo(0), End: () => goTo(files.length - 1) };
    if (isMedia || !(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  };
  const cancelled = (event) => {
    event.preventDefault();
    close();
  };
  const count = files.length;
  const Shown = entry && SHOWN_BY[viewerOf(entry)];
  const plays = opened.current === name && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const ended = () => {
    const next = files[place + 1];
    if (next?.type !== "audio") return;
    opened.current = next.name;
    onShow(next.name);
  };
  return html`<dialog ref=${dialog} class="viewer" aria-label=${t("viewer.label", { name: visible(name) })} onCancel=${cancelled} onClose=${close} onKeyDown=${pressed}>
    <header class="viewer-head">
      <div class="viewer-title"><h2><${Name}>${name}<//></h2>${place >= 0 && html`<p>${t("viewer.place", { n: place + 1, count })} · ${bytes(entry.bytes)}</p>`}</div>
      ${entry && html`<${Menu} label=${t("viewer.download")} icon="download" items=${downloadItems(person, path, [entry])} />`}
      <${IconButton} icon="close" label=${t("viewer.close")} onClick=${close} />
    </header>
    <div ref=${stage} class="viewer-stage" tabindex="-1" ...${swipe}>
      ${entry ? html`<${Shown} key=${`${name} ${entry.version}`} person=${person} folder=${path} path=${join(path, name)} entry=${entry} next=${files[place + 1]} plays=${plays} onEnded=${ended} />`
        : isReading ? html`<${Loading} />` : html`<p class="viewer-message">${t("viewer.gone")}</p>`}
    </div>
    <${IconButton} icon="back" className="viewer-step previous" label=${t("viewer.previous")} disabled=${place <= 0} onClick=${() => step(-1)} />
    <${IconButton} icon="next" className="viewer-step following" label=${t("viewer.next")} disabled=${place < 0 || place >= count - 1} onClick=${() => step(1)} />
    <p class="unseen live" role="status">${place >= 0 ? `${visible(name)}, ${t("viewer.place", { n: place + 1, count })}` : ""}</p>
  </dialog>`;
}
