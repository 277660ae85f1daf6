/** My shares: what this peer shares and with whom, what is left out, and who has fetched it. */

import { ApiError, ask } from "../lib/api.js";
import { useLive } from "../lib/live.js";
import { href } from "../lib/route.js";
import { useCollection } from "../lib/store.js";
import { ago, bytes, date, duration, enumeration, errorText, number, t } from "../lib/texts.js";
import { html, useCallback, useEffect, useMemo, useNow, useRef, useState } from "../lib/ui.js";
import { FolderChooser } from "../parts/folder_chooser.js";
import {
  Avatar, Button, Confirm, Dialog, Empty, Field, Icon, LeftOut, Loading, Menu, Name, Notice, Page, Segments, Select, Switch, Tag, copyText, leftOutCount, show, toast, visible,
} from "../parts/index.js";
import { PeoplePicker } from "../parts/people_picker.js";

const PAGE = 50; // visits that are asked for at a time
const EXPIRIES = [0, 3600, 86400, 7 * 86400, 30 * 86400]; // seconds; 0 is never
const ON_NETWORK = "@lan";

export default function Shares() {
  const { rows, state, error } = useCollection("shares");
  const now = useNow();
  const shares = useMemo(() => rows.toSorted((one, other) => (one.name < other.name ? -1 : 1)), [rows]);
  const add = () => show((close) => html`<${Add} taken=${rows.map((share) => share.name)} onClose=${close} />`);
  return html`<${Page} title=${t("shares.title")} summary=${state === "ready" ? t("shares.summary", { n: rows.length }) : ""} className="shares"
    actions=${html`<${Button} kind="primary" icon="plus" onClick=${add}>${t("shares.add")}<//>`}>
    ${error && html`<${Notice} kind="warning">${errorText(error)}<//>`}
    ${state === "loading" ? html`<${Loading} />` : shares.length === 0
      ? html`<div class="card"><${Empty} icon="shares" title=${t("shares.none")}>${t("shares.none_text")}<//></div>`
      : html`<ul class="shares-list" aria-label=${t("shares.title")}>${shares.map((share) => html`<${Share} key=${share.name} share=${share} now=${now} />`)}</ul>`}
    <${Fetched} shares=${shares} now=${now} />
  <//>`;
}

