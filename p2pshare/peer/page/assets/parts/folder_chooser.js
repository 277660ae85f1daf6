/** Asks for a folder, or for files and folders, on the machine of the peer. */

import { ask } from "../lib/api.js";
import { bytes, collator, errorText, t } from "../lib/texts.js";
import { classes, html, useEffect, useMemo, useRef, useState } from "../lib/ui.js";
import { Button, Field, IconButton, Loading, Name, Notice, Switch } from "./controls.js";
import { Dialog } from "./dialogs.js";
import { Icon } from "./icons.js";

const HIDDEN = "p2pshare.hidden"; // whether hidden names are listed, in localStorage

/**
 * A dialog that calls `onChoose(path)` with the absolute path of a folder, or `onClose()`.
 *
 * With `files`, files can be chosen too, several at a time: `onChoose` gets a list of {path, kind, bytes}; without a choice, the folder that is open.
 * With `single`, only one of them can be chosen. `start` is the folder that is shown first; the home folder if it is empty. `writable` if something is to be saved in the folder.
 */
export function FolderChooser({ title, start = "", files = false, single = false, writable = !files, confirm, onChoose, onClose }) {
  const [folder, setFolder] = useState(null);
  const [text, setText] = useState(start);
  const [error, setError] = useState(null);
  const [hidden, setHidden] = useState(localStorage.getItem(HIDDEN) === "yes");
  const [chosen, setChosen] = useState([]);
  const [making, setMaking] = useState(null); // the name of a new folder
  const [stop, setStop] = useState(0); // the entry that Tab comes to
  const list = useRef(null);
  const run = useRef(0);

  const open = async (path, after = null) => {
    const own = (run.current += 1);
    setError(null);
    try {
      const found = await ask("local_folders", { path: path || null, after, hidden, files });
      if (own !== run.current) return;
      const before = after === null ? [] : folder.entries;
      setFolder({ ...found, left_out: after === null ? found.left_out : folder.left_out, entries: [...before, ...found.entries] });
      setText(found.path);
      if (after !== null) return;
      setStop(0);
      if (!list.current) return;
      list.current.scrollTop = 0;
      if (list.current.contains(document.activeElement)) setTimeout(() => (rows()[0] ?? list.current.closest("dialog").querySelector(".chooser-bar input"))?.focus());
    } catch (problem) {
      if (own !== run.current) return;
      setError(problem);
      if (folder === null && path) open("");
    }
  };
  useEffect(() => void open(folder?.path ?? start), [hidden]);

  const inside = (name) => (folder.path === "/" ? `/${name}` : `${folder.path}/${name}`);
  const toggle = (entry) => {
    const path = inside(entry.name);
    const others = chosen.filter((one) => one.path !== path);
    if (others.length < chosen.length) setChosen(others);
    else setChosen([...(single ? [] : chosen), { path, kind: entry.kind, bytes: entry.bytes }]);
  };
  const make = async () => {
    try {
      const made = await ask("local_folder_make", { path: inside(making.trim()) });
      endMaking();
      open(made.path);
    } catch (problem) {
      setError(problem);
    }
  };
  const endMaking = () => {
    setMaking(null);
    list.current?.closest("dialog").querySelector(".dialog-actions .primary").focus(); // what is wanted next
  };
  const named = (event) => {
    if (event.key === "Escape") endMaking();
    else if (event.key !== "Enter") return;
    else if (making.trim()) make();
    event.preventDefault();
  };
  const choose = () => {
    if (!files) onChoose(folder.path);
    else onChoose(chosen.length > 0 ? chosen : [{ path: folder.path, kind: "folder", bytes: 0 }]);
  };
  const label = confirm ?? (files && chosen.length > 0 ? t("send.chooser.choose_some", { n: chosen.length }) : t("send.chooser.choose_this"));
  const entries = useMemo(() => sorted(folder?.entries ?? []), [folder]);
  const rows = () => [...list.current.querySelectorAll(".chooser-name")];
  const focused = (event) => {
    const index = [...list.current.children].indexOf(event.target.closest("li"));
    if (index >= 0 && index < entries.length) setStop(index);
  };
  const move = (event) => { // arrow keys move, Space chooses, Backspace goes up, letters jump
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const all = rows();
    const at = Math.max(0, all.findIndex((row) => row.closest("li").contains(event.target)));
    const aims = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1, PageDown: at + 8, PageUp: at - 8 };
    if (event.key in aims) all[Math.max(0, Math.min(all.length - 1, aims[event.key]))]?.focus();
    else if (event.key === "Backspace" && folder.parent) open(folder.parent);
    else if (event.key === " " && files && event.target.type !== "checkbox") toggle(entries[at]);
    else if (event.key.length === 1 && event.key !== " ") {
      const letter = event.key.toLowerCase();
      [...all.slice(at + 1), ...all.slice(0, at + 1)].find((row) => row.textContent.trim().toLowerCase().startsWith(letter))?.focus();
    } else return;
    event.preventDefault();
  };
  const typed = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    open(text.trim());
  };
  return html`<${Dialog} wide=${true} className="folder-chooser" title=${title ?? t("common.choose_folder")} onClose=${onClose} actions=${html`
    <${Button} onClick=${onClose}>${t("common.cancel")}<//><${Button} kind="primary" disabled=${folder === null} onClick=${choose}>${label}<//>`}>
    <div class="chooser-bar">
      <${IconButton} icon="up" label=${t("send.chooser.up")} disabled=${!folder?.parent} onClick=${() => open(folder.parent)} />
      <${Field} hiddenLabel=${true} label=${t("common.folder_path")} value=${text} onInput=${setText} onKeyDown=${typed} spellcheck=${false} autocapitalize="none" dir="ltr" maxlength="4096" />
      ${folder !== null && text.trim() !== folder.path && html`<${Button} onClick=${() => open(text.trim())}>${t("send.chooser.open")}<//>`}
    </div>
    <div class="chooser-places">
      <${Button} kind="quiet" icon="home" onClick=${() => open("")}>${t("send.chooser.home")}<//>
      ${folder?.inbox && html`<${Button} kind="quiet" icon="inbox" onClick=${() => open(folder.inbox)}>${t("send.chooser.inbox")}<//>`}
      <${Button} kind="quiet" icon="plus" disabled=${!folder?.writable} onClick=${() => setMaking("")}>${t("send.chooser.new_folder")}<//>
      <${Switch} label=${t("send.chooser.hidden")} checked=${hidden} onChange=${(on) => {
        localStorage.setItem(HIDDEN, on ? "yes" : "no");
        setHidden(on);
      }} />
    </div>
    ${making !== null && html`<div class="chooser-bar">
      <${Field} label=${t("send.chooser.new_name")} value=${making} onInput=${setMaking} onKeyDown=${named} autofocus maxlength="255" />
      <${Button} kind="primary" disabled=${!making.trim()} onClick=${make}>${t("send.chooser.make")}<//><${Button} onClick=${endMaking}>${t("common.cancel")}<//></div>`}
    ${error && html`<${Notice} kind="bad">${errorText(error)}<//>`}
    ${folder && writable && !folder.writable && html`<${Notice} kind="warning">${t("send.chooser.not_writable")}<//>`}
    ${folder === null ? !error && html`<${Loading} />` : html`<ul class="chooser-list" ref=${list} aria-label=${t("send.chooser.content")} onKeyDown=${move} onFocusIn=${focused}>
      ${entries.map((entry, index) => html`<${Entry} key=${entry.name} entry=${entry} files=${files} isStop=${index === Math.min(stop, entries.length - 1)} isChosen=${chosen.some((one) => one.path === inside(entry.name))}
        onOpen=${() => open(inside(entry.name))} onToggle=${() => toggle(entry)} />`)}
      ${folder.entries.length === 0 && html`<li class="chooser-none">${files ? t("send.chooser.empty") : t("send.chooser.no_folders")}</li>`}
      ${folder.more && html`<li class="chooser-none"><${Button} onClick=${() => open(folder.path, folder.entries.at(-1).name)}>${t("send.chooser.more")}<//></li>`}
    </ul>
    ${(folder.left_out > 0 || folder.cut) && html`<p class="hint">${folder.left_out > 0 && t("send.chooser.left_out", { n: folder.left_out })} ${folder.cut && t("send.chooser.cut")}</p>`}`}
  <//>`;
}

function Entry({ entry, files, isChosen, isStop, onOpen, onToggle }) {
  const isFolder = entry.kind === "folder";
  return html`<li class=${classes("chooser-entry", isChosen && "chosen")}>
    ${files && html`<label class="chooser-box"><input type="checkbox" tabindex=${isStop ? undefined : -1} checked=${isChosen} aria-label=${t("send.chooser.choose_entry", { name: entry.name })} onChange=${onToggle} /></label>`}
    <button type="button" class="chooser-name" tabindex=${isStop ? undefined : -1} aria-pressed=${!isFolder ? String(isChosen) : undefined} onClick=${isFolder ? onOpen : onToggle}>
      <${Icon} name=${isFolder ? "folder" : "file"} /><${Name}>${entry.name}<//>${entry.link && html`<span class="hint">${t("send.chooser.link")}</span>`}
      ${!isFolder && html`<span class="hint chooser-size">${bytes(entry.bytes)}</span>`}</button>
  </li>`;
}

function sorted(entries) {
  const { compare } = collator();
  const rank = (entry) => (entry.kind === "folder" ? 0 : 2) + (entry.name.startsWith(".") ? 1 : 0);
  return entries.toSorted((one, other) => rank(one) - rank(other) || compare(one.name, other.name));
}
