/** Chooses people: a search field, and a button with the face of each, those who are online first. */

import { useCollection } from "../lib/store.js";
import { t } from "../lib/texts.js";
import { classes, html, useMemo, useState } from "../lib/ui.js";
import { Avatar, Name, Search } from "./controls.js";
import { Icon } from "./icons.js";

const SHOWN = 24; // people without a search
const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?$/;

/** `chosen`: names; `onToggle(name)`. A name that is not in the list can be typed: of a person who was never met and is offline. */
export function PeoplePicker({ label, chosen, onToggle }) {
  const { rows } = useCollection("people");
  const [text, setText] = useState("");
  const wanted = text.normalize("NFKC").trim().toLowerCase();
  const others = useMemo(() => sorted(rows.filter((person) => !person.own)), [rows]);
  const known = useMemo(() => new Map(others.map((person) => [person.name, person])), [others]);
  const found = wanted ? others.filter((person) => person.name.includes(wanted)) : others;
  const rest = found.filter((person) => !chosen.includes(person.name));
  const isNew = NAME.test(wanted) && !known.has(wanted) && !chosen.includes(wanted);
  const toggle = (name) => {
    onToggle(name);
    if (!chosen.includes(name)) setText("");
  };
  const pressed = (event) => {
    const first = rest[0]?.name ?? (isNew ? wanted : null);
    if (event.key === "Enter" && wanted && first !== null) {
      event.preventDefault();
      toggle(first);
    } else if (event.key === "Backspace" && text === "" && chosen.length > 0) onToggle(chosen.at(-1));
  };
  const shown = found.slice(0, SHOWN); // a choice moves nobody, so that a second click meets the same person
  const elsewhere = chosen.filter((name) => !shown.some((person) => person.name === name)).map((name) => known.get(name) ?? { name, online: null });
  return html`<div class="people-picker" role="group" aria-label=${label}>
    <${Search} label=${t("send.find_person")} value=${text} onInput=${setText} onKeyDown=${pressed} maxlength="32" />
    <div class="picker-people">
      ${[...elsewhere, ...shown].map((person) => html`<${Face} key=${person.name} person=${person} isChosen=${chosen.includes(person.name)} onToggle=${toggle} />`)}
      ${isNew && html`<${Face} key=${wanted} person=${{ name: wanted, online: null }} isChosen=${false} onToggle=${toggle} />`}
    </div>
    ${found.length > shown.length && html`<p class="hint">${t("send.more_people", { n: found.length - shown.length })}</p>`}
  </div>`;
}

function Face({ person, isChosen, onToggle }) {
  const presence = person.online === null || person.online === undefined ? "unknown" : person.online ? "online" : "offline";
  return html`<button type="button" class=${classes("picker-person", presence)} aria-pressed=${String(isChosen)} data-drop-person=${person.name} onClick=${() => onToggle(person.name)}>
    <${Avatar} name=${person.name} presence=${presence} /><span class="picker-name"><${Name}>${person.name}<//></span>
    <span class="unseen">${presence === "online" ? t("send.online") : t("send.offline")}</span>${isChosen && html`<${Icon} name="check" size=${16} />`}
  </button>`;
}

const rank = (person) => (person.online ? 0 : person.online === false ? 2 : 1);

// Names have no other letters than a to z, so their order is the same in all languages; ten thousand are sorted in a few ms.
function sorted(people) {
  return people.sort((one, other) => rank(one) - rank(other) || (one.name < other.name ? -1 : 1));
}
