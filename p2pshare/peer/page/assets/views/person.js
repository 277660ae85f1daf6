/** One person: presence, the path to them, their key and how far it is trusted, and what can be done. */

import { ask } from "../lib/api.js";
import { useLive } from "../lib/live.js";
import { href } from "../lib/route.js";
import { useCollection } from "../lib/store.js";
import { date, errorText, rich, t } from "../lib/texts.js";
import { html, useCallback, useEffect, useNow, useState } from "../lib/ui.js";
import { Avatar, Button, Confirm, Dialog, Empty, Icon, Loading, Menu, Name, Notice, Page, QrCode, show, toast } from "../parts/index.js";
import { PathReport } from "./health/path_report.js";
import { PathTag, TrustTag, presence, presenceText } from "./people/marks.js";

const SHARES_SHOWN = 8; // entries; the others are one click away

export default function Person({ parameters: { name } }) {
  const people = useCollection("people");
  const [details, setDetails] = useState(null);
  const [error, setError] = useState(null);
  const [isComparing, setComparing] = useState(false);
  const now = useNow();
  const load = useCallback(() => {
    ask("person", { name }).then((found) => {
      setDetails(found);
      setError(null);
    }, setError);
  }, [name]);
  useEffect(load, [load]);
  useLive("hello", load);
  useLive("person", (one) => one.name === name && load());

  const row = people.map.get(name);
  const { online, since, path } = row ?? details ?? {};
  const person = { ...row, ...details, online, since, path }; // the list does not name the key of everybody
  const back = { href: "#/people", label: t("people.title") };
  if (!details && !people.map.has(name)) {
    return html`<${Page} title=${html`<${Name}>${name}<//>`} back=${back}>${error
      ? html`<${Empty} icon="person" title=${t("person.unknown")}>${errorText(error)}<//>` : html`<${Loading} />`}<//>`;
  }
  const state = presence(person);
  const ask_ = (action, fields, done) => ask(action, { name, ...fields }).then(() => {
    toast(done, { kind: "good" });
    load();
  }, (problem) => toast(errorText(problem), { kind: "bad" }));
  const forget = () => show((close) => html`<${Confirm} title=${t("person.forget_title", { name })} confirm=${t("person.forget")} onClose=${close}
    onConfirm=${() => ask_("forget", {}, t("person.forgotten", { name }))}><p>${t("person.forget_text")}</p><//>`);
  const menu = [details?.pinned && { label: t("person.forget"), icon: "trash", kind: "danger", onClick: forget }].filter(Boolean);

  return html`<${Page} className="person" back=${back}
    title=${html`<span class="person-head"><${Avatar} name=${name} presence=${state} size="l" /><${Name}>${name}<//></span>`}
    summary=${html`<${Presence} person=${person} now=${now} />`}
    actions=${!person.own && html`<${Button} kind="primary" icon="folder" href=${href("people", name, "files")}>${t("person.files")}<//>
      <${Button} icon="send" href=${href("send", { to: name })}>${t("person.send")}<//>
      ${menu.length > 0 && html`<${Menu} label=${t("common.more_actions")} items=${menu} />`}`}>
    ${error && html`<${Notice} kind="warning" actions=${html`<${Button} onClick=${load}>${t("common.try_again")}<//>`}>${errorText(error)}<//>`}
    ${person.trust === "changed" && html`<${Notice} kind="bad" actions=${html`<${Button} onClick=${() => setComparing(true)}>${t("person.compare")}<//>`}>
      <strong>${t("person.changed_title")}</strong><p>${t("person.changed_text")}</p><//>`}
    ${person.trust === "waiting" && html`<${Notice} kind="warning" actions=${html`<${Button} kind="primary" onClick=${() => ask_("accept", { key: person.key }, t("person.accepted", { name }))}>${t("person.accept")}<//>`}>
      ${t("person.waiting_text", { name })}<//>`}
    <div class="person-cards">
      <div>
        ${!person.own && html`<${Shares} person=${person} />`}
        <section class="card padded" aria-labelledby="person-path"><h2 id="person-path">${t("person.path_title")}</h2><${Path} key=${name} path=${person.path} name=${name} state=${state} /></section>
      </div>
      <section class="card padded" aria-labelledby="person-key"><h2 id="person-key">${t("person.key_title")}</h2>
        <${Key} person=${person} details=${details} onCompare=${() => setComparing(true)} /></section>
    </div>
    ${isComparing && details?.compare && html`<${Compare} name=${name} details=${details} onClose=${() => setComparing(false)}
      onSame=${() => ask_("compared", { key: details.key }, t("person.compared_done", { name })).then(() => setComparing(false))} />`}
  <//>`;
}

function Presence({ person, now }) {
  const state = presence(person);
  return html`<span class=${`person-presence ${state}`}>${presenceText(person, now)}</span>`;
}

// What they share. Looking connects, and keeps the key at first contact, so it is asked for unless the key is known already.
function Shares({ person: { name, trust, online } }) {
  const isKnown = trust === "known" || trust === "compared";
  const [wanted, setWanted] = useState(false);
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const [tries, setTries] = useState(0);
  const mayLook = wanted || (isKnown && online !== false);
  useEffect(() => {
    if (!mayLook) return;
    setError(null);
    ask("list", { name, path: "", limit: SHARES_SHOWN }).then(setFound, setError);
  }, [name, mayLook, online, tries]);
  let content;
  if (found) {
    content = found.entries.length === 0 ? html`<p class="quiet">${t("person.shares_nothing", { name })}</p>` : html`<ul class="person-shares">
      ${found.entries.map((entry) => html`<li key=${entry.name}><a href=${href("people", name, "files", ...(entry.kind === "folder" ? [entry.name] : []))}>
        <${Icon} name=${entry.kind === "folder" ? "folder" : "file"} /><${Name}>${entry.name}<//></a></li>`)}</ul>
      ${found.more && html`<p><a href=${href("people", name, "files")}>${t("person.shares_all")}</a></p>`}`;
  } else if (error) {
    content = html`<p class="quiet">${errorText(error)}</p>
      <div class="person-buttons"><${Button} icon="retry" onClick=${() => setTries(tries + 1)}>${t("common.try_again")}<//></div>`;
  } else if (mayLook) {
    content = html`<${Loading} />`;
  } else {
    content = html`<p class="quiet">${t(online === false ? "person.shares_offline" : "person.shares_unknown", { name })}</p>
      ${online !== false && trust !== "changed" && html`<div class="person-buttons"><${Button} icon="eye" onClick=${() => setWanted(true)}>${t("person.shares_look")}<//></div>`}`;
  }
  return html`<section class="card padded" aria-labelledby="person-shares"><h2 id="person-shares">${t("person.shares_title")}</h2>${content}</section>`;
}

function Key({ person, details, onCompare }) {
  if (!person.key) return html`<p class="quiet">${t("person.no_key")}</p>`;
  return html`<p class="person-trust"><${TrustTag} trust=${person.trust} always=${true} /></p><p class="person-trust-text">${t(`person.trust_text.${person.trust}`)}</p>
    <dl class="facts">
      <dt>${t("person.fingerprint")}</dt><dd><code class="fingerprint" dir="ltr">${details?.fingerprint ?? person.key}</code></dd>
      ${details?.pinned && html`<dt>${t("person.pinned")}</dt><dd>${date(details.pinned)}</dd>`}
    </dl>
    ${details?.compare && html`<div class="person-buttons"><${Button} icon="shield" onClick=${onCompare}>${t("person.compare")}<//></div>`}`;
}

function Path({ path, name, state }) {
  const [isChecking, setChecking] = useState(false);
  const check = isChecking ? html`<${PathReport} name=${name} />`
    : html`<div class="person-buttons"><${Button} icon="health" onClick=${() => setChecking(true)}>${t("person.path_check")}<//></div>`;
  return html`${(path || !isChecking) && html`<${PathWords} path=${path} name=${name} state=${state} />`}${state !== "offline" && check}`;
}

function PathWords({ path, name, state }) {
  if (!path) return html`<p>${t(state === "offline" ? "person.path_offline" : "person.path_none", { name })}</p>`;
  const words = { direct: "person.path_direct", relay: "person.path_relay", lan: "person.path_lan" }[path.kind] ?? "person.path_direct";
  return html`<p><${PathTag} path=${path} /></p><p>${t(words, { name })}</p>
    <dl class="facts">${path.carrier && html`<dt>${t("person.carrier")}</dt><dd><bdi dir="ltr">${path.carrier.toUpperCase()}</bdi></dd>`}
      ${path.address && html`<dt>${t("person.address")}</dt><dd><code dir="ltr">${path.address}</code></dd>`}</dl>`;
}

function Compare({ name, details, onSame, onClose }) {
  const [differs, setDiffers] = useState(false);
  const actions = differs
    ? html`<${Button} onClick=${onClose}>${t("common.close")}<//>`
    : html`<${Button} onClick=${() => setDiffers(true)}>${t("person.compare_differs")}<//><${Button} kind="primary" icon="check" onClick=${onSame}>${t("person.compare_same")}<//>`;
  return html`<${Dialog} wide=${true} className="compare" title=${rich("person.compare_title", { name: html`<${Name}>${name}<//>` })} onClose=${onClose} actions=${actions}>
    ${differs ? html`<${Notice} kind="bad"><strong>${t("person.differs_title")}</strong><p>${t("person.differs_text", { name })}</p><//>` : html`<div class="compare-body">
      ${details.qr && html`<${QrCode} rows=${details.qr} label=${t("person.qr_label")} />`}
      <div><ol class="compare-steps"><li>${t("person.compare_step_1", { name })}</li><li>${t("person.compare_step_2", { name })}</li><li>${t("person.compare_step_3")}</li></ol>
        <p class="compare-code" dir="ltr" role="group" aria-label=${t("person.code_label")}>${details.compare.code.split(" ").map((group) => html`<span key=${group}>${group}</span> `)}</p></div>
    </div>`}
  <//>`;
}
