/** People: who is online, since when, how they are reached, and whether their key is known. Keyboard: "/", letters, arrows, Enter. */

import { openCommand } from "../lib/api.js";
import { currentSession } from "../lib/live.js";
import { go, href } from "../lib/route.js";
import { useCollection, useStore } from "../lib/store.js";
import { ago, collator, date, errorText, rich, t } from "../lib/texts.js";
import { classes, html, PHONE, useKey, useMedia, useMemo, useNow, useRef, useState } from "../lib/ui.js";
import { VirtualList } from "../lib/virtual.js";
import { Avatar, Button, Command, Dialog, Empty, Icon, Loading, Name, Notice, Page, Search, Segments, show } from "../parts/index.js";
import { PathTag, TrustTag, presence, presenceText } from "./people/marks.js";

const SHOWN = "p2pshare.people"; // "online" or "all", in localStorage
const ROW = 52; // px
const ROW_PHONE = 68;
const OLD_S = 86400; // after which a look at what somebody shares is shown with its time
const ORDER = { online: 0, unknown: 1, offline: 2 };

let lastActive = null; // kept while another view is shown: "back" leads to the same row

export default function People({ parameters }) {
  const { rows, state, error, leftOut, trouble, oldSince } = useCollection("people");
  const [text, setText] = useState(parameters.query.search ?? "");
  const [shown, setShown] = useState(localStorage.getItem(SHOWN) ?? "all");
  const [active, setActive] = useState(lastActive); // a name, so that it stays when rows move
  lastActive = active;
  const search = useRef(null);
  const list = useRef(null);
  const now = useNow();
  const isPhone = useMedia(PHONE);

  const others = useMemo(() => sorted(rows.filter((person) => !person.own)), [rows]);
  const online = useMemo(() => others.filter((person) => person.online !== false), [others]);
  const wanted = text.normalize("NFKC").trim().toLowerCase();
  const found = useMemo(() => {
    const some = shown === "online" ? online : others;
    return wanted ? some.filter((person) => person.name.includes(wanted)) : some;
  }, [others, online, shown, wanted]);
  const activeIndex = Math.max(0, found.findIndex((person) => person.name === active));

  const open = (person) => go(href("people", person.name));
  const listbox = () => list.current?.querySelector('[role="listbox"]');
  const choose = (value) => {
    localStorage.setItem(SHOWN, value);
    setShown(value);
  };
  useKey((event) => {
    if (event.key === "/") {
      event.preventDefault();
      search.current.focus();
      search.current.select();
    } else if (listbox() && !list.current.contains(event.target) && (event.key === "ArrowDown" || /^[a-z0-9]$/i.test(event.key)) && !event.target.closest?.('[role="menu"], [role="radiogroup"]')) {
      event.preventDefault();
      listbox().focus();
      if (event.key !== "ArrowDown") listbox().dispatchEvent(new KeyboardEvent("keydown", { key: event.key, bubbles: true }));
    }
  });
  const searching = (event) => {
    if (event.key === "ArrowDown" && listbox()) {
      event.preventDefault();
      listbox().focus();
    } else if (event.key === "Enter" && found.length > 0) open(found[activeIndex]);
    else if (event.key === "Escape") {
      setText("");
      event.currentTarget.blur();
    }
  };

  const isLan = useStore((store) => store.health?.registry?.state === "lan");
  const summary = state === "loading" || others.length === 0 ? "" : `${t("people.online", { n: others.filter((person) => person.online).length })} · ${t("people.known", { n: others.length })}`;
  return html`<${Page} title=${t("people.title")} summary=${summary} className="people"
    actions=${!isLan && others.length > 0 && html`<${Button} icon="plus" onClick=${() => show((close) => html`<${Invite} onClose=${close} />`)}>${t("people.invite")}<//>`}>
    <div class="tools" data-sticky>
      <${Search} inputRef=${search} label=${t("people.search")} value=${text} onInput=${setText} onKeyDown=${searching} maxlength="64" aria-keyshortcuts="/" />
      <${Segments} label=${t("people.shown")} value=${shown} onChange=${choose} options=${[
        { value: "online", label: t("people.only_online") }, { value: "all", label: t("people.everyone") }]} />
    </div>
    ${error ? html`<${Notice} kind="warning">${errorText(error)}<//>` : trouble && html`<${Notice} kind="warning">
      <strong>${oldSince ? t("people.old", { time: date(oldSince) }) : t("people.not_listed")}</strong><p>${errorText(trouble)}</p><//>`}
    <p class="unseen" role="status">${wanted && state === "ready" ? t("people.found", { n: found.length }) : ""}</p>
    <div class=${classes("card people-list", oldSince && "old")} ref=${list}>
      ${state === "loading" && found.length === 0 ? html`<${Loading} />` : found.length > 0
        ? html`<${VirtualList} items=${found} keyOf=${(person) => person.name} rowHeight=${isPhone ? ROW_PHONE : ROW} label=${t("people.title")} textOf=${(person) => person.name}
            active=${activeIndex} onActive=${(index) => setActive(found[index].name)} onOpen=${open} onRowClick=${open} hrefOf=${(person) => href("people", person.name)}
            renderRow=${(person) => html`<${Row} person=${person} now=${now} isPhone=${isPhone} />`} />`
        : html`<${Nobody} wanted=${wanted} hasOthers=${others.length > 0} isUnavailable=${state === "unavailable"} isLan=${isLan} onClear=${() => setText("")} onAll=${() => choose("all")} />`}
    </div>
    ${leftOut > 0 && html`<p class="hint people-own">${t("people.left_out", { n: leftOut })}</p>`}
  <//>`;
}