function Share({ share, now }) {
  const missing = leftOutCount(share.left_out);
  const allow = () => show((close) => html`<${Allow} share=${share} onClose=${close} />`);
  const remove = () => show((close) => html`<${Confirm} title=${t("shares.remove_title", { name: share.name })} confirm=${t("shares.remove")} onClose=${close}
    onConfirm=${() => run("share_remove", { name: share.name }, t("shares.removed", { name: share.name }))}>
    <p>${t("shares.remove_text")}</p>${!share.kept && html`<p>${t("shares.remove_fixed")}</p>`}<//>`);
  const copy = async () => {
    try {
      const status = await ask("status");
      if (!status.registry_key) throw new ApiError({ error: "NoRegistry", message: t("shares.no_link") });
      await copyText(`p2pshare://${[status.registry_key, status.name, share.name].map(encodeURIComponent).join("/")}`);
      toast(t("shares.link_copied"), { kind: "good" });
    } catch (error) {
      toast(errorText(error), { kind: "bad" });
    }
  };
  return html`<li class="card share" data-share=${share.name}>
    <div class="share-head"><span class="share-icon"><${Icon} name="shares" /></span>
      <div class="share-title"><h2><${Name}>${share.name}<//></h2><p class="hint"><code dir="ltr"><${Name}>${share.path}<//></code></p></div>
      <${Menu} label=${t("shares.actions", { name: share.name })} items=${[
        { label: t("shares.change_who"), icon: "people", onClick: allow }, { label: t("shares.copy_link"), icon: "copy", onClick: copy }, { label: t("shares.remove"), icon: "trash", kind: "danger", onClick: remove }]} /></div>
    <ul class="share-marks">
      <li><${Who} allow=${share.allow} /></li>
      ${share.expires !== null && html`<li><${Tag} kind="warning" icon="clock" title=${date(share.expires)}>${t("shares.ends_in", { time: duration(Math.max(60, share.expires - now / 1000)) })}<//></li>`}
      ${share.count !== null ? html`<li><${Tag} kind="warning" icon="download">${t("shares.of_downloads", { done: number(share.downloads), n: share.count })}<//></li>`
        : share.downloads > 0 && html`<li><${Tag} icon="download">${t("shares.downloads", { n: share.downloads })}<//></li>`}
      ${share.hidden && html`<li><${Tag}>${t("shares.with_hidden")}<//></li>`}
      ${!share.kept && html`<li><${Tag} title=${t("shares.fixed_title")}>${t("shares.fixed")}<//></li>`}
    </ul>
    ${share.exclude.length > 0 && html`<p class="hint">${t("shares.without")} ${share.exclude.map((pattern, index) => html`${index > 0 && " "}<code key=${pattern} dir="ltr"><${Name}>${pattern}<//></code>`)}</p>`}
    ${missing > 0 ? html`<details class="share-left"><summary>${t("shares.left_out", { n: missing })}</summary><${LeftOut} leftOut=${share.left_out} /></details>`
      : share.left_out === null ? html`<p class="hint">${t("shares.counting")}</p>` : ""}
  </li>`;
}

function Who({ allow }) {
  if (allow === null) return html`<${Tag} icon="globe">${t("shares.everyone")}<//>`;
  if (allow.includes(ON_NETWORK)) return html`<${Tag} kind="warning" icon="lan">${t("shares.everyone_here")}<//>`;
  if (allow.length === 0) return html`<${Tag} icon="lock">${t("shares.nobody")}<//>`;
  return html`<${Tag} kind="accent" icon="lock">${t("shares.only", { names: enumeration(allow.slice(0, 5)) })}${allow.length > 5 && ` +${number(allow.length - 5)}`}<//>`;
}

// The choice of people: everyone, everyone on the network if there is no registry, or some.
function WhoChoice({ value, onChange }) {
  const [isLan, setLan] = useState(false);
  const [names, setNames] = useState(value?.filter((name) => name !== ON_NETWORK) ?? []);
  useEffect(() => void ask("status").then((status) => setLan(status.registry === "lan:"), () => {}), []);
  const kind = value === null ? "all" : value.includes(ON_NETWORK) ? "lan" : "some";
  const choose = (next) => onChange(next === "all" ? null : next === "lan" ? [ON_NETWORK] : names);
  const toggle = (name) => {
    const next = names.includes(name) ? names.filter((one) => one !== name) : [...names, name];
    setNames(next);
    onChange(next);
  };
  return html`<div class="who"><p class="who-label">${t("shares.with_whom")}</p>
    <${Segments} label=${t("shares.with_whom")} value=${kind} onChange=${choose} options=${[
      { value: "all", label: t("shares.everyone") }, isLan && { value: "lan", label: t("shares.everyone_here") }, { value: "some", label: t("shares.some") }].filter(Boolean)} />
    <p class="hint">${t(`shares.who_text.${kind}`)}</p>
    ${kind === "some" && html`<${PeoplePicker} label=${t("shares.with_whom")} chosen=${names} onToggle=${toggle} />`}</div>`;
}

function Allow({ share, onClose }) {
  const [allow, setAllow] = useState(share.allow);
  const save = async () => {
    if (await run("share_allow", { name: share.name, allow }, t("shares.changed", { name: share.name }))) onClose();
  };
  return html`<${Dialog} title=${t("shares.allow_title", { name: share.name })} onClose=${onClose} actions=${html`
    <${Button} onClick=${onClose}>${t("common.cancel")}<//><${Button} kind="primary" onClick=${save}>${t("shares.save")}<//>`}>
    <${WhoChoice} value=${allow} onChange=${setAllow} /><//>`;
}

function Add({ taken, onClose }) {
  const [path, setPath] = useState("");
  const [name, setName] = useState(null); // null: the last part of the path
  const [allow, setAllow] = useState(null);
  const [expires, setExpires] = useState(0);
  const [count, setCount] = useState("");
  const [exclude, setExclude] = useState("");
  const [hidden, setHidden] = useState(false);
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const own = path.replace(/\/+$/, "").split("/").at(-1) ?? "";
  const called = name ?? own;
  const fault = called && taken.includes(called) ? t("shares.name_taken") : null;
  const choose = () => show((close) => html`<${FolderChooser} files=${true} single=${true} title=${t("shares.choose")} start=${path.replace(/\/[^/]*$/, "")} onClose=${close} onChoose=${([first]) => {
    close();
    setPath(first.path);
  }} />`);
  const save = async () => {
    setBusy(true);
    setError(null);
    const patterns = exclude.split("\n").map((line) => line.trim()).filter(Boolean);
    try {
      const row = await ask("share_add", { path, name: called, allow, exclude: patterns, hidden, expires_s: expires || null, count: count === "" ? null : Number(count) });
      toast(t("shares.added", { name: row.name }), { kind: "good" });
      onClose();
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  return html`<${Dialog} wide=${true} className="share-add" title=${t("shares.add_title")} onClose=${onClose} actions=${html`
    <${Button} onClick=${onClose}>${t("common.cancel")}<//><${Button} kind="primary" busy=${isBusy} disabled=${!path || !called || Boolean(fault)} onClick=${save}>${t("shares.add")}<//>`}>
    <div class="share-path"><${Field} label=${t("shares.path")} value=${path} onInput=${setPath} dir="ltr" spellcheck=${false} autocapitalize="none" maxlength="4096" /><${Button} icon="folder" onClick=${choose}>${t("common.choose")}<//></div>
    <${Field} label=${t("shares.name")} hint=${t("shares.name_hint")} error=${fault} value=${called} onInput=${setName} maxlength="255" />
    <${WhoChoice} value=${allow} onChange=${setAllow} />
    <div class="share-ends"><${Select} label=${t("shares.ends")} value=${String(expires)} onChange=${(value) => setExpires(Number(value))}
        options=${EXPIRIES.map((seconds) => ({ value: String(seconds), label: seconds === 0 ? t("shares.never") : t("shares.after_time", { time: duration(seconds) }) }))} />
      <${Field} label=${t("shares.count")} hint=${t("shares.count_hint")} type="number" min="1" max="10000" inputmode="numeric" value=${count} onInput=${setCount} /></div>
    <details class="share-rules"><summary>${t("shares.rules")}</summary>
      <${Switch} label=${t("shares.hidden")} hint=${t("shares.hidden_hint")} checked=${hidden} onChange=${setHidden} />
      <div class="field"><label for="share-exclude">${t("shares.exclude")}</label><textarea id="share-exclude" rows="3" dir="ltr" spellcheck=${false} placeholder="*.tmp" value=${exclude}
        aria-describedby="share-exclude-hint" onInput=${(event) => setExclude(event.currentTarget.value)}></textarea><p class="hint" id="share-exclude-hint">${t("shares.exclude_hint")}</p></div></details>
    ${error && html`<${Notice} kind="bad">${errorText(error)}<//>`}
  <//>`;
}

// Who has fetched what, the newest first; a row that grows moves to its new figures at once.
function Fetched({ shares, now }) {
  const [share, setShare] = useState(""); // the only one that is shown; empty for all
  const [{ rows, more }, setFound] = useState({ rows: null, more: false });
  const [error, setError] = useState(null);
  const most = useRef(PAGE); // rows that are shown; the reader asks for more
  const run = useRef(0);
  const late = useRef(null); // rows that have come since the list was asked for
  const load = useCallback((before = null) => {
    const own = (run.current += 1);
    late.current = [];
    ask("fetched", { limit: PAGE, before, share: share || null }).then((reply) => {
      if (own !== run.current) return; // of another share, or older
      const came = late.current;
      late.current = null;
      most.current = before === null ? PAGE : most.current + PAGE;
      setFound((old) => {
        const found = before === null ? reply.fetched : [...(old.rows ?? []), ...reply.fetched];
        return came.reduce((all, row) => withVisit(all, row, most.current), { rows: found, more: reply.more });
      });
      setError(null);
    }, (problem) => {
      if (own !== run.current) return;
      late.current = null;
      setError(problem);
    });
  }, [share]);
  useEffect(() => load(), [load]);
  useLive("hello", () => load());
  useLive("fetched", (row) => {
    if (share && row.share !== share) return;
    late.current?.push(row);
    setFound((old) => (old.rows === null ? old : withVisit(old, row, most.current)));
  });
  return html`<section class="fetched" aria-labelledby="fetched-title"><div class="fetched-head"><h2 id="fetched-title">${t("shares.fetched")}</h2>
      ${shares.length > 1 && html`<${Select} hiddenLabel=${true} label=${t("shares.of_share")} value=${share} onChange=${setShare}
        options=${[{ value: "", label: t("shares.all_shares") }, ...shares.map((one) => ({ value: one.name, label: visible(one.name) }))]} />`}</div>
    ${error && html`<${Notice} kind="warning">${errorText(error)}<//>`}
    ${rows === null ? !error && html`<${Loading} />` : rows.length === 0 ? html`<p class="card padded quiet">${t("shares.nobody_yet")}</p>`
      : html`<ul class="card fetched-list">${rows.map((row) => html`<${Visit} key=${row.number} row=${row} now=${now} />`)}</ul>`}
    ${more && html`<p><${Button} onClick=${() => load(Math.min(...rows.map((row) => row.number)))}>${t("shares.show_more")}<//></p>`}
  </section>`;
}

// A row that is new or has grown comes first; no more are kept than the reader has asked for.
function withVisit({ rows, more }, row, most) {
  const next = [row, ...rows.filter((one) => one.number !== row.number)];
  return { rows: next.slice(0, most), more: more || next.length > most };
}

function Visit({ row, now }) {
  return html`<li class="visit"><${Avatar} name=${row.name} size="s" /><a class="visit-name" href=${href("people", row.name)}><${Name}>${row.name}<//></a>
    <span class="visit-what"><${Name}>${row.files === 0 ? row.share : row.path}<//>${row.files !== 1 && html` <span class="hint">${row.files === 0 ? t("shares.partly") : t("shares.and_more", { n: row.files - 1 })}</span>`}</span>
    <span class="hint visit-size">${bytes(row.bytes)}</span><span class="hint visit-when" title=${date(row.at)}>${ago(row.at, now)}</span></li>`;
}

// The event of the change brings the new row; the reply may be older than that.
async function run(action, fields, text) {
  try {
    await ask(action, fields);
    toast(text, { kind: "good" });
    return true;
  } catch (error) {
    toast(errorText(error), { kind: "bad" });
    return false;
  }
}
