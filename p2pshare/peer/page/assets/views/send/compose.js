/**
 * What the user is about to send: to whom, and which files, folders or text. It outlives the view, so that a drop on a person, a look at another view
 * and a long upload lose nothing.
 *
 * Files of the browser are uploaded into a draft of the peer first, `UPLOADS` at a time. Files that are named by their path on the peer's machine are
 * not copied. Then the peer counts (`check`). If something is left out, the user is asked before anything goes out.
 *
 *     idle ──send()──► uploading ──► checking ──► offering ──► idle (offered)
 *                          └─cancel / error──► idle     └─► asking ──go on──► offering
 */

import { ApiError, ask, put as upload } from "../../lib/api.js";
import { useEffect, useReducer } from "../../lib/ui.js";
import { leftOutCount } from "../../parts/left_out.js";

const UPLOADS = 4; // files at a time; browsers have six connections
const ENTRIES_MAX = 100000; // as of a draft
const PROBLEMS_MAX = 100; // files that could not be read whose names are kept
const SEND_MS = 600000; // the peer counts up to a million files
const TELL_MS = 100; // between two looks at the progress
const TURN_MS = 15; // of reading folders, before the page gets a turn

const listeners = new Set();
const progressListeners = new Set();
const blank = { to: [], entries: [], paths: [], text: null, note: "", expires: 7 * 86400, exclude: "", hidden: false };
const idle = { phase: "idle", checked: null, problems: [], error: null, reading: 0, isCut: false };

let state = { ...blank, ...idle };
let later = []; // what waits until the present offer is made
let abort = null; // of the upload
let draft = null; // that was uploaded and not sent
let tellTimer = 0;
let progress = null; // of the upload: {bytes, total, files, all, began}

/** Return the state, and render again when it changes. */
export function useCompose() {
  const [, render] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    listeners.add(render);
    render();
    return () => listeners.delete(render);
  }, []);
  return state;
}

/** Return the progress of the upload, and render again when it changes; so the rest of the view does not have to. */
export function useProgress() {
  const [, render] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    progressListeners.add(render);
    return () => progressListeners.delete(render);
  }, []);
  return progress;
}

/** Changes the state. */
export const compose = {
  set: (fields) => change(fields),
  choose: (name) => whenIdle(() => change({ to: [...new Set([...state.to, name])] })),
  toggle: (name) => change({ to: state.to.includes(name) ? state.to.filter((one) => one !== name) : [...state.to, name] }),
  clear() {
    forgetDraft();
    change({ ...blank, to: state.to, ...idle });
  },

  /** Add files of the browser, as an input element has them. */
  addFiles(files) {
    add([...files].map((file) => ({ path: file.webkitRelativePath || file.name, file })), false);
  },

  /** Add dropped files and folders; folders are read to their ends. */
  async addRoots(roots) {
    const found = [];
    change({ reading: state.reading + 1, error: null });
    try {
      for (const root of roots) {
        if (root instanceof File) found.push({ path: root.name || "file", file: root });
        else await walk(root, "", found);
      }
    } catch (error) {
      change({ error: new ApiError({ error: "CannotRead", message: String(error?.message ?? error) }) });
    } finally {
      change({ reading: state.reading - 1 });
    }
    whenIdle(() => add(found, found.length >= ENTRIES_MAX));
  },

  /** Add files and folders of the peer's machine: {path, kind, bytes}. */
  addPaths(paths) {
    forgetDraft();
    const known = new Set(state.paths.map((one) => one.path));
    change({ paths: [...state.paths, ...paths.filter((one) => !known.has(one.path))], text: null });
  },

  /** Use a text in place of files, behind what was typed already. */
  addText(text) {
    whenIdle(() => addText(text));
  },

  /** Remove what has this name at the top. */
  remove(name) {
    forgetDraft();
    change({ entries: state.entries.filter((one) => topOf(one.path) !== name), isCut: false });
  },
  removePath: (path) => change({ paths: state.paths.filter((one) => one.path !== path) }),

  /** Upload, count and offer. `isSure` if the user has seen what is left out. */
  async send(isSure = false) {
    if (state.phase !== "idle" && state.phase !== "asking") return null;
    abort = new AbortController();
    change({ error: null });
    try {
      return await attempt(isSure);
    } catch (error) {
      change({ phase: "idle", checked: null, error: error.name === "AbortError" ? null : error });
      return null;
    }
  },

  /** Break the upload off, or go back to the form. */
  cancel() {
    abort?.abort();
    if (state.phase === "asking") change({ phase: "idle", checked: null });
  },
};

