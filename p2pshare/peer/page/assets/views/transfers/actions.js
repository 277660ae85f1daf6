/** What can be done with a transfer, by buttons and by keys; and what a screen reader hears of all of them. */

import { ask } from "../../lib/api.js";
import { peek, refresh } from "../../lib/store.js";
import { errorText, t } from "../../lib/texts.js";
import { html, latinKey, useEffect, useLayoutEffect, useRef } from "../../lib/ui.js";
import { Confirm, announce, show, toast } from "../../parts/index.js";
import { titleOf } from "./words.js";

export const ICONS = { pause: "pause", go_on: "play", retry: "retry", cancel: "close", remove: "trash" };
const FOCUS_MS = 3000; // after an action in which its row keeps the focus, also in another group
let acted = { id: "", at: 0 }; // the transfer of the last action

const NEWS_MAX = 3; // transfers that are announced one by one; of more, their number

/** Return whether a transfer has ended. */
export const isOver = (job) => ["done", "failed", "cancelled"].includes(job.state);

/** Perform an action of `job.can`; one that loses something asks first. */
export function perform(job, action) {
  const losesSomething = action === "cancel" && (job.bytes_done > 0 || job.kind !== "get");
  if (!losesSomething) return run(job, action);
  const text = `transfers.confirm.${job.kind}_${job.direction}`;
  show((close) => html`<${Confirm} title=${t("transfers.confirm.title")} confirm=${t("transfers.confirm.yes")} decline=${t("transfers.confirm.no")} onConfirm=${() => run(job, action)} onClose=${close}>
    <p>${t(text, { title: titleOf(job), name: job.name })}</p><//>`);
  return undefined;
}

async function run(job, action) {
  acted = { id: job.id, at: performance.now() };
  try {
    await ask(`job_${action}`, { id: job.id }); // the new row comes as an event, before the reply
    if (action !== "remove") announce(t(`transfers.done.${action}`, { title: titleOf(job) }));
  } catch (error) {
    toast(errorText(error), { kind: "bad" });
    refresh("jobs");
  }
}

/** Act on a key that was pressed on the row of a transfer. */
export function pressed(event, job) {
  if (event.ctrlKey || event.metaKey || event.altKey || !job) return;
  const key = latinKey(event);
  const wanted = { p: ["pause", "go_on"], " ": ["pause", "go_on"], r: ["retry"], delete: ["cancel", "remove"], backspace: ["cancel", "remove"] }[key] ?? [];
  const action = wanted.find((one) => job.can.includes(one));
  if (wanted.length === 0) return;
  event.preventDefault();
  if (action) perform(job, action);
}

/** Give the focus back to the row of the last action, which has moved to another group, or to the heading if the row is gone. */
export function useFocus(rows) {
  useLayoutEffect(() => {
    if (performance.now() - acted.at > FOCUS_MS || document.activeElement !== document.body) return;
    const row = document.querySelector(`[data-job="${CSS.escape(acted.id)}"]`)?.closest("[data-row]");
    (row ?? document.querySelector("#main h1"))?.focus({ preventScroll: true });
    row?.click(); // makes it the active row of its list
  }, [rows]);
}

/** Announce transfers that have ended, wait, or take another path, since the rows before. */
export function useNews(rows) {
  const known = useRef(null);
  useEffect(() => {
    const before = known.current;
    known.current = new Map(rows.map((job) => [job.id, { state: job.state, path: job.path ?? before?.get(job.id)?.path }]));
    if (before === null || before.size === 0 || peek().jobs.state !== "ready") return;
    const news = rows.map((job) => newsOf(job, before.get(job.id))).filter(Boolean);
    if (news.length > NEWS_MAX) announce(t("transfers.news.many", { n: news.length }));
    else if (news.length > 0) announce(news.join(" "));
  }, [rows]);
}

function newsOf(job, before) {
  if (!before) return null;
  const values = { title: titleOf(job), name: job.name };
  if (job.state !== before.state && ["done", "failed"].includes(job.state)) return t(`transfers.news.${job.state}`, values);
  if (job.state === "waiting" && before.state === "running") return t("transfers.news.waiting", values);
  if (job.state !== "running" || !job.path || !before.path) return null;
  if (job.path.kind !== before.path.kind) return t(`transfers.news.path_${job.path.kind}`, values);
  return job.path.carrier === before.path.carrier ? null : t("transfers.news.carrier", { ...values, carrier: job.path.carrier.toUpperCase() });
}
