/** The offers that were made, the newest first: the state at each person, cancel, and send again. */

import { ask } from "../../lib/api.js";
import { useCollection } from "../../lib/store.js";
import { ago, bytes, date, enumeration, errorText, hasText, peerText, percent, rate, t } from "../../lib/texts.js";
import { html, useMemo, useNow, useState } from "../../lib/ui.js";
import {
  Avatar, Button, Confirm, Dialog, Empty, Icon, LeftOut, Lines, Loading, Menu, Name, Progress, Size, Tag, leftOutCount, show, toast,
} from "../../parts/index.js";
import { PeoplePicker } from "../../parts/people_picker.js";
import { clear } from "./clear.js";

const SHOWN = 20; // offers before "show more"
const SEND_MS = 600000; // the peer counts up to a million files
const FINAL = new Set(["declined", "done", "failed", "refused", "expired", "cancelled"]);
const UNMET = new Set(["declined", "failed", "refused", "expired"]); // after which the same may be sent again
const KINDS = { waiting: "plain", delivered: "plain", accepted: "accent", done: "good", declined: "warning", failed: "bad", refused: "bad", expired: "warning", cancelled: "plain" };

export function Sent() {
  const { rows, state } = useCollection("offers");
  const [shown, setShown] = useState(SHOWN);
  const now = useNow();
  const offers = useMemo(() => rows.toSorted((one, other) => other.created - one.created || (one.id < other.id ? -1 : 1)), [rows]);
  return html`<section class="sent" aria-labelledby="sent-title"><div class="list-head"><h2 id="sent-title" tabindex="-1">${t("send.sent")}</h2>
      ${offers.some((offer) => !isOpen(offer)) && html`<${Button} icon="check" onClick=${() => clear("offers_clear")}>${t("inbox.clear")}<//>`}</div>
    ${state === "loading" ? html`<${Loading} />` : offers.length === 0 ? html`<div class="card"><${Empty} icon="send" title=${t("send.nothing_sent")}>${t("send.nothing_sent_text")}<//></div>`
      : html`<ul class="sent-list">${offers.slice(0, shown).map((offer) => html`<${Offer} key=${offer.id} offer=${offer} now=${now} />`)}</ul>`}
    ${offers.length > shown && html`<p><${Button} onClick=${() => setShown(shown + SHOWN)}>${t("send.show_more", { n: offers.length - shown })}<//></p>`}
  </section>`;
}

const isOpen = (offer) => offer.to.some((one) => !FINAL.has(one.state));

function Offer({ offer, now }) {
  const cancel = () => show((close) => html`<${Confirm} title=${t("send.cancel_title")} confirm=${t("send.cancel")} onClose=${close}
    onConfirm=${() => run(ask("cancel", { id: offer.id }))}><p>${t("send.cancel_text")}</p><//>`);
  const again = () => show((close) => html`<${Again} offer=${offer} onClose=${close} />`);
  const menu = [
    offer.again && { label: t("send.again"), icon: "retry", onClick: again },
    isOpen(offer) ? { label: t("send.cancel"), icon: "close", kind: "danger", onClick: cancel } : { label: t("inbox.remove"), icon: "trash", onClick: () => clear("offers_clear", offer.id) },
  ].filter(Boolean);
  const missing = leftOutCount(offer.left_out);
  return html`<li class="card sent-offer">
    <div class="sent-head"><span class="sent-icon"><${Icon} name=${offer.text ? "text" : offer.files > 1 || offer.folders > 0 ? "folder" : "file"} /></span>
      <div class="sent-title"><h3><${Items} offer=${offer} /></h3>
        <p class="hint"><span title=${date(offer.created)}>${ago(offer.created, now)}</span>${!offer.text && html` · ${t("send.files", { n: offer.files })}`} · <${Size} count=${offer.bytes} />${isOpen(offer) && html` · ${t("send.until", { date: date(offer.expires) })}`}</p></div>
      <${Menu} label=${t("send.actions")} items=${menu} /></div>
    ${offer.note && html`<p class="note"><${Lines}>${offer.note}<//></p>`}
    ${missing > 0 && html`<details class="sent-left"><summary>${t("send.left_out", { n: missing })}</summary><${LeftOut} leftOut=${offer.left_out} /></details>`}
    ${!offer.again && offer.to.some((one) => UNMET.has(one.state)) && html`<p class="hint">${t("send.copy_gone")}</p>`}
    <ul class="sent-to">${offer.to.map((one) => html`<${Recipient} key=${one.name} to=${one} offer=${offer} />`)}</ul>
  </li>`;
}

/** The names at the top of an offer. */
export function Items({ offer }) {
  if (offer.text) return t("send.a_text");
  const names = offer.items.slice(0, 3);
  const more = offer.items.length - names.length + offer.more_items;
  return html`${names.map((item, index) => html`${index > 0 && t("common.comma")}<${Name} key=${item.name}>${item.name}<//>`)}${more > 0 && html` ${t("send.and_more", { n: more })}`}`;
}

function Recipient({ to, offer }) {
  const isRunning = to.state === "accepted";
  const why = reason(to);
  return html`<li class="recipient"><${Avatar} name=${to.name} size="s" presence=${FINAL.has(to.state) ? undefined : to.online === null ? "unknown" : to.online ? "online" : "offline"} />
    <span class="recipient-name"><${Name}>${to.name}<//></span>
    <span class="recipient-state"><${Tag} kind=${KINDS[to.state] ?? "plain"} icon=${to.state === "done" ? "check" : undefined}>${hasText(`send.states.${to.state}`) ? t(`send.states.${to.state}`) : to.state}<//></span>
    ${isRunning && html`<span class="recipient-progress"><${Progress} value=${offer.bytes > 0 ? to.bytes_done / offer.bytes : null} label=${t("send.progress", { name: to.name })} />
      <span class="hint">${percent(offer.bytes > 0 ? to.bytes_done / offer.bytes : 0)}${to.rate > 0 && html` · ${rate(to.rate)}`}</span></span>`}
    ${why && html`<span class="recipient-why hint">${why}</span>`}</li>`;
}

function reason(to) {
  if (to.state === "waiting" && to.online === false) return t("send.why_offline");
  if (!to.why) return "";
  if (hasText(`send.why.${to.why}`)) return t(`send.why.${to.why}`);
  const told = to.state === "waiting" ? peerText(to.why) : to.why;
  return html`${to.state === "waiting" && t("send.why_waiting")}${told && html` <${Name}>${told}<//>`}`;
}

function Again({ offer, onClose }) {
  const [names, setNames] = useState(offer.to.filter((one) => one.state !== "done").map((one) => one.name));
  const toggle = (name) => setNames(names.includes(name) ? names.filter((one) => one !== name) : [...names, name]);
  const [checked, setChecked] = useState(null); // what is left out now, which the user has seen
  const [isBusy, setBusy] = useState(false);
  const send = async () => {
    const request = { again: offer.id, to: names, note: offer.note };
    setBusy(true);
    if (!checked) {
      const found = await run(ask("send", { ...request, check: true }, { timeoutMs: SEND_MS }));
      if (!found || leftOutCount(found.left_out) > 0) {
        setChecked(found);
        setBusy(false);
        return;
      }
    }
    const made = await run(ask("send", request, { timeoutMs: SEND_MS }));
    setBusy(false);
    if (!made) return;
    toast(t("send.offered", { names: enumeration(names) }), { kind: "good" });
    onClose();
  };
  return html`<${Dialog} title=${t("send.again_title")} onClose=${onClose} actions=${html`
    <${Button} onClick=${onClose}>${t("common.cancel")}<//><${Button} kind="primary" icon="send" busy=${isBusy} disabled=${names.length === 0} onClick=${send}>${checked ? t("send.send_anyway") : t("send.send")}<//>`}>
    <p class="again-what"><${Items} offer=${offer} /> · ${bytes(offer.bytes)}</p><p class="hint">${t("send.again_text")}</p>
    ${checked && html`<div role="alert"><p>${t("send.would_send", { n: checked.files, size: bytes(checked.bytes) })}</p><${LeftOut} leftOut=${checked.left_out} /></div>`}
    <${PeoplePicker} label=${t("send.to")} chosen=${names} onToggle=${toggle} /><//>`;
}

async function run(asking) {
  try {
    return await asking; // its event brings the row; the reply may be older than that
  } catch (error) {
    toast(errorText(error), { kind: "bad" });
    return null;
  }
}
