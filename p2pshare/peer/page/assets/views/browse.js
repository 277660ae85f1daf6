/**
 * The files of a person: `#/people/NAME/files/PATH`, with `?show=FILE` while the viewer is open.
 *
 *     browse/folder.js        what is read, in which order (listing.js, sorter.js and its worker)
 *     browse/selection.js     what is selected (selecting.js keeps it for a folder)
 *     browse/entries.js       the list or grid, its keys and clicks (rows.js, thumbnail.js)
 *     browse/bars.js          breadcrumbs, filter, sort, and what can be done with the selection (downloads.js)
 *     browse/viewer.js        the viewer (picture.js, text.js, media.js, card.js)
 *
 * This module puts them together. The viewer is loaded when the first entries are there, so that they are there sooner. Each folder has its own
 * state; the layout is the same for all (preferences.js).
 */

import { ask } from "../lib/api.js";
import { useLive } from "../lib/live.js";
import { go } from "../lib/route.js";
import { currentLanguage, errorText, t } from "../lib/texts.js";
import { html, useEffect, useKey, useLayoutEffect, useMemo, useReducer, useRef, useState } from "../lib/ui.js";
import { Button, Empty, Loading, Menu, Name, Notice, Page, announce, toast, visible } from "../parts/index.js";
import { Breadcrumbs, ColumnHeads, SelectionBar, Status, Toolbar } from "./browse/bars.js";
import { downloadItems } from "./browse/downloads.js";
import { Entries } from "./browse/entries.js";
import { Folder } from "./browse/folder.js";
import { LeftOut } from "./browse/left_out.js";
import { baseName, folderHref, join, parent } from "./browse/paths.js";
import { sortedBy, usePreferences } from "./browse/preferences.js";
import { remember, useSelection } from "./browse/selecting.js";
import { all, none } from "./browse/selection.js";
import { retryThumbnails } from "./browse/thumbnail.js";

const LOOK_MS = 15000; // between two looks whether the folder has changed

let focusList = false; // the next folder was opened from the list, which keeps the focus

export default function View({ parameters: { name, path, query } }) {
  return html`<${FolderView} key=${path} person=${name} path=${path} shown=${query.show ?? null} />`;
}

