/** Inbox: what others offer, what is being received, and what has arrived, with the place of the files. */

import { ask, url } from "../lib/api.js";
import { noticeState, setNotices } from "../lib/notices.js";
import { href } from "../lib/route.js";
import { useCollection, useStore } from "../lib/store.js";
import { ago, date, duration, errorText, hasText, peerText, percent, rate, t } from "../lib/texts.js";
import { classes, html, useEffect, useMemo, useNow, useState } from "../lib/ui.js";
import { FolderChooser } from "../parts/folder_chooser.js";
import {
  Avatar, Button, CopyButton, Empty, Icon, IconButton, Lines, Loading, Menu, Name, Notice, Page, Progress, Size, Tag, announce, copyText, show, toast,
} from "../parts/index.js";
import { TrustTag, presence } from "./people/marks.js";
import { clear } from "./send/clear.js";

const SHOWN = 20; // offers of each kind before "show more"
const ITEMS_SHOWN = 5; // names of one offer before "show all"
const KINDS = { done: "good", declined: "plain", failed: "bad", refused: "bad", withdrawn: "warning" };
const DONE = { decline_offer: "inbox.states.declined", pause_offer: "inbox.paused" }; // what is announced; otherwise that it is being received
const UNPROVEN = "@lan"; // behind a name that no registry has proven

const wanted = new Set(); // IDs of texts that the user has accepted here, which are shown as soon as they are there

export default function Inbox() {
  const { rows, state, error } = useCollection("inbox");
  const people = useCollection("people");
  const now = useNow();
  const [shown, setShown] = useState(SHOWN);
  const [folder, setFolder] = useState(null); // the usual one
  useEffect(() => void ask("local_folders").then((reply) => setFolder(reply.inbox), () => {}), []);
  const [before, running, after] = useMemo(() => {
    const sorted = rows.toSorted((one, other) => other.received - one.received || (one.id < other.id ? -1 : 1));
    const of = (...states) => sorted.filter((item) => states.includes(item.state));
    return [of("waiting"), of("accepted"), sorted.filter((item) => item.state !== "waiting" && item.state !== "accepted")];
  }, [rows]);
  const hidden = [before, running, after].reduce((sum, list) => sum + Math.max(0, list.length - shown), 0);
  const item = (one) => html`<${Item} key=${one.id} item=${one} person=${people.map.get(one.from)} now=${now} />`;
  const part = (id, title, list, actions) => list.length > 0 && html`<section aria-labelledby=${id}><div class="list-head"><h2 id=${id}>${title}</h2>${actions}</div><ul class="inbox-list">${list.map(item)}</ul></section>`;
  return html`<${Page} title=${t("inbox.title")} summary=${before.length > 0 ? t("inbox.summary", { n: before.length }) : ""} className="inbox" actions=${html`<${Notifications} />`}>
    ${error && html`<${Notice} kind="warning">${errorText(error)}<//>`}
    ${state === "loading" ? html`<${Loading} />` : rows.length === 0 ? html`<div class="card"><${Empty} icon="inbox" title=${t("inbox.empty")}>${t("inbox.empty_text")}<//></div>` : ""}
    ${folder && before.length > 0 && html`<p class="hint inbox-folder">${t("inbox.saves_in")} <code dir="ltr"><${Name}>${folder}<//></code></p>`}
    ${part("inbox-waiting", t("inbox.waiting"), before.slice(0, shown))}
    ${part("inbox-running", t("inbox.running"), running.slice(0, shown))}
    ${part("inbox-earlier", t("inbox.earlier"), after.slice(0, shown), html`<${Button} icon="check" onClick=${() => clear("inbox_clear")}>${t("inbox.clear")}<//>`)}
    ${hidden > 0 && html`<p><${Button} onClick=${() => setShown(shown + SHOWN)}>${t("inbox.show_more", { n: hidden })}<//></p>`}
  <//>`;
}

function Notifications() {
  const [state, setState] = useState(noticeState);
  if (state === "unavailable") return null;
  if (state === "denied") return html`<span class="hint">${t("inbox.notices_denied")}</span>`;
  const toggle = async () => setState(await setNotices(state === "off"));
  return html`<${Button} icon="bell" aria-pressed=${String(state === "on")} onClick=${toggle}>${state === "on" ? t("inbox.notices_off") : t("inbox.notices_on")}<//>`;
}

