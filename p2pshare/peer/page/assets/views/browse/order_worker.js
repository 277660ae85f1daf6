/**
 * Runs `Order` in a thread of its own, so that 100 000 names are sorted while the page scrolls.
 *
 * Messages in: `{do: "begin", language}`, `{do: "add", names, sizes, times, folders}`, `{do: "sort", turn, by, isDescending, filter}`,
 * `{do: "find", turn, text, from}`. Messages out: `{turn, order, places}`, where `places` is the place of each id (or `NOWHERE`), and
 * `{turn, place}`.
 */

import { Order } from "./order.js";

const NOWHERE = 0xffffffff;

let all = null;
let shown = new Uint32Array(0);

const tasks = {
  begin({ language }) {
    all = new Order(language);
  },
  add(columns) {
    all.add(columns);
  },
  sort({ turn, by, isDescending, filter }) {
    shown = all.sorted(by, isDescending, filter);
    const places = new Uint32Array(all.names.length).fill(NOWHERE);
    shown.forEach((id, place) => (places[id] = place));
    const order = shown.slice();
    postMessage({ turn, order, places }, [order.buffer, places.buffer]);
  },
  find({ turn, text, from }) {
    postMessage({ turn, place: all.find(text, shown, from) });
  },
};

addEventListener("message", ({ data }) => tasks[data.do](data));
