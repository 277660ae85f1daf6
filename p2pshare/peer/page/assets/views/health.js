/**
 * Health: whether the registry answers, how others reach this machine, what to do about it, and the way to one person.
 *
 * The peer reports codes and values (`health` and `path` in docs/control.md); the words are here. Nothing is asked of anybody to show the
 * first part. The path to a person is tried when the reader asks for it.
 */

import { ask } from "../lib/api.js";
import { useLive } from "../lib/live.js";
import { useCollection, useStore } from "../lib/store.js";
import { collator, date, enumeration, errorText, number, span, t } from "../lib/texts.js";
import { classes, html, useEffect, useId, useMemo, useNow, useState } from "../lib/ui.js";
import { Button, Icon, Loading, Notice, Page } from "../parts/index.js";
import { Advice, Report } from "./health/path_report.js";

const ICONS = { good: "check", warning: "warning", bad: "warning", plain: "info" };

export default function Health() {
  const stored = useStore((store) => store.health);
  const [asked, setAsked] = useState(null);
  const [error, setError] = useState(null);
  const load = () => ask("health").then((found) => {
    setAsked(found);
    setError(null);
  }, setError);
  useEffect(() => void load(), []);
  useLive("hello", load);
  useLive("health", setAsked);
  const health = asked ?? stored;
  return html`<${Page} title=${t("health.title")} summary=${health ? summary(health) : ""} className="health">
    ${error && html`<${Notice} kind="bad" actions=${html`<${Button} onClick=${load}>${t("common.try_again")}<//>`}>${errorText(error)}<//>`}
    ${health === null ? !error && html`<${Loading} />` : html`<${Checks} health=${health} /><${Advices} health=${health} /><${PathTo} health=${health} /><${Details} health=${health} />`}
  <//>`;
}

function summary(health) {
  const worst = checksOf(health).map((check) => check.state);
  if (worst.includes("bad")) return t("health.summary_bad");
  return worst.includes("warning") ? t("health.summary_warning") : t("health.summary_good");
}

// What works and what does not

function Checks({ health }) {
  const now = useNow();
  return html`<ul class="card health-checks" aria-label=${t("health.checks")}>
    ${checksOf(health).map(({ id, state, title, text, since }) => html`<li key=${id} class=${classes("health-check", state)} data-check=${id} data-state=${state}>
      <span class="health-icon"><${Icon} name=${ICONS[state]} label=${t(`health.state.${state}`)} /></span>
      <div><h2>${title}</h2><p>${text}${since && now / 1000 - since >= 60 ? html` <span class="hint">${t("health.since", { span: span(now / 1000 - since) })}</span>` : ""}</p></div></li>`)}
  </ul>`;
}

function checksOf(health) {
  return [registryCheck(health), reachCheck(health), !health.lan && !health.loopback && udpCheck(health), !health.lan && relayCheck(health)].filter(Boolean);
}

function registryCheck({ registry, online, elsewhere }) {
  const check = (state, key, values) => ({ id: "registry", state, title: t(`health.registry.${key}_title`), text: t(`health.registry.${key}_text`, values), since: registry.since });
  const url = registry.url;
  switch (registry.state) {
    case "lan": return registry.trouble ? { ...check("warning", "lan_trouble", {}), text: errorText(registry.trouble) } : check("good", "lan", {});
    case "away": return check("bad", "away", { url });
    case "elsewhere": return { ...check("bad", "elsewhere", {}), text: elsewhere?.address ? t("health.registry.elsewhere_at_text", { address: elsewhere.address }) : t("health.registry.elsewhere_text") };
    case "starting": return check("warning", "starting", { url });
    default: return online ? check("good", "ok", { url }) : check("warning", "late", { url });
  }
}

function reachCheck(health) {
  const check = (state, key, values = {}) => ({ id: "reach", state, title: t(`health.reach.${key}_title`), text: t(`health.reach.${key}_text`, values) });
  if (health.private) return check("plain", "private");
  if (health.loopback) return check("plain", "loopback");
  if (health.addresses.length === 0) return check("bad", "no_network");
  if (health.lan) return check("good", "lan");
  if (health.port_mapping.forwarded.length > 0) return check("good", "forwarded", { address: health.port_mapping.forwarded[0] });
  switch (health.nat.mapping) {
    case "none": return check("good", "open");
    case "independent": return check("good", "punching", { address: enumeration(health.nat.seen) });
    case "dependent": return check("warning", "symmetric", { address: enumeration(health.nat.seen) });
    case "blocked": return check("warning", "blocked");
    default: return check("plain", "unknown");
  }
}

