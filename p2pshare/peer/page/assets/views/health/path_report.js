/**
 * The report on the way to a person in words, and advice with the steps that it takes; used by Health and by the view of a person.
 */

import { ask } from "../../lib/api.js";
import { href } from "../../lib/route.js";
import { enumeration, errorText, hasText, number, t } from "../../lib/texts.js";
import { html, useEffect, useState } from "../../lib/ui.js";
import { Command, Loading, Name, Notice } from "../../parts/index.js";

const style = document.createElement("link"); // two views use it, so it comes with the module
style.rel = "stylesheet";
style.href = new URL("./path_report.css", import.meta.url);
document.head.append(style);

const PORT_SHOWN = "PORT"; // in commands, when the peer has no port yet

/** Tries the way to a person as soon as it is shown, and says how it went. */
export function PathReport({ name }) {
  const [state, setState] = useState({});
  useEffect(() => {
    let isWanted = true;
    const keep = (found) => isWanted && setState(found);
    setState({});
    ask("path", { name }).then((report) => keep({ report }), (error) => keep({ error }));
    return () => (isWanted = false);
  }, [name]);
  return html`<div class="health" role="status">${!state.report && !state.error && html`<${Loading} label=${t("health.path_busy")} />`}
    ${state.error && html`<${Notice} kind="bad">${errorText(state.error)}<//>`}
    ${state.report && html`<${Report} report=${state.report} port=${portOf(state.report)} />`}</div>`;
}

const portOf = ({ network }) => (network.address ? Number(network.address.split(":").at(-1)) : null);

/** What the action `path` has found. */
export function Report({ report, port }) {
  const how = report.via === null ? "none" : report.via === "relay" ? "relay" : "direct";
  const values = { name: report.peer, address: report.address ?? "", carrier: (report.via ?? "").toUpperCase(), ms: number(Math.round(report.ms ?? 0)) };
  return html`<div class="health-report"><${Notice} kind=${how === "direct" ? "good" : how === "relay" ? "warning" : "bad"}>
      <p>${t(`health.path.${how}`, values)}</p>${report.error && html`<p>${errorText(report.error)}</p>`}
      ${report.began_on_relay && html`<p>${t("health.path.moved")}</p>`}<//>
    ${report.advice.length > 0 && html`<ul class="health-advice-list">${report.advice.map((advice) => html`<${Advice} key=${advice.code} advice=${advice} port=${port} />`)}</ul>`}
    ${report.tried.length > 0 && html`<details class="health-how"><summary>${t("health.tried", { n: report.tried.length })}</summary>
      <div class="health-scroll" tabindex="0" role="region" aria-label=${t("health.tried", { n: report.tried.length })}><table><thead><tr><th scope="col">${t("health.tried_way")}</th><th scope="col">${t("health.tried_address")}</th><th scope="col">${t("health.tried_result")}</th></tr></thead>
      <tbody>${report.tried.map((each, index) => html`<tr key=${index}><td>${each.via.toUpperCase()}</td><td><code dir="ltr"><${Name}>${each.address}<//></code></td>
        <td>${result(each)}</td></tr>`)}</tbody></table></div></details>`}</div>`;
}

function result(tried) {
  if (tried.outcome === "used") return t("health.tried_used", { ms: Math.round(tried.answered_ms ?? 0) });
  if (tried.answered_ms !== null) return t("health.tried_answered", { ms: Math.round(tried.answered_ms) });
  return html`<${Name}>${tried.outcome ?? t("health.tried_running")}<//>`;
}

/** One piece of advice: the words, and how it is done. */
export function Advice({ advice, port }) {
  const key = `health.advice.${advice.code}`;
  const values = { ...advice, port: number(port ?? 0, { useGrouping: false }), servers: enumeration(advice.servers ?? []) };
  const needsPort = ["symmetric_nat", "independent_nat", "path_open_port"].includes(advice.code) && advice.nat !== false;
  const needsFirewall = ["no_nat", "path_open_port"].includes(advice.code);
  return html`<li data-advice=${advice.code}><p>${hasText(key) ? t(key, values) : advice.code}</p>
    ${needsPort && html`<${HowTo} title=${t("health.forward_title")}><ol>
      <li>${t("health.forward_1")}</li><li>${t("health.forward_2", { port: values.port })}</li><li>${t("health.forward_3")}</li></ol>
      <p><a href=${href("settings")}>${t("health.to_settings")}</a></p><//>`}
    ${needsFirewall && html`<${HowTo} title=${t("health.firewall_title")}><p>${t("health.firewall_text")}</p>
      <p>ufw</p><${Command} text=${`sudo ufw allow ${port ?? PORT_SHOWN}`} />
      <p>firewalld</p><${Command} text=${`sudo firewall-cmd --permanent --add-port=${port ?? PORT_SHOWN}/tcp --add-port=${port ?? PORT_SHOWN}/udp && sudo firewall-cmd --reload`} /><//>`}
  </li>`;
}

function HowTo({ title, children }) {
  return html`<details class="health-how"><summary>${title}</summary><div>${children}</div></details>`;
}
