/** Icons of 24 by 24, drawn with strokes in the colour of the text. `turns` are mirrored where text runs from right to left. */

import { classes, html } from "../lib/ui.js";

const PATHS = {
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM2.5 20c.5-3.8 3-6 6.5-6s6 2.2 6.5 6M16 4.3a3.5 3.5 0 0 1 0 6.4M18 14.4c2 .8 3.2 2.6 3.5 5.6",
  person: "M12 11.5a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4.5 20.5c.6-4 3.5-6 7.5-6s6.9 2 7.5 6",
  transfers: "M8 4v15M8 19l-4-4M8 19l4-4M16 20V5M16 5l-4 4M16 5l4 4",
  send: "M4 12 20 4l-5.5 16-3-6.5L4 12ZM20 4l-8.5 9.5",
  inbox: "M4 13.5 6.5 5h11L20 13.5V19H4v-5.5ZM4 13.5h4.5l1.2 2.5h4.6l1.2-2.5H20",
  shares: "M3.5 19V6h6l2 2.5h9V19h-17ZM12 16.5v-5M12 11.5l-2 2M12 11.5l2 2",
  settings: "M4 7h9M19 7h1M4 17h1M11 17h9M16 9.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM8 19.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Z",
  health: "M3 12h4l2.5-6.5 4.5 13L16.5 12H21",
  folder: "M3.5 19V6h6l2 2.5h9V19h-17Z",
  file: "M6 3.5h8l4 4v13H6v-17ZM14 3.5v4h4",
  picture: "M4 5h16v14H4V5ZM4 16l4.5-4.5 4 4 3-3L20 16.5M15.5 9.5h.01",
  audio: "M9 18V6l10-2v12M9 18a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0ZM19 16a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0Z",
  video: "M4 5h16v14H4V5ZM10 9v6l5-3-5-3Z",
  text: "M6 3.5h8l4 4v13H6v-17ZM9 11h6M9 14h6M9 17h4",
  download: "M12 4v11M12 15l-4.5-4.5M12 15l4.5-4.5M4.5 19.5h15",
  upload: "M12 15V4M12 4 7.5 8.5M12 4l4.5 4.5M4.5 19.5h15",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM15.5 15.5 20.5 20.5",
  close: "M6 6l12 12M18 6 6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  plus: "M12 5v14M5 12h14",
  more: "M12 4.8a.6.6 0 1 0 .01 0ZM12 11.4a.6.6 0 1 0 .01 0ZM12 18a.6.6 0 1 0 .01 0Z",
  next: "M9 5l7 7-7 7",
  back: "M15 5l-7 7 7 7",
  up: "M5 15l7-7 7 7",
  down: "M5 9l7 7 7-7",
  pause: "M8 5v14M16 5v14",
  play: "M8 5v14l11-7L8 5Z",
  stop: "M6 6h12v12H6V6Z",
  retry: "M4.5 12a7.5 7.5 0 1 0 2.3-5.4L4.5 9M4.5 4.5V9H9",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  copy: "M9 9h11v11H9V9ZM15 9V4H4v11h5",
  paste: "M8 5H5v15.5h14V5h-3M8.5 3.5h7v3.5h-7V3.5Z",
  key: "M8 15.5a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 11.5h8.5M17.5 11.5v3.5M20.5 11.5v2",
  shield: "M12 3.5 19 6v6c0 4.5-3 7-7 8.5-4-1.5-7-4-7-8.5V6l7-2.5ZM9 12l2.3 2.3L15.5 10",
  lock: "M6 11h12v9H6v-9ZM8.5 11V7.5a3.5 3.5 0 0 1 7 0V11",
  grid: "M4 4h6.5v6.5H4V4ZM13.5 4H20v6.5h-6.5V4ZM4 13.5h6.5V20H4v-6.5ZM13.5 13.5H20V20h-6.5v-6.5Z",
  list: "M8.5 6H20M8.5 12H20M8.5 18H20M4.5 6h.01M4.5 12h.01M4.5 18h.01",
  sort: "M7 5v14M7 19l-3-3M7 19l3-3M13 7h8M13 12h6M13 17h4",
  filter: "M4 5h16l-6 7.5V19l-4-2v-4.5L4 5Z",
  warning: "M12 4 21 19.5H3L12 4ZM12 10v4.5M12 17h.01",
  info: "M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17ZM12 11v5M12 8h.01",
  clock: "M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17ZM12 7v5l3.5 2",
  globe: "M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17ZM3.5 12h17M12 3.5c5 5.5 5 11.5 0 17-5-5.5-5-11.5 0-17Z",
  direct: "M3.5 12h17M7 8.5 3.5 12 7 15.5M17 8.5l3.5 3.5-3.5 3.5",
  relay: "M12 8.5a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4ZM5.5 19.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM18.5 19.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM10.7 8.2 6.6 15.6M13.3 8.2l4.1 7.4",
  lan: "M9.5 4h5v5h-5V4ZM4 15h5v5H4v-5ZM15 15h5v5h-5v-5ZM12 9v3M6.5 15v-3h11v3",
  bell: "M6 17V11a6 6 0 0 1 12 0v6l1.5 1.5h-15L6 17ZM10.5 21h3",
  menu: "M4 7h16M4 12h16M4 17h16",
  edit: "M5 19l1-4L16 5l3 3L9 18l-4 1Z",
  eye: "M2.5 12c2.5-4.5 5.5-6.5 9.5-6.5s7 2 9.5 6.5c-2.5 4.5-5.5 6.5-9.5 6.5S5 16.5 2.5 12ZM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6Z",
  home: "M4 11l8-7 8 7M6 9.5V20h12V9.5",
  computer: "M3.5 5h17v11h-17V5ZM9 20h6M12 16v4",
  offline: "M3 3l18 18M5 10.5a12 12 0 0 1 3.5-2.2M19 10.5A11 11 0 0 0 12 7.5M8 14.5a6 6 0 0 1 6-1.2M12 18.5h.01",
  archive: "M4 4h16v5H4V4ZM5.5 9v11h13V9M10 13h4",
  document: "M6 3.5h8l4 4v13H6v-17ZM14 3.5v4h4M9 12h6M9 15.5h6M9 8.5h2",
};
const TURNS = new Set(["next", "back", "send", "list", "sort", "text", "offline"]);

/** An icon; decorative unless `label` is given. */
export function Icon({ name, size = 20, label, className }) {
  return html`<svg
    class=${classes("icon", TURNS.has(name) && "turns", className)} viewBox="0 0 24 24" width=${size} height=${size}
    role=${label ? "img" : undefined} aria-label=${label} aria-hidden=${label ? undefined : "true"} focusable="false"
  ><path d=${PATHS[name] ?? PATHS.info} /></svg>`;
}
