/**
 * Settings: limits, offers, how others reach this peer, and the page itself.
 *
 * Each change is kept at once, in the config.toml of the user. A setting that a flag or a variable has set cannot be changed here and says so;
 * one that is in use only after a restart says that, too.
 */

import { ask, openCommand, session } from "../lib/api.js";
import { useLive } from "../lib/live.js";
import { bytes, enumeration, errorText, hasText, number, plainDigits, rate, rich, t } from "../lib/texts.js";
import { classes, html, useEffect, useId, useRef, useState } from "../lib/ui.js";
import { FolderChooser } from "../parts/folder_chooser.js";
import {
  Button, Command, Confirm, Dialog, Icon, Loading, Looks, Name, Notice, Page, Segments, Select, Switch, Tag, show, toast,
} from "../parts/index.js";
import { PeoplePicker } from "../parts/people_picker.js";

const RATES = [0, 500e3, 1e6, 2e6, 5e6, 10e6, 20e6, 50e6]; // bytes per second; 0 is no limit
const QUOTAS = [0, 1e9, 5e9, 10e9, 50e9, 100e9, 500e9]; // bytes; 0 is no limit
const GROUPS = [
  ["transfers", ["limit"]],
  ["offers", ["offers", "accept_from", "inbox_folder", "inbox_quota", "notify"]],
  ["reach", ["port_mapping", "listen", "address", "private", "via"]],
  ["names", ["registry", "classic"]],
];

export default function Settings() {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const load = () => ask("settings").then((reply) => {
    setFound(reply);
    setError(null);
  }, setError);
  useEffect(() => void load(), []);
  useLive("hello", load);
  useLive("settings", setFound);
  const rows = new Map((found?.settings ?? []).map((row) => [row.name, row]));
  const waiting = [...rows.values()].filter((row) => row.needs_restart && !same(row.value, row.in_use));
  return html`<${Page} title=${t("settings.title")} className="settings">
    ${error && html`<${Notice} kind="bad">${errorText(error)}<//>`}
    ${found === null && !error && html`<${Loading} />`}
    ${waiting.length > 0 && html`<${Notice} kind="info"><p>${t("settings.restart_title", { n: waiting.length })}</p>
      <ul class="settings-waiting">${waiting.map((row) => html`<li key=${row.name}>${t(`settings.label.${row.name}`)}</li>`)}</ul>
      <p>${t("settings.restart_text")}</p><//>`}
    ${found && GROUPS.map(([group, names]) => html`<${Group} key=${group} title=${t(`settings.group.${group}`)} text=${t(`settings.group_text.${group}`)}>
      ${names.filter((name) => rows.has(name)).map((name) => html`<${Setting} key=${name} row=${rows.get(name)} onChanged=${setFound} />`)}<//>`)}
    <${Group} title=${t("settings.group.looks")} text=${t("settings.group_text.looks")}><div class="setting"><${Looks} /></div><//>
    <${About} file=${found?.file} />
  <//>`;
}

function Group({ title, text, children }) {
  const id = useId();
  return html`<section class="card settings-group" aria-labelledby=${id}><h2 id=${id}>${title}</h2><p class="hint">${text}</p>${children}</section>`;
}