function FolderView({ person, path, shown }) {
  const [preferences, change] = usePreferences();
  const [filter, setFilter] = useState("");
  const [isMarking, setMarking] = useState(false);
  const folder = useFolder(person, path, { by: preferences.by, isDescending: preferences.isDescending, filter });
  const { sight, listing } = folder;
  const selecting = useSelection(sight, `${person}/${path}`);
  const { selection, select, reveal } = selecting;
  const search = useRef(null);
  const openedFrom = useRef(null);
  const isOffline = useOffline(person);
  const Viewer = useViewer(listing.entries.length > 0, shown);
  const isFile = listing.error?.error === "RemoteIsFile"; // a link to a file: its folder is shown, with the file in the viewer
  useEffect(() => void (isFile && go(folderHref(person, parent(path), { show: baseName(path) }), { replace: true })), [isFile]);
  useFocus(path);
  useKey((event) => {
    const isAtTop = hasNoFocus() || document.activeElement.tagName === "H1"; // as after a link: the next step leads into the list
    if (event.key === "/") search.current?.focus();
    else if (event.key === "ArrowDown" && isAtTop) document.querySelector(".browse [data-virtual]")?.focus();
    else return;
    event.preventDefault();
  });

  const openFolder = (to, remembered = null) => {
    focusList = Boolean(document.activeElement?.closest("[data-virtual]"));
    if (remembered !== null) remember(`${person}/${to}`, remembered);
    go(folderHref(person, to));
  };
  const refresh = () => {
    retryThumbnails();
    folder.refresh();
  };
  const goUp = () => path !== "" && openFolder(parent(path), baseName(path));
  const open = (id) => {
    const entry = sight.entries[id];
    remember(`${person}/${path}`, entry.name);
    select((now) => ({ ...now, active: id }));
    if (entry.kind === "folder") openFolder(join(path, entry.name));
    else {
      openedFrom.current = entry.name;
      go(folderHref(person, path, { show: entry.name }));
    }
  };
  const closeViewer = (name) => {
    const id = sight.entries.findIndex((entry) => entry.name === name);
    if (id >= 0) reveal((now) => ({ ...now, active: id }));
    if (openedFrom.current === null) go(folderHref(person, path), { replace: true });
    else history.back();
    openedFrom.current = null;
  };
  const count = selection.chosen.size;
  const stopMarking = () => {
    setMarking(false);
    select(none);
  };
  const chosen = useMemo(() => {
    const found = [];
    if (selection.chosen.size > 0) for (const id of sight.order) if (selection.chosen.has(id)) found.push(sight.entries[id]);
    return found;
  }, [sight, selection.chosen]);
  const isAll = count > 0 && count === listing.entries.length && listing.state === "ready";
  const menuItems = () => downloadItems(person, path, chosen, isAll);
  const whole = path ? downloadItems(person, "", [{ name: path, kind: "folder" }]) : downloadItems(person, "", listing.entries);
  const title = path ? html`<${Name}>${baseName(path)}<//>` : t("browse.title", { name: person });

  return html`<${Page} title=${title} wide className="browse" actions=${listing.entries.length > 0 && html`
      <${Menu} label=${t("browse.download_folder")} text=${t("browse.download_all")} items=${whole} />`}>
    <${Breadcrumbs} person=${person} path=${path} />
    <${Troubles} person=${person} folder=${folder} onUp=${path ? goUp : null} />
    ${isOffline && !listing.error && html`<${Notice} kind="warning"><p>${t("browse.is_offline", { name: person })}
      ${listing.entries.length > 0 ? t("browse.was_there") : t("browse.comes_back", { name: person })}</p><//>`}
    <${LeftOut} listing=${listing} />
    ${(listing.entries.length > 0 || !listing.error) && html`<div class="browse-top" data-sticky>
      <${Toolbar} search=${search} filter=${filter} onFilter=${setFilter} preferences=${preferences} onPreferences=${change} isBusy=${folder.isRefreshing}
        onRefresh=${refresh} onDown=${() => document.querySelector(".browse [data-virtual]")?.focus()}
        isMarking=${isMarking || count > 0} onMark=${() => (isMarking || count > 0 ? stopMarking() : setMarking(true))} />
      ${preferences.layout === "list" && sight.order.length > 0 && html`<${ColumnHeads} preferences=${preferences} onSort=${(by) => change(sortedBy(by, preferences))} />`}
    </div>`}
    ${sight.order.length > 0 && html`<${Entries} key=${preferences.layout} person=${person} path=${path} sight=${sight} folder=${folder} preferences=${preferences} selecting=${selecting}
      isMarking=${isMarking} autoFocus=${focusList && hasNoFocus()} onOpen=${open} onUp=${goUp} menuItems=${menuItems} />`}
    <${Nothing} folder=${folder} filter=${filter} path=${path} onClear=${() => setFilter("")} />
    <${Status} folder=${folder} filter=${filter} />
    ${count > 0 && html`<${SelectionBar} entries=${chosen} items=${menuItems()} total=${sight.order.length}
      onAll=${() => select((now) => all(now, sight))} onNone=${stopMarking} />`}
    ${Viewer && shown !== null && listing.entries.length > 0 && html`<${Viewer} person=${person} path=${path} sight=${sight} name=${shown} isReading=${listing.state === "reading"}
      onShow=${(name) => go(folderHref(person, path, { show: name }), { replace: true })} onClose=${closeViewer} />`}
  <//>`;
}

