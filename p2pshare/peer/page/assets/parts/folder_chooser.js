/** Asks for a folder on this machine. */

import { html, useState } from "../lib/ui.js";
import { t } from "../lib/texts.js";
import { Button, Field } from "./controls.js";
import { Dialog } from "./dialogs.js";

/** A dialog that calls `onChoose(path)` with an absolute path, or `onClose()`. */
export function FolderChooser({ title, start = "", onChoose, onClose }) {
  const [path, setPath] = useState(start);
  const choose = () => onChoose(path.trim());
  return html`<${Dialog} title=${title ?? t("common.choose_folder")} onClose=${onClose} actions=${html`
    <${Button} onClick=${onClose}>${t("common.cancel")}<//><${Button} kind="primary" disabled=${!path.trim().startsWith("/")} onClick=${choose}>${t("common.choose")}<//>`}>
    <${Field} label=${t("common.folder_path")} value=${path} onInput=${setPath} spellcheck=${false} dir="ltr" />
  <//>`;
}