function Setting({ row, onChanged }) {
  const [problem, setProblem] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const change = async (value) => {
    setBusy(true);
    setProblem(null);
    try {
      onChanged(await ask("settings_change", { values: { [row.name]: value } }));
      toast(t("settings.saved", { setting: t(`settings.label.${row.name}`) }), { kind: "good" });
      return true;
    } catch (error) {
      setProblem(error);
      return false;
    } finally {
      setBusy(false);
    }
  };
  const Control = CONTROLS[row.kind];
  const errorId = useId();
  return html`<div class=${classes("setting", isBusy && "busy")} data-setting=${row.name}>
    <${Control} row=${row} label=${t(`settings.label.${row.name}`)} hint=${t(`settings.hint.${row.name}`)} disabled=${row.fixed} error=${problem ? errorId : null} onChange=${change} />
    ${problem && html`<p class="hint error" role="alert" id=${errorId}>${problem.error === "BadSetting" && hasText(`settings.invalid.${row.kind}`) ? t(`settings.invalid.${row.kind}`) : errorText(problem)}</p>`}
    <div class="setting-notes">
      ${row.fixed && html`<p class="hint"><${Icon} name="lock" size=${16} /> <span>${rich(`settings.fixed_by.${row.source}`, { name: html`<code dir="ltr">${row.source === "flag" ? `--${row.name.replaceAll("_", "-")}` : `P2PSHARE_${row.name.toUpperCase()}`}</code>` })}</span></p>`}
      ${row.needs_restart && !same(row.value, row.in_use) && html`<${Tag} kind="warning" icon="clock">${t("settings.after_restart")}<//>`}
      ${!row.fixed && !same(row.value, row.default) && html`<${Button} kind="quiet" icon="retry" onClick=${() => change(null)}>${t("settings.reset", { value: shown(row, row.default) })}<//>`}
    </div>
  </div>`;
}

const CONTROLS = { rate: Amount, bytes: Amount, folder: Folder, choice: Choice, names: Names, switch: Toggle, registry: Registry, port: Line, addresses: Line };

// What describes a control: its hint, and the error of the last change.
const notes = (hint, error) => ({ "aria-describedby": [hint, error].filter(Boolean).join(" ") || undefined, "aria-invalid": error ? "true" : undefined });

function Toggle({ row, label, hint, disabled, onChange }) {
  return html`<${Switch} label=${label} hint=${hint} checked=${row.value} disabled=${disabled} onChange=${onChange} />`;
}

function Choice({ row, label, hint, disabled, error, onChange }) {
  const id = useId();
  return html`<${Select} label=${label} value=${row.value} disabled=${disabled} ...${notes(id, error)} onChange=${onChange}
    options=${row.choices.map((value) => ({ value, label: t(`settings.choice.${row.name}.${value}`) }))} /><p class="hint" id=${id}>${hint}</p>`;
}

// A rate or a size: usual values, the present one, and any other as text.
function Amount({ row, label, hint, disabled, error, onChange }) {
  const [isOwn, setOwn] = useState(false);
  const id = useId();
  const usual = row.kind === "rate" ? RATES : QUOTAS;
  const values = [...new Set([...usual, row.value, row.default])].sort((one, other) => one - other);
  const choose = (text) => (text === "own" ? setOwn(true) : onChange(Number(text)));
  if (isOwn && !disabled) {
    const save = async (text) => (await onChange(text)) && setOwn(false);
    return html`<${Editor} label=${label} hint=${t(`settings.own_${row.kind}`)} value="" error=${error} onSave=${save} onCancel=${() => setOwn(false)} />`;
  }
  return html`<${Select} label=${label} value=${String(row.value)} disabled=${disabled} ...${notes(id, error)} onChange=${choose}
    options=${[...values.map((value) => ({ value: String(value), label: shown(row, value) })), { value: "own", label: t("settings.other") }]} /><p class="hint" id=${id}>${hint}</p>`;
}

function Folder({ row, label, hint, disabled, error, onChange }) {
  const choose = () => show((close) => html`<${FolderChooser} title=${label} start=${row.value} onClose=${close} onChoose=${(path) => {
    close();
    onChange(path);
  }} />`);
  return html`<div class="setting-line"><div><p class="setting-label">${label}</p><p class="setting-value"><code dir="ltr"><${Name}>${row.value}<//></code></p></div>
    <${Button} icon="folder" aria-label=${`${t("settings.choose")}: ${label}`} disabled=${disabled} aria-describedby=${error ?? undefined} onClick=${choose}>${t("settings.choose")}<//></div><p class="hint">${hint}</p>`;
}

