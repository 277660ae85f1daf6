/** What belongs to this browser and not to the peer, for the settings: theme, language and session. */

import { session } from "../lib/api.js";
import { chooseLanguage, chosenLanguage, errorText, languageName, languages, t } from "../lib/texts.js";
import { chooseTheme, chosenTheme } from "../lib/theme.js";
import { html, useState } from "../lib/ui.js";
import { Button, Segments, Select } from "./controls.js";
import { toast } from "./dialogs.js";

const BROWSER = ""; // the value of "as the browser"

/** Show the list of keys. */
export const openShortcuts = () => import("./shortcuts.js").then((module) => module.showShortcuts(), (error) => toast(errorText(error), { kind: "bad" }));

/** Theme and language of this browser, and the end of its session. */
export function Looks() {
  const [theme, setTheme] = useState(chosenTheme());
  const choose = (value) => {
    chooseTheme(value);
    setTheme(value);
  };
  const leave = () => session.end().catch((error) => toast(errorText(error), { kind: "bad" }));
  const codes = [{ value: BROWSER, label: t("common.looks.browser") }, ...languages.map((code) => ({ value: code, label: languageName(code), lang: code }))];
  return html`<div class="looks">
    <div class="field"><span class="label" aria-hidden="true">${t("common.looks.theme")}</span>
      <${Segments} label=${t("common.looks.theme")} value=${theme} onChange=${choose} options=${["system", "light", "dark"].map((value) => ({ value, label: t(`common.looks.${value}`) }))} /></div>
    <${Select} label=${t("common.looks.language")} value=${chosenLanguage() ?? BROWSER} options=${codes} onChange=${(code) => chooseLanguage(code || null)} data-looks="language" />
    <div class="field"><span class="label">${t("common.looks.session")}</span><${Button} icon="lock" onClick=${leave}>${t("common.looks.sign_out")}<//></div>
    <div class="field looks-keys"><${Button} icon="info" onClick=${openShortcuts}>${t("common.keys.title")}<//></div>
  </div>`;
}
