/** A finger that wipes over the viewer: to the left goes to the next file, to the right to the one before. */

import { useMemo } from "../../lib/ui.js";

const LENGTH_MIN = 50; // px
const SLOPE_MAX = 0.6; // height of a swipe, as a part of its length

/** Return event handlers for an element; `onSwipe(1)` is a swipe to the left, `onSwipe(-1)` to the right. */
export function useSwipe(onSwipe) {
  const state = useMemo(() => ({ begin: null }), []);
  state.onSwipe = onSwipe;
  return useMemo(() => ({
    onTouchStart: (event) => {
      const [finger] = event.touches;
      const isOwn = event.touches.length === 1 && !event.target.closest("audio, video, input, [data-zoomed]");
      state.begin = isOwn ? { x: finger.clientX, y: finger.clientY } : null;
    },
    onTouchEnd: (event) => {
      if (!state.begin) return;
      const [finger] = event.changedTouches;
      const [x, y] = [finger.clientX - state.begin.x, finger.clientY - state.begin.y];
      state.begin = null;
      if (Math.abs(x) >= LENGTH_MIN && Math.abs(y) <= Math.abs(x) * SLOPE_MAX) state.onSwipe(x < 0 ? 1 : -1);
    },
    onTouchCancel: () => (state.begin = null),
  }), []);
}