function Names({ row, label, hint, disabled, onChange }) {
  const edit = () => show((close) => html`<${NamesDialog} label=${label} hint=${hint} names=${row.value} onSave=${onChange} onClose=${close} />`);
  return html`<div class="setting-line"><div><p class="setting-label">${label}</p>
      ${row.value.length === 0 ? html`<p class="setting-value quiet">${t("settings.nobody")}</p>`
        : html`<ul class="setting-names">${row.value.map((name) => html`<li key=${name}><${Tag} icon="person"><${Name}>${name}<//><//></li>`)}</ul>`}</div>
    <${Button} icon="edit" aria-label=${`${t("settings.change")}: ${label}`} disabled=${disabled} onClick=${edit}>${t("settings.change")}<//></div><p class="hint">${hint}</p>`;
}

function NamesDialog({ label, hint, names, onSave, onClose }) {
  const [chosen, setChosen] = useState(names);
  const toggle = (name) => setChosen(chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name]);
  const save = async () => {
    await onSave(chosen);
    onClose();
  };
  return html`<${Dialog} title=${label} onClose=${onClose} actions=${html`<${Button} onClick=${onClose}>${t("common.cancel")}<//><${Button} kind="primary" onClick=${save}>${t("settings.save")}<//>`}>
    <p class="hint settings-dialog-hint">${hint}</p><${PeoplePicker} label=${label} chosen=${chosen} onToggle=${toggle} /><//>`;
}

// One line of text: the registry, a port, addresses.
function Line({ row, label, hint, disabled, error, onChange }) {
  const [isOpen, setOpen] = useState(false);
  const text = Array.isArray(row.value) ? row.value.join(", ") : String(row.value);
  const save = async (typed) => (await onChange(parsed(row, typed))) && setOpen(false);
  if (isOpen) return html`<${Editor} label=${label} hint=${hint} value=${row.value === 0 ? "" : text} error=${error} onSave=${save} onCancel=${() => setOpen(false)} isNumber=${row.kind === "port"} />`;
  return html`<div class="setting-line"><div><p class="setting-label">${label}</p><p class="setting-value">${shown(row, row.value)}</p></div>
    <${Button} icon="edit" aria-label=${`${t("settings.change")}: ${label}`} disabled=${disabled} onClick=${() => setOpen(true)}>${t("settings.change")}<//></div><p class="hint">${hint}</p>`;
}

// Whether there is a registry, and its address.
function Registry(properties) {
  const { row, label, hint, disabled, error, onChange } = properties;
  const [isAsking, setAsking] = useState(false);
  const isLan = row.value === "lan:";
  if (disabled) return html`<${Line} ...${properties} />`;
  const choose = (value) => {
    setAsking(value === "registry");
    if (value === "lan" && !isLan) onChange("lan:");
  };
  const save = async (text) => (await onChange(text)) && setAsking(false);
  return html`<p class="setting-label">${label}</p>
    <${Segments} label=${label} value=${isLan && !isAsking ? "lan" : "registry"} onChange=${choose} options=${["registry", "lan"].map((value) => ({ value, label: t(`settings.mode.${value}`) }))} />
    ${isAsking ? html`<${Editor} label=${t("settings.registry_address")} hint=${t("settings.registry_hint")} value=${isLan ? "" : row.value} error=${error} onSave=${save} onCancel=${() => setAsking(false)} />`
      : html`${!isLan && html`<div class="setting-line"><p class="setting-value">${shown(row, row.value)}</p><${Button} icon="edit" aria-label=${`${t("settings.change")}: ${t("settings.registry_address")}`} onClick=${() => setAsking(true)}>${t("settings.change")}<//></div>`}<p class="hint">${hint}</p>`}`;
}

