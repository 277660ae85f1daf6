/** Notifications of the browser for offers that arrive, if the user has asked for them in the Inbox. */

import { listen } from "./live.js";
import { go } from "./route.js";
import { t } from "./texts.js";
import { visible } from "../parts/controls.js";

const CHOICE = "p2pshare.notify"; // "yes" in localStorage if the user wants them
const SEEN_MAX = 1000; // offers that are remembered
const BODY_MAX = 200; // characters
const NOTICES_MAX = 5; // notifications in a minute; strangers may offer much at once
const MINUTE = 60000; // ms

const seen = new Set();
let shown = []; // when, in the last minute

/** Return "unavailable", "denied", "off" or "on". */
export function noticeState() {
  if (!("Notification" in window) || !isSecureContext) return "unavailable";
  if (Notification.permission === "denied") return "denied";
  return Notification.permission === "granted" && localStorage.getItem(CHOICE) === "yes" ? "on" : "off";
}

/** Turn notifications on, after the browser has asked the user, or off; return the new state. Call it from a click only. */
export async function setNotices(wanted) {
  if (wanted && Notification.permission === "default") await Notification.requestPermission();
  localStorage.setItem(CHOICE, wanted ? "yes" : "no");
  return noticeState();
}

/** Show a notification for each new offer from now on. */
export function watchOffers() {
  listen("inbox", (item) => {
    const isNew = item.state === "waiting" || (item.auto && item.state !== "declined");
    if (!isNew || seen.has(item.id)) return;
    seen.add(item.id);
    if (seen.size > SEEN_MAX) seen.delete(seen.values().next().value);
    if (noticeState() === "on" && !(document.hasFocus() && location.hash.startsWith("#/inbox"))) notify(item);
  });
}

function notify(item) {
  const now = Date.now();
  shown = shown.filter((time) => now - time < MINUTE);
  if (shown.length >= NOTICES_MAX) return;
  shown.push(now);
  const names = item.text ? t("inbox.a_text") : item.items.map((one) => one.name).join(t("common.comma"));
  const body = visible([item.note, names].filter(Boolean).join(" – ")).slice(0, BODY_MAX);
  let notice;
  try {
    notice = new Notification(t("inbox.notice", { name: visible(item.from) }), { body, tag: `p2pshare-${item.id}`, icon: new URL("../icon.svg", import.meta.url).href });
  } catch { // browsers of phones let only service workers notify
    return;
  }
  notice.addEventListener("click", () => {
    window.focus();
    go("/inbox");
    notice.close();
  });
}
