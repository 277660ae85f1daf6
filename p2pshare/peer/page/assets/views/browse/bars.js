/** What stands around the entries of a folder: the way to it, filter and order, counts, and what can be done with the selection. */

import { href } from "../../lib/route.js";
import { bytes, t } from "../../lib/texts.js";
import { PHONE, classes, html, useMedia, useMemo } from "../../lib/ui.js";
import { Button, Icon, IconButton, Menu, Name, Search, Segments } from "../../parts/index.js";
import { folderHref, shortened, steps } from "./paths.js";

const STEPS = 6; // folders that breadcrumbs show
const PHONE_STEPS = 3;

/** The way from the person to the folder; each step is a link. */
export function Breadcrumbs({ person, path }) {
  const isPhone = useMedia(PHONE);
  const all = steps(path);
  const last = all.length - 1;
  const step = (each, index, list) => {
    if (each === null) {
      const hidden = all.slice(1, all.length - list.length + 2);
      const items = hidden.map(({ name, path: to }) => ({ label: html`<${Name}>${name}<//>`, icon: "folder", href: folderHref(person, to) }));
      return html`<li key="more"><${Menu} label=${t("browse.more_folders")} items=${items} /></li>`;
    }
    const text = each.path === "" ? html`<${Icon} name="person" size=${18} /><${Name}>${person}<//>` : html`<${Name}>${each.name}<//>`;
    return html`<li key=${each.path}>${each.path === path && last > 0
      ? html`<span aria-current="page">${text}</span>`
      : html`<a href=${each.path === "" && last === 0 ? href("people", person) : folderHref(person, each.path)}>${text}</a>`}</li>`;
  };
  return html`<nav class="browse-crumbs" aria-label=${t("browse.way")}><ol>${shortened(all, isPhone ? PHONE_STEPS : STEPS).map(step)}</ol></nav>`;
}

/** Filter, order and layout. */
export function Toolbar({ search, filter, onFilter, preferences, onPreferences, isBusy, onRefresh, onDown, isMarking, onMark }) {
  const isPhone = useMedia(PHONE);
  const { by, isDescending } = preferences;
  const mark = (isChosen) => (isChosen ? "check" : undefined);
  const items = [
    ...["name", "size", "time"].map((each) => ({ label: t(`browse.by.${each}`), icon: mark(each === by), onClick: () => onPreferences({ by: each, isDescending: each !== "name" }) })),
    null,
    { label: t("browse.ascending"), icon: mark(!isDescending), onClick: () => onPreferences({ isDescending: false }) },
    { label: t("browse.descending"), icon: mark(isDescending), onClick: () => onPreferences({ isDescending: true }) },
    ...(isPhone ? [null, { label: t("browse.refresh"), icon: "retry", onClick: onRefresh }] : []),
  ];
  const other = preferences.layout === "list" ? "grid" : "list";
  const keys = (event) => {
    if (event.key === "Escape" && filter) onFilter("");
    else if (event.key === "ArrowDown" || event.key === "Enter") onDown();
    else return;
    event.preventDefault();
  };
  return html`<div class="browse-toolbar">
    <${Search} label=${t("browse.filter")} value=${filter} onInput=${onFilter} inputRef=${search} onKeyDown=${keys} />
    <div class="browse-tools">
      ${isPhone && html`<${IconButton} icon="check" label=${t("browse.mark")} pressed=${isMarking} onClick=${onMark} />`}
      <${Menu} label=${t("browse.sort")} icon="sort" items=${items} />
      ${isPhone
        ? html`<${IconButton} icon=${other} label=${t(`browse.as_${other}`)} onClick=${() => onPreferences({ layout: other })} />`
        : html`<${IconButton} icon="retry" label=${t("browse.refresh")} aria-busy=${isBusy ? "true" : undefined} className=${isBusy ? "is-busy" : ""} onClick=${onRefresh} />
      <${Segments} label=${t("browse.layout")} value=${preferences.layout} onChange=${(layout) => onPreferences({ layout })}
        options=${[{ value: "list", label: t("browse.as_list"), icon: "list" }, { value: "grid", label: t("browse.as_grid"), icon: "grid" }]} />`}
    </div>
  </div>`;
}

/** The heads of the columns, which sort. */
export function ColumnHeads({ preferences, onSort }) {
  const column = (by) => {
    const isChosen = preferences.by === by;
    const state = isChosen ? (preferences.isDescending ? "descending" : "ascending") : "none";
    return html`<button type="button" class=${classes("browse-column", `by-${by}`)} aria-label=${t(`browse.sort_state.${state}`, { column: t(`browse.by.${by}`) })} onClick=${() => onSort(by)}>
      <span>${t(`browse.by.${by}`)}</span>${isChosen && html`<${Icon} name=${preferences.isDescending ? "down" : "up"} size=${14} />`}</button>`;
  };
  return html`<div class="browse-head" role="group" aria-label=${t("browse.sort")}>${["name", "size", "time"].map(column)}</div>`;
}

/** How many entries there are, and whether more arrive. */
export function Status({ folder, filter }) {
  const { listing, sight } = folder;
  const isReading = listing.state === "reading";
  const count = listing.entries.length;
  const total = useMemo(() => listing.entries.reduce((sum, entry) => sum + (entry.bytes ?? 0), 0), [listing, isReading ? 0 : count]);
  if (count === 0) return html`<p class="browse-status" role="status"></p>`;
  const parts = [];
  if (filter.trim()) parts.push(t("browse.matching", { n: sight.order.length, all: count }));
  else parts.push(isReading ? t("browse.read_so_far", { n: count }) : t("browse.entries", { n: count }));
  if (!isReading && total > 0 && !filter.trim()) parts.push(bytes(total));
  if (listing.isFull) parts.push(t("browse.full", { n: count }));
  return html`<p class="browse-status" role="status">${parts.join(" · ")}</p>`;
}

/** What is selected, and what can be done with it. */
export function SelectionBar({ entries, items, total, onAll, onNone }) {
  const isPhone = useMedia(PHONE);
  const size = entries.reduce((sum, entry) => sum + (entry.bytes ?? 0), 0);
  const [first, ...others] = items;
  return html`<div class="browse-selection" data-sticky-end role="region" aria-label=${t("browse.selection")}>
    <${IconButton} icon="close" label=${t("browse.select_none")} onClick=${onNone} />
    <p>${t("browse.selected", { n: entries.length })}${size > 0 && html` <span class="browse-size-of">${bytes(size)}</span>`}</p>
    ${!isPhone && entries.length < total && html`<${Button} kind="quiet" className="browse-select-all" onClick=${onAll}>${t("browse.select_all")}<//>`}
    <span class="browse-actions">
      <${Button} kind="primary" icon="download" onClick=${first.onClick}>${first.label}<//>
      ${!isPhone && others.map((item) => html`<${Button} key=${item.icon} icon=${item.icon} onClick=${item.onClick}>${item.label}<//>`)}
      ${isPhone && html`<${Menu} label=${t("browse.menu")} items=${entries.length < total ? [...others, null, { label: t("browse.select_all"), icon: "check", onClick: onAll }] : others} />`}
    </span>
  </div>`;
}
