/** The choice of theme and language, for the settings. Both are kept in this browser. */

import { chooseLanguage, chosenLanguage, languageName, languages, t } from "../lib/texts.js";
import { chooseTheme, chosenTheme } from "../lib/theme.js";
import { html, useState } from "../lib/ui.js";
import { Segments, Select } from "./controls.js";

const BROWSER = ""; // the value of "as the browser"

/** Two fields: theme and language. */
export function Looks() {
  const [theme, setTheme] = useState(chosenTheme());
  const choose = (value) => {
    chooseTheme(value);
    setTheme(value);
  };
  const codes = [{ value: BROWSER, label: t("common.looks.browser") }, ...languages.map((code) => ({ value: code, label: languageName(code) }))];
  return html`<div class="looks">
    <div class="field"><span class="label" aria-hidden="true">${t("common.looks.theme")}</span>
      <${Segments} label=${t("common.looks.theme")} value=${theme} onChange=${choose} options=${["system", "light", "dark"].map((value) => ({ value, label: t(`common.looks.${value}`) }))} /></div>
    <${Select} label=${t("common.looks.language")} value=${chosenLanguage() ?? BROWSER} options=${codes} onChange=${(code) => chooseLanguage(code || null)} data-looks="language" />
  </div>`;
}
