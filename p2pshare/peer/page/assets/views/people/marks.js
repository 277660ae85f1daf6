/** Small marks that tell how a person is reached and what is known of their key. */

import { ago, hasText, span, t } from "../../lib/texts.js";
import { html } from "../../lib/ui.js";
import { Tag } from "../../parts/index.js";

const PATH_ICONS = { direct: "direct", relay: "relay", lan: "lan" };
const TRUST = { compared: ["good", "shield"], changed: ["bad", "warning"], waiting: ["warning", "clock"] }; // "new" and "known" need no mark in a list

/** Return "online", "offline" or "unknown". */
export const presence = (person) => (person.online === null || person.online === undefined ? "unknown" : person.online ? "online" : "offline");

/** How a person is reached: direct, relay or local network; with the carrier if there are several of that kind. */
export function PathTag({ path, withCarrier = false }) {
  const key = `people.paths.${path.kind}`;
  const carrier = withCarrier && path.kind !== "relay" && path.carrier;
  return html`<${Tag} kind=${path.kind === "relay" ? "warning" : "plain"} icon=${PATH_ICONS[path.kind]} title=${t("people.path_title", { carrier: String(path.carrier ?? "").toUpperCase(), address: path.address ?? "" })}>${hasText(key) ? t(key) : path.kind}${carrier && html` · <bdi>${carrier.toUpperCase()}</bdi>`}<//>`;
}

/** A mark for trust that differs from the usual. */
export function TrustTag({ trust, always = false }) {
  if (!(trust in TRUST) && !always) return null;
  const [kind, icon] = TRUST[trust] ?? ["plain", "key"];
  return html`<${Tag} kind=${kind} icon=${icon}>${t(`people.trust.${trust}`)}<//>`;
}

const JUST_S = 60;

/** Presence in words: "Online for 3 hours", "Last seen yesterday". */
export function presenceText(person, nowMs) {
  const state = presence(person);
  const age = person.since ? nowMs / 1000 - person.since : null;
  if (state === "unknown") return t("people.presence_unknown");
  if (state === "online") return age !== null && age >= JUST_S ? t("people.online_for", { span: span(age) }) : t("people.is_online");
  if (age === null) return t("people.is_offline");
  return age < JUST_S ? t("people.just_left") : t("people.offline_since", { ago: ago(person.since, nowMs) });
}
