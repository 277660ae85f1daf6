/** A transfer in words: its title, how far it is, and why it does not go on. */

import { ago, bytes, date, duration, hasText, rate, rich, t } from "../../lib/texts.js";
import { peek } from "../../lib/store.js";
import { html } from "../../lib/ui.js";
import { Name } from "../../parts/index.js";

const firstOf = (job) => job.paths[0]?.split("/").at(-1) || job.title || t("transfers.unknown");
const othersOf = (job) => Math.max(0, job.paths.length - 1) + job.more_paths;

/** Return what is transferred, in a few words for a sentence: the last part of its first path, and how many more there are. */
export const titleOf = (job) => (othersOf(job) > 0 ? t("transfers.and_more", { title: firstOf(job), n: othersOf(job) }) : firstOf(job));

/** The same, to be shown. */
export function Title({ job }) {
  const first = html`<${Name}>${firstOf(job)}<//>`;
  return othersOf(job) > 0 ? rich("transfers.and_more", { title: first, n: othersOf(job) }) : first;
}

/** Return the reason for the state in a sentence, empty if there is none. `place` is that in the queue. */
export function reasonOf(job, place) {
  if (!job.why) return "";
  if (job.why === "queue") return t("transfers.why.queue", { n: place ?? 1 });
  const person = peek().people.map.get(job.name); // if the list of people was read
  if (job.why === "offline" && person?.online === false && person.since) return t("transfers.offline_since", { name: job.name, ago: ago(person.since) });
  const key = `transfers.why.${job.why}`;
  return t(hasText(key) ? key : "transfers.why.other", { name: job.name, n: job.files_failed });
}

/** Return when a waiting transfer is tried again, empty if that is not known. */
export function nextTry(job, now) {
  if (!job.retry_at) return "";
  const seconds = job.retry_at - now / 1000;
  return seconds > 1 ? t("transfers.next_try", { time: duration(seconds) }) : t("transfers.next_try_now");
}

/** Return the parts of the line below the title. */
export function factsOf(job, place, now) {
  switch (job.state) {
    case "running":
      return [...amounts(job), job.rate > 0 && rate(job.rate), job.left_s !== null && job.left_s !== undefined && t("transfers.left", { time: duration(job.left_s) }), reasonOf(job, place)].filter(Boolean);
    case "waiting":
      return [reasonOf(job, place), nextTry(job, now), ...(job.bytes_done > 0 ? amounts(job) : [])].filter(Boolean);
    case "paused":
      return [t("transfers.states.paused"), ...amounts(job)];
    case "done":
      return [job.files > 1 && t("transfers.files", { n: job.files_done }), bytes(job.bytes), job.folder && rich("transfers.in_folder", { folder: html`<${Name}>${job.folder}<//>` }), ago(job.updated, now)].filter(Boolean);
    default:
      return [t(`transfers.states.${job.state}`), reasonOf(job, place), ago(job.updated, now)].filter(Boolean);
  }
}

function amounts(job) {
  if (!job.bytes && !job.files) return [];
  const size = job.bytes_done < job.bytes ? t("transfers.of", { done: bytes(job.bytes_done), all: bytes(job.bytes) }) : bytes(job.bytes);
  const knowsFiles = job.kind !== "offer" || job.direction === "down"; // people tell of bytes, until they have all
  return [size, knowsFiles && job.files > 1 && t("transfers.files_of", { done: job.files_done, n: job.files })].filter(Boolean);
}

/** Return the part that has arrived, 0 to 1; null if it is not known how much there is. */
export function partOf(job) {
  if (job.state === "done") return 1;
  if (job.kind === "upload" && job.files === 0) return null; // somebody looks at a file, and does not say how much they want
  if (job.bytes > 0) return job.bytes_done / job.bytes;
  return job.files > 0 ? job.files_done / job.files : null;
}

/** Return a Unix time in words. */
export const timeOf = (time, now) => `${date(time)} (${ago(time, now)})`;
