/** Send: choose people, add files, folders or a text, and offer them; below, what became of earlier offers. Paste works anywhere in the view. */

import { bytes, duration, enumeration, errorText, number, percent, rate, t } from "../lib/texts.js";
import { classes, html, PHONE, useEffect, useMedia, useMemo, useRef, useState } from "../lib/ui.js";
import { FolderChooser } from "../parts/folder_chooser.js";
import {
  Button, Confirm, Icon, IconButton, LeftOut, Name, Notice, Page, Progress, Select, Size, Switch, announce,
} from "../parts/index.js";
import { PeoplePicker } from "../parts/people_picker.js";
import { compose, tops, useCompose, useProgress } from "./send/compose.js";
import { Sent } from "./send/sent.js";

const EXPIRIES = [3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400]; // seconds
const NOTE_MAX = 1000;
const TEXT_MAX = 65536; // bytes
const TOPS_SHOWN = 100;
const PICTURE_MAX = 20000000; // bytes of a picture that is shown

export default function Send({ parameters: { query } }) {
  const state = useCompose();
  useEffect(() => {
    if (query.to) compose.choose(query.to);
  }, [query.to]);
  const isBusy = state.phase !== "idle";
  const isEmpty = state.entries.length + state.paths.length === 0 && !state.text?.trim();
  const size = new TextEncoder().encode(state.text ?? "").length;
  const send = async (isSure = false) => {
    const names = enumeration(state.to);
    const offer = await compose.send(isSure);
    if (!offer) return;
    announce(t("send.offered", { names }));
    const title = document.getElementById("sent-title"); // the new offer is the first one below it
    title?.focus({ preventScroll: true });
    title?.scrollIntoView({ block: "start" });
  };
  return html`<${Page} title=${t("send.title")} summary=${t("send.summary")} className="send">
    <form class="card padded send-form" aria-label=${t("send.new")} onSubmit=${(event) => event.preventDefault()}>
      <fieldset disabled=${isBusy}>
        <section><h2>${t("send.to")}</h2><${PeoplePicker} label=${t("send.to")} chosen=${state.to} onToggle=${compose.toggle} /></section>
        <section><h2>${t("send.what")}</h2><${What} state=${state} size=${size} /></section>
        <section class="send-details">
          <div class="field"><label for="send-note">${t("send.note")}</label>
            <textarea id="send-note" rows="2" maxlength=${NOTE_MAX} value=${state.note} onInput=${(event) => compose.set({ note: event.currentTarget.value })}></textarea></div>
          <${Select} label=${t("send.expires")} value=${String(state.expires)} onChange=${(value) => compose.set({ expires: Number(value) })}
            options=${EXPIRIES.map((seconds) => ({ value: String(seconds), label: span(seconds) }))} />
        </section>
        ${state.text === null && html`<${Rules} state=${state} />`}
      </fieldset>
      ${state.error && html`<${Notice} kind="bad">${errorText(state.error)}<//>`}
      ${isBusy && state.phase !== "asking" && html`<${Upload} phase=${state.phase} />`}
      <div class="send-actions">
        ${isBusy ? html`<${Button} icon="close" onClick=${compose.cancel} disabled=${state.phase === "offering"}>${t("common.cancel")}<//>`
          : html`<${Button} kind="primary" icon="send" disabled=${isEmpty || state.to.length === 0 || size > TEXT_MAX || state.reading > 0} onClick=${() => send()}>${t("send.send")}<//>
            ${!isEmpty && html`<${Button} kind="quiet" onClick=${compose.clear}>${t("send.clear")}<//>`}
            <span class="hint" role="status">${state.to.length === 0 ? t("send.choose_people") : isEmpty ? t("send.choose_files") : ""}</span>`}
      </div>
    </form>
    ${state.phase === "asking" && html`<${Question} state=${state} onSend=${() => send(true)} />`}
    <${Sent} />
    <div class="drop-sign" aria-hidden="true"><div><${Icon} name="download" size=${24} /><p>${t("send.drop_here")}</p></div></div>
  <//>`;
}

const span = (seconds) => duration(seconds);

function What({ state, size }) {
  const files = useRef(null);
  const folders = useRef(null);
  const [isChoosing, setChoosing] = useState(false);
  const isPhone = useMedia(PHONE);
  const found = useMemo(() => tops(state.entries), [state.entries]);
  const all = found.length + state.paths.length;
  const total = found.reduce((sum, one) => sum + one.bytes, 0);
  const count = found.reduce((sum, one) => sum + one.files, 0);
  const took = (input) => {
    compose.addFiles(input.files);
    input.value = "";
  };
  if (state.text !== null) {
    return html`<div class="field"><label for="send-text" class="unseen">${t("send.text")}</label>
      <textarea id="send-text" rows="6" value=${state.text} placeholder=${t("send.text_placeholder")} autofocus onInput=${(event) => compose.set({ text: event.currentTarget.value })} aria-describedby="send-text-size"></textarea>
      <p class=${classes("hint", size > TEXT_MAX && "error")} id="send-text-size">${size > TEXT_MAX ? t("send.text_too_long", { most: bytes(TEXT_MAX) }) : size > 0 ? bytes(size) : t("send.text_hint")}</p></div>
      <${Button} kind="quiet" icon="file" onClick=${() => compose.set({ text: null })}>${t("send.files_instead")}<//>`;
  }
  return html`<div class=${classes("drop-zone", all === 0 && "bare")}>
      ${all === 0 && html`<p class="drop-invitation"><${Icon} name="upload" size=${28} /><span>${isPhone ? t("send.pick") : t("send.drop")}</span></p>`}
      ${all > 0 && html`<ul class="send-items" aria-label=${t("send.what")}>
        ${found.slice(0, TOPS_SHOWN).map((one) => html`<${Item} key=${one.name} item=${one} onRemove=${() => compose.remove(one.name)} />`)}
        ${state.paths.map((one) => html`<${Item} key=${one.path} item=${{ ...one, name: one.path, isPath: true }} onRemove=${() => compose.removePath(one.path)} />`)}
      </ul>
      <p class="hint" role="status">${found.length > TOPS_SHOWN && t("send.more_items", { n: found.length - TOPS_SHOWN })} ${count > 0 && t("send.total", { n: count, size: bytes(total) })}</p>`}
      <div class="send-sources">
        <input ref=${files} id="send-files" class="unseen" type="file" multiple tabindex="-1" aria-hidden="true" onChange=${(event) => took(event.currentTarget)} />
        <input ref=${folders} id="send-folders" class="unseen" type="file" webkitdirectory tabindex="-1" aria-hidden="true" onChange=${(event) => took(event.currentTarget)} />
        <${Button} icon="file" onClick=${() => files.current.click()}>${t("send.choose")}<//>
        <${Button} icon="folder" onClick=${() => folders.current.click()}>${t("send.choose_folder")}<//>
        <${Button} icon="computer" onClick=${() => setChoosing(true)}>${t("send.by_path")}<//>
        ${all === 0 && html`<${Button} icon="text" onClick=${() => compose.set({ text: "" })}>${t("send.write_text")}<//>`}
      </div>
    </div>
    ${state.reading > 0 && html`<p class="hint" role="status">${t("send.reading")}</p>`}
    ${state.isCut && html`<${Notice} kind="warning">${t("send.cut")}<//>`}
    ${isChoosing && html`<${FolderChooser} files=${true} title=${t("send.by_path_title")} onClose=${() => setChoosing(false)} onChoose=${(paths) => {
      setChoosing(false);
      compose.addPaths(paths);
    }} />`}`;
}

function Item({ item, onRemove }) {
  const picture = usePicture(item.file);
  const icon = item.kind === "folder" ? "folder" : "file";
  return html`<li><span class="send-item-icon">${picture ? html`<img src=${picture} alt="" />` : html`<${Icon} name=${icon} />`}</span>
    <span class="send-item-name"><${Name}>${item.name}<//>${item.kind === "folder" && !item.isPath && html` <span class="hint">${t("send.files", { n: item.files })}</span>`}</span>
    ${!(item.isPath && item.kind === "folder") && html`<${Size} count=${item.bytes} />`}
    <${IconButton} icon="close" size=${18} label=${t("send.remove", { name: item.name })} onClick=${onRemove} /></li>`;
}

// The address of a picture that is to be sent, for a look at it.
function usePicture(file) {
  const [address, setAddress] = useState(null);
  useEffect(() => {
    if (!file?.type.startsWith("image/") || file.size > PICTURE_MAX) return undefined;
    const made = URL.createObjectURL(file);
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  return address;
}

function Rules({ state }) {
  return html`<details class="send-rules" open=${Boolean(state.exclude) || state.hidden}><summary>${t("send.rules")}</summary>
    <${Switch} label=${t("send.hidden")} hint=${t("send.hidden_hint")} checked=${state.hidden} onChange=${(hidden) => compose.set({ hidden })} />
    <div class="field"><label for="send-exclude">${t("send.exclude")}</label>
      <textarea id="send-exclude" rows="3" dir="ltr" spellcheck=${false} placeholder="*.tmp" value=${state.exclude} aria-describedby="send-exclude-hint" onInput=${(event) => compose.set({ exclude: event.currentTarget.value })}></textarea>
      <p class="hint" id="send-exclude-hint">${t("send.exclude_hint")}</p></div></details>`;
}

function Upload({ phase }) {
  const progress = useProgress();
  useEffect(() => announce(t(`send.phase.${phase}`)), [phase]);
  if (phase !== "uploading") return html`<div class="send-progress"><p>${t(`send.phase.${phase}`)}</p><${Progress} value=${null} label=${t(`send.phase.${phase}`)} /></div>`;
  const part = progress.total > 0 ? progress.bytes / progress.total : progress.files / progress.all;
  const speed = (1000 * progress.bytes) / Math.max(1, performance.now() - progress.began);
  const left = speed > 0 ? duration((progress.total - progress.bytes) / speed) : "";
  return html`<div class="send-progress"><p>${t("send.phase.uploading")}</p><${Progress} value=${part} label=${t("send.phase.uploading")} />
    <p class="hint"><span>${percent(part)}</span> · <span>${t("send.of_files", { done: number(progress.files), n: progress.all })}</span> · <span>${rate(speed)}</span>${left && html` · <span>${t("send.left", { time: left })}</span>`}</p></div>`;
}

// What is left out, before anything goes out.
function Question({ state: { checked, problems }, onSend }) {
  return html`<${Confirm} kind="primary" title=${t("send.left_out_title")} confirm=${t("send.send_anyway")} onConfirm=${onSend} onClose=${compose.cancel}>
    <p>${t("send.would_send", { n: checked.files, size: bytes(checked.bytes) })}</p>
    ${checked.left_out && html`<${LeftOut} leftOut=${checked.left_out} />`}
    ${problems.length > 0 && html`<h3>${t("send.problems", { n: problems.length })}</h3><ul class="left-out-names">
      ${problems.slice(0, 10).map((one) => html`<li key=${one.path}><${Name}>${one.path}<//>: ${one.reason ? errorText(one.reason) : t("send.unreadable")}</li>`)}</ul>`}
  <//>`;
}