/** Return the files and folders at the top of what is to be uploaded: {name, kind, file, files, bytes}. */
export function tops(entries) {
  const found = new Map();
  for (const { path, file } of entries) {
    const name = topOf(path);
    const top = found.get(name) ?? { name, kind: file && !path.includes("/") ? "file" : "folder", file: path.includes("/") ? null : file, files: 0, bytes: 0 };
    top.files += file ? 1 : 0;
    top.bytes += file?.size ?? 0;
    found.set(name, top);
  }
  return [...found.values()];
}

async function attempt(isSure) {
  const isReused = draft !== null;
  try {
    await prepare();
    if (!isSure) {
      change({ phase: "checking" });
      const checked = await ask("send", { ...request(), check: true }, { timeoutMs: SEND_MS });
      if (leftOutCount(checked.left_out) > 0 || state.problems.length > 0) {
        change({ phase: "asking", checked });
        return null;
      }
    }
    change({ phase: "offering" });
    const offer = await ask("send", request(), { timeoutMs: SEND_MS });
    draft = null;
    change({ ...blank, ...idle });
    return offer;
  } catch (error) {
    if (error.error !== "WrongUsage" || draft === null) throw error;
    discardDraft();
    if (!isReused) throw error;
    return attempt(isSure); // a restarted peer does not know the draft of before
  }
}

function addText(text) {
  if (state.entries.length + state.paths.length > 0) change({ note: [state.note, text].filter(Boolean).join("\n").slice(0, 1000) });
  else change({ text: (state.text ?? "") + text });
}

// What is dropped while an offer is being made is for the next one: it must neither join that offer nor add a person to it.
function whenIdle(work) {
  if (state.phase === "idle") work();
  else later.push(work);
}

const topOf = (path) => path.split("/", 1)[0];

function change(fields) {
  state = { ...state, ...fields };
  if (state.phase === "idle" && later.length > 0) {
    const works = later;
    later = [];
    for (const work of works) work();
  }
  const isUnsaved = state.entries.length > 0 || Boolean(state.text) || state.phase !== "idle";
  document.documentElement.toggleAttribute("data-unsaved", isUnsaved); // then the page is not loaded again by itself
  for (const tell of listeners) tell();
}

function add(found, isCut) {
  forgetDraft();
  const taken = new Set(state.entries.map((one) => topOf(one.path)));
  const names = new Map(); // from the name of a top to one that is free
  const added = found.map(({ path, file }) => {
    const top = topOf(path);
    if (!names.has(top)) names.set(top, free(top, taken));
    return { path: names.get(top) + path.slice(top.length), file };
  });
  const all = [...state.entries, ...added];
  change({ entries: all.slice(0, ENTRIES_MAX), isCut: state.isCut || isCut || all.length > ENTRIES_MAX, text: null, error: null });
}

function free(name, taken) {
  const dot = name.lastIndexOf(".");
  const [stem, ending] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
  for (let number = 1; ; number += 1) {
    const one = number === 1 ? name : `${stem} (${number})${ending}`;
    if (!taken.has(one)) return one;
  }
}

let turn = 0; // when the present one began

// The browser answers within one task for as long as somebody asks on.
async function giveTurn() {
  if (performance.now() - turn < TURN_MS) return;
  await new Promise((resolve) => setTimeout(resolve));
  turn = performance.now();
}