function Item({ item, person, now }) {
  const isWaiting = item.state === "waiting";
  const isRunning = item.state === "accepted";
  return html`<li class=${classes("card", "inbox-item", item.state)} data-offer=${item.id}>
    <div class="inbox-head"><a href=${href("people", item.from)} class="inbox-face" tabindex="-1" aria-hidden="true"><${Avatar} name=${item.from} presence=${person ? presence(person) : undefined} /></a>
      <div class="inbox-title"><h3><a href=${href("people", item.from)}><${Name}>${item.from}<//></a> <${TrustTag} trust=${person?.trust} />${item.from.endsWith(UNPROVEN) && html`<${Tag} kind="warning">${t("inbox.unproven")}<//>`}</h3>
        <p class="hint"><span title=${date(item.received)}>${ago(item.received, now)}</span>${!item.text && html` · ${t("inbox.files", { n: item.files })}`} · <${Size} count=${item.bytes} />
          ${isWaiting && html` · ${t("inbox.expires", { time: duration(Math.max(60, item.expires - now / 1000)) })}`}</p></div>
      ${!isWaiting && !isRunning && html`<${Tag} kind=${KINDS[item.state] ?? "plain"} icon=${item.state === "done" ? "check" : undefined}>${hasText(`inbox.states.${item.state}`) ? t(`inbox.states.${item.state}`) : item.state}<//><${IconButton} icon="trash" size=${18} label=${t("inbox.remove_of", { name: item.from })} onClick=${() => clear("inbox_clear", item.id)} />`}
    </div>
    ${item.note && html`<p class="note"><${Lines}>${item.note}<//></p>`}
    ${item.text ? html`<p class="inbox-text-sign"><${Icon} name="text" size=${18} />${t("inbox.a_text")}</p>` : html`<${Files} item=${item} />`}
    ${item.why && html`<${Notice} kind=${isWaiting || isRunning ? "warning" : "info"}>${hasText(`inbox.why.${item.why}`) ? t(`inbox.why.${item.why}`) : item.why}<//>`}
    ${isRunning && item.trouble && html`<${Notice} kind="warning"><p>${t("inbox.trouble", { name: item.from })}</p>${peerText(item.trouble) && html`<p class="hint"><${Lines}>${peerText(item.trouble)}<//></p>`}<//>`}
    ${isRunning && html`<${Receiving} item=${item} />`}
    ${item.text && item.state === "done" && html`<${Text} item=${item} />`}
    ${item.saved.length > 0 && html`<${Places} item=${item} />`}
    <${Decision} item=${item} />
  </li>`;
}

function Files({ item }) {
  const [isAll, setAll] = useState(false);
  const names = isAll ? item.items : item.items.slice(0, ITEMS_SHOWN);
  const more = item.items.length - names.length + item.more_items;
  return html`<ul class="inbox-files">${names.map((one) => html`<li key=${one.name}><${Icon} name=${one.kind} size=${18} /><span class="inbox-file"><${Name}>${one.name}<//></span>
      ${one.kind === "folder" && html`<span class="hint">${t("inbox.files", { n: one.files })}</span>`}<${Size} count=${one.bytes} /></li>`)}</ul>
    ${more > 0 && (isAll || item.items.length <= ITEMS_SHOWN ? html`<p class="hint">${t("inbox.and_more", { n: more })}</p>` : html`<${Button} kind="quiet" onClick=${() => setAll(true)}>${t("inbox.show_all", { n: more })}<//>`)}`;
}

function Decision({ item }) {
  const canSettle = useStore((store) => Boolean(store.actions?.includes("settings_change")));
  const [isBusy, setBusy] = useState(false);
  const perform = async (action, fields = {}) => {
    setBusy(true);
    try {
      await ask(action, { id: item.id, ...fields }); // the event brings the row; the reply may be older than that
      announce(t(DONE[action] ?? "inbox.running"));
    } catch (error) {
      toast(errorText(error), { kind: "bad" });
    } finally {
      setBusy(false);
    }
  };
  const accept = (folder) => {
    if (item.text) wanted.add(item.id);
    return perform("accept_offer", folder ? { folder } : {});
  };
  const choose = () => show((close) => html`<${FolderChooser} title=${t("inbox.choose_folder")} start=${item.folder ?? ""} confirm=${t("inbox.save_here")} onClose=${close} onChoose=${(folder) => {
    close();
    accept(folder);
  }} />`);
  const always = async () => {
    if (await acceptAlways(item.from)) await accept();
  };
  if (item.state === "accepted") {
    return html`<div class="inbox-actions">
      ${item.paused ? html`<${Button} key="pause" icon="play" busy=${isBusy} onClick=${() => perform("go_on_offer")}>${t("inbox.go_on")}<//>` : html`<${Button} key="pause" icon="pause" busy=${isBusy} onClick=${() => perform("pause_offer")}>${t("inbox.pause")}<//>`}
      <${Button} icon="folder" onClick=${choose}>${t("inbox.other_folder")}<//><${Button} icon="close" busy=${isBusy} onClick=${() => perform("decline_offer")}>${t("inbox.stop")}<//></div>`;
  }
  if (item.state !== "waiting") return null;
  const menu = [
    { label: t("inbox.accept_into"), icon: "folder", onClick: choose },
    canSettle && !item.from.endsWith(UNPROVEN) && { label: t("inbox.always", { name: item.from }), icon: "check", onClick: always },
  ].filter(Boolean);
  return html`<div class="inbox-actions"><${Button} kind="primary" icon=${item.text ? "text" : "download"} busy=${isBusy} onClick=${() => accept()}>${item.text ? t("inbox.show_text") : t("inbox.accept")}<//>
    <${Button} icon="close" onClick=${() => perform("decline_offer")}>${t("inbox.decline")}<//><${Menu} label=${t("inbox.more", { name: item.from })} items=${menu} /></div>`;
}

