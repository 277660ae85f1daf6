/** Downloads of one entry or of many: by the peer into a folder of this machine, or through the browser. */

import { ask, url } from "../../lib/api.js";
import { go } from "../../lib/route.js";
import { errorText, t } from "../../lib/texts.js";
import { html } from "../../lib/ui.js";
import { FolderChooser } from "../../parts/folder_chooser.js";
import { show, toast } from "../../parts/index.js";
import { baseName, join } from "./paths.js";

const REQUEST_BYTES_MAX = 48000; // of the paths of one request; the peer takes 64 KiB in all
const REQUEST_PATHS_MAX = 1000; // of one request, and of one archive
export const ADDRESS_MAX = 8000; // characters of an address; the peer takes no longer one
const LAST_FOLDER = "p2pshare.folder";

/** Return a path as `get` wants it: `*`, `?` and `[` stand for any names there, so those of a name are put into brackets. */
export const literal = (path) => path.replace(/[*?[]/g, "[$&]");

/** Yield paths as `get` wants them, in parts that fit into one request each. A part is made when it is asked for: all paths at once take too long. */
export function* batches(paths, most = REQUEST_BYTES_MAX) {
  const encoder = new TextEncoder();
  let part = [];
  let size = 0;
  for (const each of paths) {
    const path = literal(each);
    const own = encoder.encode(JSON.stringify(path)).length + 1;
    if ((size + own > most && part.length) || part.length === REQUEST_PATHS_MAX) {
      yield part;
      part = [];
      size = 0;
    }
    part.push(path);
    size += own;
  }
  yield part;
}

/** Let the peer download paths of a person into its folder for downloads, or into `folder`. */
export async function download(person, paths, folder = null) {
  try {
    let job = null;
    for (const part of batches(paths)) job = await ask("get", { name: person, paths: part, ...(folder ? { folder } : {}) });
    const values = { n: paths.length, name: baseName(paths[0]), folder: job.folder ?? folder ?? "" };
    const key = `${paths.length > 1 ? "many" : "one"}${values.folder ? "_into" : ""}`;
    toast(t(`browse.downloading.${key}`, values), {
      kind: "good", action: { label: t("browse.show_transfers"), onClick: () => go("/transfers") },
    });
  } catch (error) {
    toast(errorText(error), { kind: "bad", action: { label: t("common.try_again"), onClick: () => download(person, paths, folder) } });
  }
}

/** Ask for a folder of this machine, and download into it. */
function downloadInto(person, paths) {
  show((close) => html`<${FolderChooser} title=${t("browse.choose_folder")} start=${localStorage.getItem(LAST_FOLDER) ?? ""} onClose=${close}
    onChoose=${(folder) => {
      localStorage.setItem(LAST_FOLDER, folder);
      close();
      download(person, paths, folder);
    }} />`);
}

/** Return the address from which the browser downloads entries of a folder: a file as it is, anything else as one archive; null if it is too long. */
export function browserAddress(person, folder, entries) {
  if (entries.length === 1 && entries[0].kind === "file") return url("file", person, join(folder, entries[0].name), { download: 1 });
  if (entries.length > REQUEST_PATHS_MAX) return null;
  const address = url("archive", person, "", { path: entries.map((entry) => join(folder, entry.name)) });
  return address.length > ADDRESS_MAX ? null : address;
}

/** Download entries through the browser. */
function downloadHere(person, folder, entries) {
  const address = browserAddress(person, folder, entries);
  if (address === null) {
    toast(t("browse.too_many"), { kind: "bad" });
    return;
  }
  const link = document.createElement("a");
  link.href = address;
  link.download = "";
  document.body.append(link);
  link.click();
  link.remove();
}

/** Return the entries of the menu of what is chosen; `entries` are those of a folder, all of them stand for the folder itself. */
export function downloadItems(person, folder, entries, isAll = false) {
  const paths = () => (isAll && folder ? [folder] : entries.map((entry) => join(folder, entry.name)));
  const here = () => (isAll && folder ? downloadHere(person, "", [{ name: folder, kind: "folder" }]) : downloadHere(person, folder, entries));
  return [
    { label: t("browse.download"), icon: "download", onClick: () => download(person, paths()) },
    { label: t("browse.download_into"), icon: "folder", onClick: () => downloadInto(person, paths()) },
    { label: t("browse.download_here"), icon: "globe", onClick: here },
  ];
}
