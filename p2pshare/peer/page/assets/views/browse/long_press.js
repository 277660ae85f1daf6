/** A finger that rests on an element: what the right button is for a mouse. */

import { useMemo } from "../../lib/ui.js";

const REST_MS = 450;
const MOVED_MAX = 10; // px by which a resting finger trembles

/** Return event handlers for an element; `onPress(target)` is called with the element under the finger, and the click that follows is eaten. */
export function useLongPress(onPress) {
  const latest = { current: onPress };
  const state = useMemo(() => ({ timer: 0, x: 0, y: 0, isEating: false, onPress: null }), []);
  state.onPress = latest.current;
  return useMemo(() => {
    const stop = () => clearTimeout(state.timer);
    return {
      onPointerDown: (event) => {
        stop();
        state.isEating = false;
        if (event.pointerType !== "touch" || !event.isPrimary) return;
        Object.assign(state, { x: event.clientX, y: event.clientY });
        const { target } = event;
        state.timer = setTimeout(() => {
          state.isEating = true;
          navigator.vibrate?.(15);
          state.onPress(target);
        }, REST_MS);
      },
      onPointerMove: (event) => {
        if (Math.hypot(event.clientX - state.x, event.clientY - state.y) > MOVED_MAX) stop();
      },
      onPointerUp: stop,
      onPointerCancel: stop,
      onClickCapture: (event) => {
        if (!state.isEating) return;
        state.isEating = false;
        event.preventDefault();
        event.stopPropagation();
      },
    };
  }, []);
}