function sorted(people) {
  const { compare } = collator();
  return people.sort((one, other) => ORDER[presence(one)] - ORDER[presence(other)] || compare(one.name, other.name));
}

function Row({ person, now, isPhone }) {
  const state = presence(person);
  return html`<div class=${classes("person-row", state)} data-drop-person=${person.name}>
    <${Avatar} name=${person.name} presence=${state} />
    <span class="person-main"><span class="person-name"><${Name}>${person.name}<//> <${TrustTag} trust=${person.trust} /></span>
      ${person.shares && html`<${Shared} shares=${person.shares} now=${now} />`}</span>
    <span class="person-path">${person.path && html`<${PathTag} path=${person.path} />`}</span>
    <${When} person=${person} now=${now} />
    ${!isPhone && html`<${Icon} name="next" size=${16} />`}
  </div>`;
}

// What they shared when the user looked last: the list itself connects to nobody, because that would tell them who looks.
function Shared({ shares: { names, more, at }, now }) {
  const list = names.map((name, index) => html`${index > 0 && t("common.comma")}<${Name}>${name}<//>`);
  const isOld = now / 1000 - at >= OLD_S;
  return html`<span class="person-shared">${names.length > 0 ? rich("people.shares", { names: [list, more && `${t("common.comma")}…`] }) : t("people.shares_nothing")}${isOld && ` · ${t("people.shares_seen", { ago: ago(at, now) })}`}</span>`;
}

function When({ person, now }) {
  const text = presenceText(person, now);
  if (!person.since) return html`<span class="person-when">${text}</span>`;
  return html`<time class="person-when" dateTime=${new Date(person.since * 1000).toISOString()} title=${date(person.since)}>${text}</time>`;
}

function Nobody({ wanted, hasOthers, isUnavailable, isLan, onClear, onAll }) {
  if (isUnavailable) return html`<${Empty} icon="offline" title=${t("people.unavailable")}>${t("people.unavailable_text")}<//>`;
  if (wanted) {
    return html`<${Empty} icon="search" title=${t("people.none_found", { text: wanted })} actions=${html`<${Button} onClick=${onClear}>${t("people.clear_search")}<//>`}>${t("people.none_found_text")}<//>`;
  }
  if (hasOthers) {
    return html`<${Empty} icon="people" title=${t("people.none_online")} actions=${html`<${Button} onClick=${onAll}>${t("people.show_everyone")}<//>`}>${t("people.none_online_text")}<//>`;
  }
  return html`<${Empty} icon="people" title=${t("people.nobody")}>${isLan ? html`<p>${t("people.nobody_lan")}</p><${OwnName} />` : html`<${HowToInvite} />`}<//>`;
}

function Invite({ onClose }) {
  return html`<${Dialog} title=${t("people.invite_title")} onClose=${onClose}><${HowToInvite} /><//>`;
}

const HowToInvite = () => html`<p>${t("people.nobody_text")}</p><${Command} text=${openCommand("invite")} /><${OwnName} />`;
const OwnName = () => html`<p class="hint people-own">${t("people.nobody_name", { name: currentSession()?.name ?? "" })}</p>`;