async function acceptAlways(name) {
  try {
    const { settings } = await ask("settings");
    const names = settings.find((one) => one.name === "accept_from")?.value ?? [];
    await ask("settings_change", { values: { accept_from: [...new Set([...names, name])] } });
    toast(t("inbox.always_done", { name }), { kind: "good" });
    return true;
  } catch (error) {
    toast(errorText(error), { kind: "bad" });
    return false;
  }
}

function Receiving({ item }) {
  const part = item.bytes > 0 ? item.bytes_done / item.bytes : null;
  const left = item.rate > 0 ? duration((item.bytes - item.bytes_done) / item.rate) : "";
  return html`<div class="inbox-progress"><${Progress} value=${part} label=${t("inbox.progress", { name: item.from })} state=${item.paused ? "paused" : undefined} />
    <p class="hint">${item.paused && html`${t("inbox.paused")} · `}${percent(part ?? 0)}${item.rate > 0 && html` · ${rate(item.rate)} · ${t("inbox.left", { time: left })}`}${item.folder && html` · ${t("inbox.into")} <code dir="ltr"><${Name}>${item.folder}<//></code>`}</p></div>`;
}

// The content of a text that has arrived.
function Text({ item }) {
  const [text, setText] = useState(null);
  const [error, setError] = useState(null);
  const load = () => ask("offer_text", { id: item.id }).then((reply) => setText(reply.text), setError);
  useEffect(() => {
    if (wanted.has(item.id)) load();
  }, [item.id]);
  if (error) return html`<${Notice} kind="bad">${errorText(error)}<//>`;
  if (text === null) return html`<div class="inbox-actions"><${Button} icon="text" onClick=${load}>${t("inbox.show_text")}<//></div>`;
  return html`<div class="inbox-text"><pre dir="auto" tabindex="0" role="region" aria-label=${t("inbox.text_of", { name: item.from })}>${linked(text)}</pre><${CopyButton} text=${text} /></div>`;
}

// Addresses of web pages in plain letters, without a name of a user before the host, by which an address can look like another one.
const LINK = /(https?:\/\/[^\s<>"]+)/i;
const SAFE = /^https?:\/\/[a-z0-9.-]+(?::\d+)?(?:[/?#][\w.~:/?#[\]@!$&'()*+,;=%-]*)?$/i;

function linked(text) {
  return text.split(LINK).map((part) => {
    const address = part.replace(/[.,;:!?')\]]{1,8}$/, ""); // of the sentence around it
    if (!SAFE.test(address)) return part;
    return html`<a href=${address} target="_blank" rel="noopener noreferrer" dir="ltr">${address}</a>${part.slice(address.length)}`;
  });
}

function Places({ item }) {
  const count = item.saved.length;
  return html`<div class="inbox-places"><p class="hint">${t("inbox.saved", { n: count })}</p><ul>${item.saved.slice(0, ITEMS_SHOWN).map((path, index) => html`<li key=${path}><code dir="ltr"><${Name}>${path}<//></code>
    <${CopyPath} path=${path} />${item.folders === 0 && html`<${IconButton} icon="download" size=${18} label=${t("inbox.save_copy", { name: path.split(/[\\/]/).at(-1) })} href=${url("received", item.id, String(index))} download />`}</li>`)}</ul>${count > ITEMS_SHOWN && html`<p class="hint">${t("inbox.saved_in")} <code dir="ltr"><${Name}>${item.folder}<//></code></p>`}</div>`;
}

function CopyPath({ path }) {
  return html`<${IconButton} icon="copy" size=${18} label=${t("inbox.copy_path")} onClick=${async () => {
    await copyText(path);
    toast(t("common.copied"), { kind: "good" });
  }} />`;
}
