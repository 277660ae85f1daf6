/**
 * Requests to the peer. `ask` performs one action of the control protocol; everything else here is the session and URLs.
 *
 * The cookie of the session is sent by the browser. Requests that change something also carry the CSRF token, which only a page of the peer
 * itself can read.
 */

const ROOT = "/api/v1/";
const REPLY_MS = 60000; // for one action; `send` and jobs answer at once, slow peers need up to 40 s
const COMMAND = "p2pshare.command"; // where the browser keeps the command that opens this page
const PAGES_MAX = 1000; // of one list

let csrf = "";
const listeners = new Set();

/** A request that failed: class of the error, a sentence for people, exit code of the verb, HTTP status (0: no reply). */
export class ApiError extends Error {
  constructor({ error, message, exitCode = 1, status = 0, problem = {} }) {
    super(message);
    this.name = "ApiError";
    this.error = error;
    this.exitCode = exitCode;
    this.status = status;
    this.problem = problem;
  }

  /** Whether the peer itself did not answer. */
  get isLost() {
    return this.status === 0 && this.error === "NoReply";
  }
}

/** Perform an action with its fields, and return the fields of the reply. `options`: `signal`, `timeoutMs`. */
export async function ask(action, fields = {}, options = {}) {
  return request("POST", `do/${encodeURIComponent(action)}`, { ...options, body: fields });
}

/** Return all rows of an action that answers in pages: askAll("jobs", {}, "jobs", "id"). `options.onPage(reply)` gets each reply. */
export async function askAll(action, fields, rows, key, options = {}) {
  const all = [];
  let after = null;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const reply = await ask(action, after === null ? fields : { ...fields, after }, options);
    options.onPage?.(reply);
    all.push(...reply[rows]);
    if (!reply.more || reply[rows].length === 0) return all;
    after = reply[rows].at(-1)[key];
  }
  return all;
}

/** Return the URL of bytes of a person: url("file" | "preview" | "archive", name, path, {download: 1}). */
export function url(kind, name, path = "", query = {}) {
  const parts = [name, ...path.split("/").filter((part) => part !== "")].map(encodeURIComponent);
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== null && one !== undefined) words.append(key, one);
  }
  const text = words.toString();
  return `${ROOT}${kind}/${parts.join("/")}${text && "?"}${text}`;
}

/** Upload one file with progress, as `PUT`; for drafts: put(`draft/${id}/${encoded}`, file, (bytes) => …). */
export function put(path, body, onProgress = () => {}, signal = undefined) {
  return new Promise((resolve, reject) => {
    const upload = new XMLHttpRequest(); // `fetch` does not tell how much was sent
    upload.open("PUT", ROOT + path);
    upload.setRequestHeader("X-CSRF-Token", csrf);
    upload.setRequestHeader("Content-Type", "application/octet-stream");
    upload.upload.addEventListener("progress", (event) => onProgress(event.loaded));
    upload.addEventListener("load", () => {
      const reply = parse(upload.responseText);
      if (upload.status < 300) resolve(reply ?? {});
      else reject(problemError(upload.status, reply));
    });
    upload.addEventListener("error", () => reject(noReply()));
    upload.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    const stop = () => upload.abort();
    signal?.addEventListener("abort", stop);
    upload.addEventListener("loadend", () => signal?.removeEventListener("abort", stop)); // many files share one signal
    upload.send(body);
  });
}

export const session = {
  /** Return `{name, csrf, program, control, assets}`, or throw an ApiError with status 401. */
  async read() {
    return keep(await request("GET", "session", { isSilent: true, timeoutMs: 8000 }));
  },
  /** Sign in with `{token}` or `{password}`. */
  async begin(proof) {
    return keep(await request("POST", "session", { body: proof, isSilent: true }));
  },
  /** Sign out here, on this browser only. */
  async end() {
    await request("DELETE", "session", {});
    for (const listen of listeners) listen();
  },
  /** Call `fn` when a request tells that the session is over. */
  onEnd(fn) {
    listeners.add(fn);
    return () => listeners.delete(fn);
  },
};

function keep(found) {
  csrf = found.csrf ?? "";
  try {
    if (found.command) localStorage.setItem(COMMAND, found.command);
  } catch { /* a browser that keeps nothing shows the usual command */ }
  return found;
}

/** Return the command that opens this page again, as the peer told it last; or another `verb` for the same peer. */
export function openCommand(verb = "open") {
  try {
    return (localStorage.getItem(COMMAND) ?? "p2pshare open").replace("p2pshare open", `p2pshare ${verb}`);
  } catch {
    return `p2pshare ${verb}`;
  }
}

async function request(method, path, options) {
  try {
    return await requestOnce(method, path, options);
  } catch (error) {
    // Another tab may have begun a new session in this browser, whose CSRF token is another one.
    const before = csrf;
    if (error.status !== 403 || method === "GET" || options.isSilent) throw error;
    await session.read();
    if (csrf === before) throw error;
    return requestOnce(method, path, options);
  }
}

async function requestOnce(method, path, { body, signal, timeoutMs = REPLY_MS, isSilent = false }) {
  const limit = AbortSignal.timeout(timeoutMs);
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let reply, text;
  try {
    reply = await fetch(ROOT + path, {
      method, headers, cache: "no-store", signal: signal ? AbortSignal.any([signal, limit]) : limit,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    text = await reply.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw noReply();
  }
  const found = parse(text);
  if (reply.ok) return found ?? {};
  if (reply.status === 401 && !isSilent) for (const listen of listeners) listen();
  throw problemError(reply.status, found);
}

function parse(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/** Return the error of a reply that is not as wanted; `problem` is its document, or null. */
export function problemError(status, problem) {
  const { error, detail, title, exit_code: exitCode } = problem ?? {};
  return new ApiError({ error: error ?? `Status${status}`, message: detail ?? title ?? `HTTP ${status}`, exitCode, status, problem: problem ?? {} });
}

/** Return the error of a request without a reply. */
export const noReply = () => new ApiError({ error: "NoReply", message: "The peer does not answer.", exitCode: 5 });
