/**
 * Transfers: everything that is on its way in both directions, in groups: running, waiting, paused, over.
 *
 * Keyboard: arrow keys move between the rows of a group, Enter opens the details, P pauses and goes on, R tries again, Delete cancels or removes.
 * A screen reader hears what changes (the end of a transfer, another path), and never the progress of each tick.
 */

import { ask } from "../lib/api.js";
import { refresh, useCollection } from "../lib/store.js";
import { bytes, errorText, t } from "../lib/texts.js";
import { href } from "../lib/route.js";
import { html, PHONE, useCallback, useEffect, useId, useMedia, useMemo, useNow, useRef, useState } from "../lib/ui.js";
import { VirtualList } from "../lib/virtual.js";
import { Button, Empty, Loading, Notice, Page, announce, toast } from "../parts/index.js";
import { isOver, perform, pressed, useFocus, useNews } from "./transfers/actions.js";
import { showDetails } from "./transfers/details.js";
import { Graph } from "./transfers/graph.js";
import { Row } from "./transfers/row.js";

const ROW = 84; // px
const ROW_PHONE = 112;
const MANY = 200; // transfers
const CALM_MS = 250;
const idOf = (job) => job.id;
const GROUPS = ["running", "waiting", "paused", "over"];

export default function Transfers() {
  const { rows: latest, state, error } = useCollection("jobs");
  const rows = useCalm(latest);
  const isPhone = useMedia(PHONE);
  const now = useNow(5000);
  const groups = useMemo(() => grouped(rows), [rows]);
  const places = useSame(placesOf(groups.waiting));
  const counts = GROUPS.map((name) => groups[name].length).join(" ");
  useNews(rows);
  useFocus(rows);

  const all = async (action, done) => {
    try {
      const { count } = await ask(action);
      announce(t(done, { n: count }));
      refresh("jobs");
    } catch (problem) {
      toast(errorText(problem), { kind: "bad" });
    }
  };
  const actions = html`
    ${rows.some((job) => job.can.includes("pause")) && html`<${Button} icon="pause" onClick=${() => all("jobs_pause", "transfers.all_paused")}>${t("transfers.pause_all")}<//>`}
    ${rows.some((job) => job.can.includes("go_on")) && html`<${Button} icon="play" onClick=${() => all("jobs_go_on", "transfers.all_gone_on")}>${t("transfers.go_on_all")}<//>`}
    ${groups.over.length > 0 && html`<${Button} icon="check" onClick=${() => all("jobs_clear", "transfers.all_cleared")}>${t("transfers.clear")}<//>`}`;

  return html`<${Page} title=${t("transfers.title")} summary=${state === "ready" ? summary(groups) : ""} actions=${actions} className="transfers">
    <${Graph} />
    ${error && html`<${Notice} kind="warning">${errorText(error)}<//>`}
    ${state === "loading" && html`<${Loading} />`}
    ${state !== "loading" && rows.length === 0 && html`<${Nothing} />`}
    ${GROUPS.filter((name) => groups[name].length > 0).map((name) => html`<${Group} key=${name} name=${name} jobs=${groups[name]} places=${places} now=${now} isPhone=${isPhone} moved=${counts} />`)}
  <//>`;
}

function Group({ name, jobs, places, now, isPhone, moved }) {
  const id = useId();
  const renderRow = useCallback( // a stable function, so that only rows that have changed are rendered again
    (job) => html`<${Row} job=${job} place=${places.get(job.id)} now=${now} onAction=${(action) => perform(job, action)} onDetails=${() => showDetails(job.id)} />`,
    [places, now],
  );
  return html`<section class="transfers-group" data-group=${name} aria-labelledby=${id}>
    <h2 id=${id}>${t(`transfers.groups.${name}`, { n: jobs.length })}</h2>
    <div class="card transfers-list">
      <${VirtualList} items=${jobs} keyOf=${idOf} rowHeight=${isPhone ? ROW_PHONE : ROW} role="list" labelledBy=${id} moved=${moved}
        onOpen=${(job) => showDetails(job.id)} onKeyDown=${(event, index) => pressed(event, jobs[index])}
        renderRow=${renderRow} />
    </div>
  </section>`;
}

function Nothing() {
  return html`<${Empty} icon="transfers" title=${t("transfers.nothing")} actions=${html`<${Button} href=${href("people")} icon="people">${t("transfers.to_people")}<//>`}>${t("transfers.nothing_text")}<//>`;
}

function summary(groups) {
  const parts = ["running", "waiting", "paused"].filter((name) => groups[name].length > 0).map((name) => t(`transfers.counts.${name}`, { n: groups[name].length }));
  const left = groups.running.reduce((sum, job) => sum + (job.direction === "down" ? Math.max(0, job.bytes - job.bytes_done) : 0), 0);
  if (left > 0) parts.push(t("transfers.still", { size: bytes(left) }));
  return parts.join(" · ") || t("transfers.idle");
}

function grouped(rows) {
  const groups = { running: [], waiting: [], paused: [], over: [] };
  for (const job of rows) groups[isOver(job) ? "over" : job.state].push(job);
  const byAge = (one, other) => one.created - other.created || (one.id < other.id ? -1 : 1);
  groups.running.sort((one, other) => one.direction.localeCompare(other.direction) || byAge(one, other));
  groups.waiting.sort((one, other) => (one.turn ?? Infinity) - (other.turn ?? Infinity) || byAge(one, other));
  groups.paused.sort(byAge);
  groups.over.sort((one, other) => other.updated - one.updated || byAge(one, other));
  return groups;
}

// Many rows, of which some change all the time, are shown a few times per second only.
function useCalm(rows) {
  const [shown, setShown] = useState(rows);
  const latest = useRef(rows);
  const timer = useRef(0);
  latest.current = rows;
  useEffect(() => {
    timer.current ||= setTimeout(() => {
      timer.current = 0;
      setShown(latest.current);
    }, CALM_MS);
  }, [rows]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return rows.length > MANY ? shown : rows;
}

// The map of the render before, as long as it is equal.
function useSame(map) {
  const last = useRef(map);
  const isEqual = last.current.size === map.size && [...map].every(([key, value]) => last.current.get(key) === value);
  if (!isEqual) last.current = map;
  return last.current;
}

// The place in the queue of each transfer that waits for its turn.
function placesOf(waiting) {
  const places = new Map();
  for (const job of waiting) if (job.why === "queue") places.set(job.id, places.size + 1);
  return places;
}
