/**
 * Files, folders and texts that are dropped or pasted anywhere on the page.
 *
 * A drop on an element with `data-drop-person="NAME"`, or within one, is for that person; any other drop waits in the Send view until the user has
 * chosen people. In the views of a person, every drop is for them. Nothing is sent by a drop. What is dropped has to be taken out of the event at
 * once, because the browser empties it afterwards. While a dialog is open a drop does nothing; the browser must not open the file in place of the page.
 */

import { currentRoute, go, href } from "./route.js";
import { isTyping } from "./ui.js";

const TARGET = "[data-drop-person]";
const AWAY_MS = 800; // without `dragover`, which browsers send at least every 350 ms while something is over the page

let timer = 0; // ends the signs of a drag: `dragleave` is lost when an element goes while the pointer is on it
let marked = null;
let isOwn = false; // whether something of this page itself is dragged, such as a link or a picture

/** Take drops and pastes from now on. */
export function takeDrops() {
  addEventListener("dragstart", () => (isOwn = true));
  addEventListener("dragend", () => (isOwn = false));
  addEventListener("dragenter", (event) => carriesSomething(event) && event.preventDefault());
  addEventListener("dragover", (event) => {
    if (!carriesSomething(event)) return refuse(event);
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    document.documentElement.dataset.dragging = "";
    clearTimeout(timer);
    timer = setTimeout(over, AWAY_MS);
    mark(event.target.closest?.(TARGET) ?? null);
  });
  addEventListener("drop", (event) => {
    const isTaken = event.defaultPrevented || !carriesSomething(event);
    const person = event.target.closest?.(TARGET)?.dataset.dropPerson ?? personOfView();
    over();
    if (isTaken) return refuse(event);
    event.preventDefault();
    take(event.dataTransfer, person);
  });
  addEventListener("paste", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]") || currentRoute().view !== "send") return;
    const hasFiles = [...event.clipboardData.items].some((item) => item.kind === "file");
    if (isTyping(event.target) && !hasFiles) return; // the field takes the text
    event.preventDefault();
    take(event.clipboardData, null);
  });
}

function refuse(event) {
  if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "none";
}

function personOfView() {
  const { view, parameters } = currentRoute();
  return view === "person" || view === "browse" ? parameters.name : null;
}

async function take(transfer, person) {
  const roots = rootsOf(transfer);
  const text = roots.length === 0 ? transfer.getData("text/plain") : "";
  if (roots.length === 0 && !text) return;
  const { compose } = await import("../views/send/compose.js");
  if (person !== null) compose.choose(person);
  if (currentRoute().view !== "send") go(person === null ? "/send" : href("send", { to: person }));
  if (text) compose.addText(text);
  else await compose.addRoots(roots);
}

/** Return the files and folders in a transfer, as entries of a file system or as files. */
export function rootsOf(transfer) {
  return [...transfer.items].filter((item) => item.kind === "file").map((item) => {
    const entry = item.webkitGetAsEntry?.();
    return entry?.isDirectory ? entry : (item.getAsFile() ?? entry);
  }).filter(Boolean);
}

// Text is taken from a drag, too, unless it is dropped into a field.
function carriesSomething(event) {
  const types = event.dataTransfer?.types ?? [];
  if (isOwn || document.querySelector("dialog[open]")) return false;
  return types.includes("Files") || (types.includes("text/plain") && !isTyping(event.target));
}

function mark(element) {
  if (element === marked) return;
  marked?.classList.remove("drop-here");
  marked = element;
  marked?.classList.add("drop-here");
}

function over() {
  clearTimeout(timer);
  mark(null);
  delete document.documentElement.dataset.dragging;
}
