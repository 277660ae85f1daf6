/**
 * Paths of files of a person: the texts "a/b/c" of the peer, and the addresses of the view that shows them.
 */

import { href } from "../../lib/route.js";

/** Return the components of a path; the top has none. */
export const components = (path) => path.split("/").filter((each) => each !== "");

/** Return the path of an entry of a folder. */
export const join = (folder, name) => (folder ? `${folder}/${name}` : name);

/** Return the path of the folder above; null at the top. */
export const parent = (path) => (path === "" ? null : components(path).slice(0, -1).join("/"));

/** Return the last component; "" at the top. */
export const baseName = (path) => components(path).at(-1) ?? "";

/** Return the address of a folder of a person; with `show`, its viewer is open at that entry. */
export const folderHref = (person, path, { show = null } = {}) => href("people", person, "files", ...components(path), { show });

/** Return a step for each folder from the top to this one: `{name, path}`; the name of the top is "". */
export function steps(path) {
  const names = components(path);
  return [{ name: "", path: "" }, ...names.map((name, index) => ({ name, path: names.slice(0, index + 1).join("/") }))];
}

/** Return the steps to show when there is room for `most`: the top and the last ones, with null for those left out. */
export function shortened(all, most) {
  if (all.length <= most) return all;
  return [all[0], null, ...all.slice(all.length - most + 1)];
}
