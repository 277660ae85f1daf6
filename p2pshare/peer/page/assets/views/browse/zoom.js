/** Zoom of a picture: double click or tap, wheel with Ctrl, two fingers, the keys + and - and 0; drag to move. */

import { latinKey, useEffect, useMemo, useRef, useState } from "../../lib/ui.js";

const MOST = 8; // times the size that fits the window
const STEP = 1.5;
const FITTING = { scale: 1, x: 0, y: 0 };

/** Return `{handlers, style, isZoomed, scale}`; `box` is the picture, null before it is known. */
export function useZoom(box) {
  const [view, setView] = useState(FITTING);
  const latest = useRef(view);
  latest.current = view;
  const state = useMemo(() => ({ fingers: new Map(), before: null }), []);

  const zoom = (factor, center, to = null) => {
    const { scale, x, y } = latest.current;
    const next = Math.max(1, Math.min(MOST, to ?? scale * factor));
    const part = next / scale; // what is under the center stays there
    set(next === 1 ? FITTING : { scale: next, x: center.x - (center.x - x) * part, y: center.y - (center.y - y) * part });
  };
  const set = ({ scale, x, y }) => {
    const { width = 0, height = 0 } = state.area ?? {};
    const within = (value, size) => Math.max((1 - scale) * size / 2, Math.min((scale - 1) * size / 2, value));
    latest.current = { scale, x: within(x, width), y: within(y, height) }; // the picture does not leave the window
    setView(latest.current);
  };
  useEffect(() => {
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, [role=menu]")) return;
      const actions = { "+": () => zoom(STEP, { x: 0, y: 0 }), "=": () => zoom(STEP, { x: 0, y: 0 }), "-": () => zoom(1 / STEP, { x: 0, y: 0 }), 0: () => set(FITTING) };
      const key = latinKey(event);
      if (!(key in actions)) return;
      event.preventDefault();
      actions[key]();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, []);

  const centered = (event, { x, y } = { x: event.clientX, y: event.clientY }) => {
    const area = event.currentTarget.getBoundingClientRect();
    state.area = area;
    return { x: x - area.left - area.width / 2, y: y - area.top - area.height / 2 };
  };
  const spread = () => {
    const [one, other] = [...state.fingers.values()];
    return { width: Math.hypot(one.x - other.x, one.y - other.y), x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 };
  };
  const handlers = {
    onDblClick: (event) => zoom(1, centered(event), latest.current.scale > 1 ? 1 : 3),
    onWheel: (event) => {
      if (!event.ctrlKey && latest.current.scale === 1) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), centered(event));
    },
    onPointerDown: (event) => {
      if (event.target.closest("button, a")) return;
      state.area = event.currentTarget.getBoundingClientRect();
      state.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (latest.current.scale > 1 || state.fingers.size > 1) event.currentTarget.setPointerCapture(event.pointerId);
      state.before = state.fingers.size === 2 ? spread() : null;
    },
    onPointerMove: (event) => {
      const finger = state.fingers.get(event.pointerId);
      if (!finger) return;
      const [dx, dy] = [event.clientX - finger.x, event.clientY - finger.y];
      state.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (state.fingers.size === 2 && state.before) {
        const now = spread();
        zoom(now.width / Math.max(1, state.before.width), centered(event, now));
        state.before = now;
      } else if (latest.current.scale > 1) set({ ...latest.current, x: latest.current.x + dx, y: latest.current.y + dy });
    },
    onPointerUp: (event) => state.fingers.delete(event.pointerId),
    onPointerCancel: (event) => state.fingers.delete(event.pointerId),
  };
  return {
    handlers, scale: view.scale, isZoomed: view.scale > 1,
    style: { transform: view.scale > 1 ? `translate(${view.x}px, ${view.y}px) scale(${view.scale})` : undefined },
  };
}