/** The folder, read while the view is open, in the wanted arrangement. */
function useFolder(person, path, arrangement) {
  const [, render] = useReducer((count) => count + 1, 0);
  const folder = useMemo(() => new Folder(person, path, { ask, language: currentLanguage(), arrangement, onChange: render }), [person, path]);
  useEffect(() => () => folder.close(), [folder]);
  const { by, isDescending, filter } = arrangement;
  const isFirst = useRef(true);
  useEffect(() => {
    if (!isFirst.current) folder.arrange({ by, isDescending, filter });
    isFirst.current = false;
  }, [by, isDescending, filter]);

  const again = () => (folder.listing.state === "failed" ? folder.refresh() : folder.look());
  useLive("hello", again);
  useLive("person", (found) => {
    if (found.name !== person || !found.online) return;
    retryThumbnails();
    again();
  });
  useEffect(() => {
    const look = () => document.visibilityState === "visible" && (isUnreachable(folder) ? folder.refresh() : folder.look());
    const timer = setInterval(look, LOOK_MS);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [folder]);
  return folder;
}

let loadedViewer = null;

/** The viewer, or null until it is loaded; a load that has failed is tried again with the next file. */
function useViewer(isWanted, shown) {
  const [, render] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    if (!isWanted || loadedViewer) return;
    import("./browse/viewer.js").then((module) => {
      loadedViewer = module.Viewer;
      render();
    }, (error) => shown !== null && toast(errorText(error), { kind: "bad" }));
  }, [isWanted, shown]);
  return loadedViewer;
}

/** Whether the person has gone offline. */
function useOffline(person) {
  const [isOffline, setOffline] = useState(false);
  useEffect(() => {
    let isWanted = true;
    ask("person", { name: person }).then((found) => isWanted && setOffline(found.online === false), () => {});
    return () => (isWanted = false);
  }, [person]);
  useLive("person", (found) => found.name === person && setOffline(found.online === false));
  return isOffline;
}

const isUnreachable = ({ listing }) => listing.state === "failed" && listing.error.exitCode === 5;

const hasNoFocus = () => !document.activeElement || document.activeElement.matches("body, main, h1"); // those got it when the element with it went

/** A folder that is opened from the list keeps the focus there; from a breadcrumb that is gone, it goes to the heading. */
function useFocus(path) {
  useLayoutEffect(() => {
    if (!focusList && hasNoFocus()) document.querySelector("#main h1")?.focus({ preventScroll: true });
    announce(path ? visible(baseName(path)) : "");
    const timer = setTimeout(() => (focusList = false), LOOK_MS);
    return () => clearTimeout(timer);
  }, []);
}

/** What went wrong, as a sentence, and what to do. */
function Troubles({ person, folder, onUp }) {
  const error = folder.listing.error ?? folder.refreshError;
  if (!error) return null;
  const isPartial = folder.listing.entries.length > 0;
  const actions = html`<${Button} icon="retry" busy=${folder.listing.state === "reading"} onClick=${() => folder.refresh()}>${t("common.try_again")}<//>
    ${onUp && error.exitCode === 4 && html`<${Button} icon="up" onClick=${onUp}>${t("browse.up")}<//>`}`;
  return html`<${Notice} kind="bad" actions=${actions}><p>${errorText(error)}</p>${isPartial && html`<p>${t("browse.partial", { n: folder.listing.entries.length })}</p>`}
    ${!isPartial && error.exitCode === 5 && html`<p>${t("browse.comes_back", { name: person })}</p>`}<//>`;
}

function Nothing({ folder, filter, path, onClear }) {
  const { listing, sight } = folder;
  if (sight.order.length > 0 || listing.error) return null;
  if (listing.state === "reading" && listing.entries.length === 0) return html`<${Loading} label=${t("browse.reading")} />`;
  if (listing.entries.length > 0 && filter.trim() && sight.places.length > 0) {
    return html`<${Empty} icon="filter" title=${t("browse.no_match")} actions=${html`<${Button} onClick=${onClear}>${t("browse.clear_filter")}<//>`} />`;
  }
  if (listing.state !== "ready" || listing.entries.length > 0) return null;
  return html`<${Empty} icon="folder" title=${t(path ? "browse.empty" : "browse.no_shares")}>${path ? null : t("browse.no_shares_text")}<//>`;
}
