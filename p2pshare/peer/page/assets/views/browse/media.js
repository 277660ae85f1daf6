/** Sound and films, played while they arrive: the browser asks for the ranges that it needs. */

import { url } from "../../lib/api.js";
import { errorText, t } from "../../lib/texts.js";
import { html, useEffect, useRef, useState } from "../../lib/ui.js";
import { Icon, Name } from "../../parts/index.js";
import { readRange } from "./byte_range.js";
import { Card } from "./card.js";

/** Return what the elements of both kinds share, and the card to show in their place if they fail. */
function useMedia(properties) {
  const { person, folder, path, entry, plays, onEnded } = properties;
  const [fault, setFault] = useState(null);
  const [attempt, setAttempt] = useState(0);
  const element = useRef(null);
  useEffect(() => {
    const media = element.current;
    if (plays) media?.play().catch(() => {}); // some browsers want a click
    return () => { // stops the fetch
      if (!media) return;
      media.pause();
      media.removeAttribute("src");
      media.load();
    };
  }, [attempt, fault]);
  const again = () => {
    setFault(null);
    setAttempt(attempt + 1);
  };
  const card = fault && html`<${Card} person=${person} folder=${folder} entry=${entry} reason=${fault} onRetry=${again} />`;
  const address = url("file", person, path, { v: entry.version });
  const failed = () => readRange(address, 0, 1).then(() => setFault(t("viewer.cannot_play")), (error) => setFault(errorText(error)));
  const attributes = { ref: element, src: address, controls: true, preload: "metadata", onError: failed, onEnded, "aria-label": entry.name };
  return { card, attributes };
}

export function Audio(properties) {
  const { card, attributes } = useMedia(properties);
  return card ?? html`<div class="viewer-audio"><${Icon} name="audio" size=${64} /><p><${Name}>${properties.entry.name}<//></p><audio ...${attributes}></audio></div>`;
}

export function Video(properties) {
  const { card, attributes } = useMedia(properties);
  return card ?? html`<video class="viewer-video" playsinline ...${attributes}></video>`;
}