async function walk(entry, above, found) {
  if (found.length >= ENTRIES_MAX) return;
  const path = above + entry.name;
  if (entry.isFile) {
    found.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
    return;
  }
  const reader = entry.createReader();
  let count = 0;
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // up to 100 at a time
    if (some.length === 0) break;
    count += some.length;
    for (const one of some) {
      await giveTurn();
      await walk(one, `${path}/`, found);
    }
  }
  if (count === 0) found.push({ path, file: null });
}

function request() {
  const { to, text, note, expires, paths, exclude, hidden } = state;
  const patterns = exclude.split("\n").map((line) => line.trim()).filter(Boolean);
  const common = { to, note, expires_s: expires };
  if (text !== null) return { ...common, text };
  return { ...common, draft: draft ?? undefined, paths: paths.map((one) => one.path), exclude: patterns, hidden };
}

// Upload what is not uploaded yet.
async function prepare() {
  const { entries } = state;
  if (entries.length === 0 || draft !== null) return;
  const total = entries.reduce((sum, { file }) => sum + (file?.size ?? 0), 0);
  const counts = { bytes: 0, total, files: 0, all: entries.length, began: performance.now() };
  progress = counts;
  change({ phase: "uploading", problems: [] });
  const begun = (await ask("draft_begin", { files: entries.length, bytes: total })).draft;
  try {
    await uploadAll(begun, entries, counts);
  } catch (error) {
    abort.abort();
    ask("draft_discard", { draft: begun }).catch(() => {});
    throw error;
  }
  draft = begun;
}

async function uploadAll(id, entries, counts) {
  let next = 0;
  const running = new Map(); // from an entry to the bytes that have gone
  const tell = () => {
    tellTimer ||= setTimeout(() => {
      tellTimer = 0;
      progress = { ...counts, bytes: counts.bytes + [...running.values()].reduce((sum, size) => sum + size, 0) };
      for (const render of progressListeners) render();
    }, TELL_MS);
  };
  const work = async () => {
    while (next < entries.length) {
      const entry = entries[next++];
      await uploadOne(id, entry, (size) => {
        running.set(entry, size);
        tell();
      });
      running.delete(entry);
      counts.bytes += entry.file?.size ?? 0;
      counts.files += 1;
      tell();
    }
  };
  await Promise.all(Array.from({ length: Math.min(UPLOADS, entries.length) }, work));
  if (state.problems.length === entries.length) throw state.problems[0].reason ?? new ApiError({ error: "CannotRead", message: state.problems[0].path });
}

// One file that cannot be read or named is left out and said; a peer that cannot take more ends the upload.
async function uploadOne(id, { path, file }, onProgress) {
  abort.signal.throwIfAborted();
  let problem = null;
  try {
    const encoded = path.split("/").map(encodeURIComponent).join("/");
    await upload(`draft/${id}/${encoded}${file ? "" : "/"}`, file ?? new Blob([]), onProgress, abort.signal);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const isRefused = error instanceof ApiError && (error.exitCode === 2 || error.status === 400);
    if (error instanceof ApiError && !isRefused && !(error.isLost && file && !(await isReadable(file)))) throw error;
    problem = { path, reason: isRefused ? error : null };
  }
  if (problem && state.problems.length < PROBLEMS_MAX) change({ problems: [...state.problems, problem] });
}

// A file that is gone, or may not be read, fails like a lost connection.
const isReadable = (file) => file.slice(0, 1).arrayBuffer().then(() => true, () => false);

function forgetDraft() {
  discardDraft();
  if (state.phase === "asking") change({ phase: "idle", checked: null, problems: [] });
}

function discardDraft() {
  if (draft !== null) ask("draft_discard", { draft }).catch(() => {});
  draft = null;
}

addEventListener("beforeunload", (event) => {
  if (state.phase === "uploading") event.preventDefault();
});
