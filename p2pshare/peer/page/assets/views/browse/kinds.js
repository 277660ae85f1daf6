/**
 * How a file is shown: by its icon in a row, and by the viewer. The peer tells the type of each file by its name.
 */

const NO_PREVIEW = /\.svgz?$/i; // drawings hold scripts, and the peer makes no previews of them
const BROWSER_SHOWS = /\.(jpe?g|jpe|jfif|png|webp|gif|avif|bmp)$/i;
const ARCHIVES = /\.(zip|7z|rar|tar|gz|tgz|bz2|xz|zst)$/i;
const DOCUMENTS = /\.(pdf|docx?|odt|rtf|epub|xlsx?|ods|pptx?|odp)$/i;

/** The icon of an entry. */
export function iconOf({ kind, type, name }) {
  if (kind === "folder") return "folder";
  if (["picture", "audio", "video", "text"].includes(type)) return type;
  if (ARCHIVES.test(name)) return "archive";
  return DOCUMENTS.test(name) ? "document" : "file";
}

/** Whether the peer is asked for a small picture of an entry. */
export const hasPreview = ({ kind, type, name }) => kind === "file" && type === "picture" && !NO_PREVIEW.test(name);

/** Whether the browser itself shows the whole picture; of others, the preview is all there is to see. */
export const isShownWhole = ({ name }) => BROWSER_SHOWS.test(name);

/** The viewer of a file: "picture", "text", "audio", "video" or "card". */
export function viewerOf(entry) {
  if (hasPreview(entry)) return "picture";
  return ["text", "audio", "video"].includes(entry.type) ? entry.type : "card";
}

/** The name without its last extension, and that extension with its dot, to shorten a name in its middle. */
export function splitName(name) {
  const found = /^(.+)(\.[^.\s]{1,8})$/su.exec(name);
  return found ? [found[1], found[2]] : [name, ""];
}
