/** The rates of the last minutes, in both directions, as a small graph with the figures beside it. */

import { ask } from "../../lib/api.js";
import { useLive } from "../../lib/live.js";
import { peek } from "../../lib/store.js";
import { rate, t } from "../../lib/texts.js";
import { html, useEffect, useMemo, useReducer, useRef } from "../../lib/ui.js";
import { Icon } from "../../parts/index.js";

const MINUTES = 5;
const SAMPLES = MINUTES * 60; // one per second
const HEIGHT = 100;
const LEAST = 10000; // bytes per second of the full height, so that a trickle looks like one

export function Graph() {
  const samples = useRef({ down: Array(SAMPLES).fill(0), up: Array(SAMPLES).fill(0), fresh: null });
  const [tick, render] = useReducer((count) => count + 1, 0);

  const load = () => ask("traffic").then((reply) => {
    for (const way of ["down", "up"]) samples.current[way] = fit(reply[way]);
    render();
  }, () => {}); // the next stream asks again
  useEffect(() => {
    if (peek().actions) load();
    const timer = setInterval(() => {
      const { fresh } = samples.current;
      for (const way of ["down", "up"]) samples.current[way] = [...samples.current[way].slice(1), fresh?.[way] ?? 0];
      samples.current.fresh = null;
      if (document.visibilityState === "visible") render();
    }, 1000);
    const shown = () => document.visibilityState === "visible" && load(); // timers are late in hidden tabs
    document.addEventListener("visibilitychange", shown);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, []);
  useLive("hello", load);
  useLive("traffic", (traffic) => (samples.current.fresh = traffic));

  const { down, up } = samples.current;
  const shapes = useMemo(() => {
    const most = Math.max(LEAST, ...down, ...up) * 1.05;
    return { down: line(down, most), up: line(up, most), highest: Math.max(...down, ...up) };
  }, [tick]);
  const figures = { down: rate(down.at(-1)), up: rate(up.at(-1)), highest: rate(shapes.highest), minutes: MINUTES };
  return html`<figure class="card transfers-graph">
    <figcaption>
      <span class="graph-figure down"><${Icon} name="download" size=${18} /><span>${t("transfers.graph.down")}</span> <strong data-rate="down">${figures.down}</strong></span>
      <span class="graph-figure up"><${Icon} name="upload" size=${18} /><span>${t("transfers.graph.up")}</span> <strong data-rate="up">${figures.up}</strong></span>
      <span class="graph-scale">${t("transfers.graph.highest", { rate: figures.highest, minutes: MINUTES })}</span>
    </figcaption>
    <svg viewBox=${`0 0 ${SAMPLES - 1} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${t("transfers.graph.label", figures)}>
      <path class="graph-area" d=${`${shapes.down}V${HEIGHT}H0Z`} /><path class="graph-line down" d=${shapes.down} /><path class="graph-line up" d=${shapes.up} />
    </svg>
  </figure>`;
}

const fit = (values) => [...Array(SAMPLES).fill(0), ...values].slice(-SAMPLES);

const line = (values, most) => `M${values.map((value, index) => `${index} ${(HEIGHT * (1 - value / most)).toFixed(1)}`).join("L")}`;