function Editor({ label, hint, value, error, onSave, onCancel, isNumber = false }) {
  const [text, setText] = useState(value);
  const [isBusy, setBusy] = useState(false);
  const input = useRef(null);
  const id = useId();
  useEffect(() => input.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    await onSave(plainDigits(text.trim()));
    setBusy(false);
  };
  const pressed = (event) => event.key === "Escape" && onCancel();
  return html`<form class="setting-editor" onSubmit=${submit}><div class="field"><label for=${id}>${label}</label>
      <input ref=${input} id=${id} dir="ltr" value=${text} inputmode=${isNumber ? "numeric" : undefined} maxlength="2000" spellcheck=${false} autocapitalize="none" autocomplete="off"
        ...${notes(`${id}-hint`, error)} onInput=${(event) => setText(event.currentTarget.value)} onKeyDown=${pressed} /></div>
    <${Button} kind="primary" type="submit" busy=${isBusy}>${t("settings.save")}<//><${Button} onClick=${onCancel}>${t("common.cancel")}<//>
    <p class="hint" id=${`${id}-hint`}>${hint}</p></form>`;
}

function About({ file }) {
  const [found, setFound] = useState(null);
  useEffect(() => void session.read().then(setFound, () => {}), []);
  const stop = () => show((close) => html`<${Confirm} title=${t("settings.stop_title")} confirm=${t("settings.stop")} onClose=${close}
    onConfirm=${() => ask("stop").then(() => toast(t("settings.stopped")), (error) => toast(errorText(error), { kind: "bad" }))}>
    <p>${t("settings.stop_text")}</p><p>${t("settings.start_again")}</p><${Command} text=${openCommand()} /><//>`);
  return html`<${Group} title=${t("settings.group.about")} text=${t("settings.group_text.about")}>
    <dl class="facts setting">
      ${found && html`<dt>${t("settings.name")}</dt><dd><${Name}>${found.name}<//></dd><dt>${t("settings.version")}</dt><dd><span dir="ltr">p2pshare ${found.program}</span></dd>`}
      ${file && html`<dt>${t("settings.file")}</dt><dd><code dir="ltr"><${Name}>${file}<//></code><p class="hint">${t("settings.file_text")}</p></dd>`}
      <dt>${t("settings.licences")}</dt><dd>${rich("settings.licences_text", { preact: html`<a href=${licence("preact")} target="_blank" rel="noopener">Preact (MIT)</a>`, htm: html`<a href=${licence("htm")} target="_blank" rel="noopener">htm (Apache 2.0)</a>` })}</dd>
    </dl>
    <div class="setting setting-buttons"><${Button} kind="danger" icon="stop" onClick=${stop}>${t("settings.stop")}<//></div>
  <//>`;
}

const licence = (name) => new URL(`../vendor/LICENSE.${name}`, import.meta.url).href;

// What a control shows for a value.
function shown(row, value) {
  switch (row.kind) {
    case "rate": return value === 0 ? t("settings.no_limit") : rate(value);
    case "bytes": return value === 0 ? t("settings.no_limit") : bytes(value);
    case "switch": return value ? t("settings.on") : t("settings.off");
    case "choice": return t(`settings.choice.${row.name}.${value}`);
    case "port": return value === 0 ? t("settings.any_port") : number(value, { useGrouping: false });
    case "registry": return value === "lan:" ? t("settings.no_registry") : html`<code dir="ltr"><${Name}>${value}<//></code>`;
    case "addresses": return value.length === 0 ? t("settings.found_by_itself") : html`<code dir="ltr">${value.join(", ")}</code>`;
    case "names": return value.length === 0 ? t("settings.nobody") : enumeration(value);
    default: return String(value);
  }
}

function parsed(row, text) {
  if (row.kind === "port") return text === "" ? 0 : /^\d+$/.test(text) ? Number(text) : text;
  if (row.kind === "addresses") return text.split(/[\s,]+/).filter(Boolean);
  return text === "" ? null : text;
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