function udpCheck({ udp }) {
  const state = { ok: "good", blocked: "warning", unknown: "plain" }[udp.state];
  return { id: "udp", state, title: t(`health.udp.${udp.state}_title`), text: t(`health.udp.${udp.state}_text`) };
}

function relayCheck({ registry }) {
  if (registry.relay === null || registry.state === "away") return null; // that it is away says enough
  const key = !registry.relay ? "none" : registry.calls ? "ok" : "no_calls";
  const state = { ok: "good", none: "warning", no_calls: "warning" }[key];
  return { id: "relay", state, title: t(`health.relay.${key}_title`), text: t(`health.relay.${key}_text`) };
}

// What to do

function Advices({ health }) {
  if (health.advice.length === 0) return "";
  return html`<section class="card padded health-advice"><h2>${t("health.advice_title")}</h2>
    <ul>${health.advice.map((advice) => html`<${Advice} key=${advice.code} advice=${advice} port=${health.port} />`)}</ul></section>`;
}

// The way to one person

function PathTo({ health }) {
  const { rows } = useCollection("people");
  const [name, setName] = useState("");
  const [state, setState] = useState({});
  const id = useId();
  const names = useMemo(() => rows.filter((person) => !person.own && person.online !== false).map((person) => person.name).sort(collator().compare), [rows]);
  const run = async (event) => {
    event.preventDefault();
    setState({ isBusy: true });
    try {
      setState({ report: await ask("path", { name: name.trim() }) });
    } catch (error) {
      setState({ error });
    }
  };
  return html`<section class="card padded health-path"><h2>${t("health.path_title")}</h2><p class="hint">${t("health.path_text")}</p>
    <form onSubmit=${run}><div class="field"><label for=${id}>${t("health.path_name")}</label>
      <input id=${id} list=${`${id}-names`} value=${name} maxlength="32" autocapitalize="none" autocomplete="off" spellcheck=${false} onInput=${(event) => setName(event.currentTarget.value)} />
      <datalist id=${`${id}-names`}>${names.slice(0, 200).map((each) => html`<option key=${each} value=${each}></option>`)}</datalist></div>
      <${Button} type="submit" icon="search" busy=${state.isBusy} disabled=${!name.trim()}>${t("health.path_run")}<//></form>
    <div role="status">${state.isBusy && html`<${Loading} label=${t("health.path_busy")} />`}
      ${state.error && html`<${Notice} kind="bad">${errorText(state.error)}<//>`}${state.report && html`<${Report} report=${state.report} port=${health.port} />`}</div>
  </section>`;
}

// For those who want to know it all

function Details({ health }) {
  const nat = `health.nat.${health.nat.mapping}`;
  const row = (label, value) => html`<dt>${label}</dt><dd>${value}</dd>`;
  const codes = (texts) => (texts.length === 0 ? t("health.none") : texts.map((text, index) => html`${index > 0 && t("common.comma")}<code dir="ltr" key=${text}>${text}</code>`));
  return html`<details class="card padded health-details"><summary><h2>${t("health.details")}</h2></summary><dl class="facts">
    ${!health.lan && row(t("health.detail.registry"), codes([health.registry.url]))}
    ${health.registry.key && row(t("health.detail.registry_key"), html`<code dir="ltr">${health.registry.key.replace(/(.{4})/g, "$1 ")}</code>`)}
    ${health.registry.trouble && row(t("health.detail.trouble"), errorText(health.registry.trouble))}
    ${health.since !== null && row(t("health.detail.since"), date(health.since))}
    ${row(t("health.detail.addresses"), codes(health.addresses.map((each) => `${each.ip} (${each.interface})`)))}
    ${row(t("health.detail.port"), health.port === null ? t("health.none") : number(health.port, { useGrouping: false }))}
    ${!health.lan && row(t("health.detail.nat"), t(nat))}
    ${!health.lan && row(t("health.detail.seen"), codes(health.nat.seen))}
    ${row(t("health.detail.candidates"), codes(health.candidates))}
    ${health.udp.servers.length > 0 && row(t("health.detail.servers"), codes(health.udp.servers))}
    ${row(t("health.detail.forwarded"), health.port_mapping.forwarded.length > 0 ? codes(health.port_mapping.forwarded) : health.port_mapping.wanted ? t("health.detail.not_forwarded") : t("health.detail.not_wanted"))}
    ${row(t("health.detail.sessions"), number(health.sessions))}</dl></details>`;
}
