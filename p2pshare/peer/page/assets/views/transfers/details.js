/** The details of one transfer in a dialog, kept up to date while it is open: paths, folder, reason, and the files that failed. */

import { ask } from "../../lib/api.js";
import { href } from "../../lib/route.js";
import { useStore } from "../../lib/store.js";
import { bytes, errorText, isForTerminals, number, t } from "../../lib/texts.js";
import { html, useEffect, useNow, useState } from "../../lib/ui.js";
import { Button, CopyButton, Dialog, Name, Notice, Progress, show } from "../../parts/index.js";
import { ICONS, perform } from "./actions.js";
import { Title, nextTry, partOf, reasonOf, timeOf, titleOf } from "./words.js";

const KEYS = new Set(["key_changed", "other_key"]);

/** Open the details of a transfer. */
export const showDetails = (id) => show((close) => html`<${Details} id=${id} onClose=${close} />`);

function Details({ id, onClose }) {
  const job = useStore((store) => store.jobs.map.get(id));
  const now = useNow(5000);
  const [failed, setFailed] = useState({ failures: [], more_failures: 0 });
  const [problem, setProblem] = useState(null);
  const count = job?.files_failed ?? 0;
  useEffect(() => {
    if (count === 0) return setFailed({ failures: [], more_failures: 0 });
    ask("job", { id }).then(setFailed, setProblem);
    return undefined;
  }, [id, count, job?.state]);
  useEffect(() => {
    if (!job) onClose();
  }, [job]);
  useEffect(() => {
    addEventListener("popstate", onClose);
    return () => removeEventListener("popstate", onClose);
  }, []);
  if (!job) return null;
  const act = (action) => {
    if (action === "remove") onClose();
    perform(job, action);
  };
  const reason = reasonOf(job);
  const knowsFiles = job.kind !== "offer" || job.direction === "down" || job.state === "done";
  return html`<${Dialog} title=${html`<${Title} job=${job} />`} className="transfer-details" wide onClose=${onClose} actions=${html`
    ${job.can.filter((action) => action in ICONS).map((action) => html`<${Button} key=${action} icon=${ICONS[action]} onClick=${() => act(action)}>${t(`transfers.verbs.${action}`)}<//>`)}
    <${Button} kind="primary" onClick=${onClose}>${t("common.close")}<//>`}>
    ${(job.state === "running" || job.state === "paused") && html`<${Progress} value=${partOf(job)} label=${t("transfers.progress_of", { title: titleOf(job) })} state=${job.state} />`}
    ${reason && html`<${Notice} kind=${job.state === "failed" ? "bad" : "info"}><p>${reason}${job.state === "waiting" && job.retry_at ? ` · ${nextTry(job, now)}` : ""}</p>
      ${KEYS.has(job.why) && html`<p><a href=${href("people", job.name)} onClick=${onClose}>${t("transfers.details.compare_keys")}</a></p>`}
      ${job.why_text && !isForTerminals(job.why_text) && html`<p class="hint" dir="ltr" lang="en">${job.why_text}</p>`}<//>`}
    ${problem && html`<${Notice} kind="warning">${errorText(problem)}<//>`}
    <dl class="facts">
      <dt>${t("transfers.details.state")}</dt><dd>${t(`transfers.states.${job.state}`)}</dd>
      <dt>${t(`transfers.details.${job.direction}`)}</dt><dd><a href=${href("people", job.name)} onClick=${onClose}><${Name}>${job.name}<//></a></dd>
      <dt>${t("transfers.details.kind")}</dt><dd>${t(`transfers.kinds.${job.kind}`)}${job.offer && html` – <a href=${href(job.direction === "down" ? "inbox" : "send")} onClick=${onClose}>${t(job.direction === "down" ? "transfers.details.in_inbox" : "transfers.details.in_sent")}</a>`}</dd>
      <dt>${t("transfers.details.what")}</dt><dd><ul class="transfer-paths">${job.paths.map((path) => html`<li key=${path}><${Name}>${path}<//></li>`)}</ul>
        ${job.more_paths > 0 && html`<p class="hint">${t("transfers.details.more_paths", { n: job.more_paths })}</p>`}</dd>
      ${job.folder && html`<dt>${t("transfers.details.folder")}</dt><dd class="transfer-folder"><code><${Name}>${job.folder}<//></code> <${CopyButton} text=${job.folder} /></dd>`}
      ${job.files > 0 && html`<dt>${t("transfers.details.size")}</dt><dd>${t("transfers.of", { done: bytes(job.bytes_done), all: bytes(job.bytes) })}</dd>
        <dt>${t("transfers.details.files")}</dt><dd>${knowsFiles ? t("transfers.files_of", { done: job.files_done, n: job.files }) : number(job.files)}${job.files_failed > 0 && ` · ${t("transfers.details.failed_count", { n: job.files_failed })}`}</dd>`}
      ${job.path && html`<dt>${t("transfers.details.path")}</dt><dd>${t(`people.paths.${job.path.kind}`)} <span class="hint" dir="ltr">${[job.path.carrier, job.path.address].filter(Boolean).join(" ")}</span></dd>`}
      <dt>${t("transfers.details.created")}</dt><dd>${timeOf(job.created, now)}</dd>
      ${job.updated > job.created && html`<dt>${t("transfers.details.updated")}</dt><dd>${timeOf(job.updated, now)}</dd>`}
    </dl>
    ${failed.failures.length > 0 && html`<h3>${t("transfers.details.failed")}</h3>
      <ul class="transfer-failures">${failed.failures.map((each, index) => html`<li key=${index}><${Name}>${each.path}<//><p class="hint">${reasonOf({ ...job, why: each.why })} ${!isForTerminals(each.why_text) && html`<span dir="ltr" lang="en">${each.why_text}</span>`}</p></li>`)}</ul>
      ${failed.more_failures > 0 && html`<p class="hint">${t("transfers.details.more_failed", { n: number(failed.more_failures) })}</p>`}`}
  <//>`;
}
