/**
 * Which small pictures are fetched next, without the document.
 *
 * The browser opens six connections to the peer, and one of them carries events. So few pictures are fetched at once, and the newest request is
 * first: that is what the user looks at now. A row that is scrolled away takes its request back.
 */

export const FETCHED_AT_ONCE = 4;
const REST_AFTER_FAILURE_MS = 60000; // a picture without a preview is not asked for with each scroll
const KNOWN_MAX = 4000; // addresses of pictures that the browser has already

export class ThumbnailQueue {
  constructor(atOnce = FETCHED_AT_ONCE) {
    this.atOnce = atOnce;
    this.waiting = []; // the newest at the end
    this.running = new Set();
    this.known = new Set();
    this.isPaused = false;
    this.failed = new Map(); // from an address to the time in ms until which it is not asked for again
  }

  /** Whether an address has failed a short time ago. */
  hasFailed(address, nowMs) {
    return (this.failed.get(address) ?? 0) > nowMs;
  }

  /** Forget what has failed. */
  forgive() {
    this.failed.clear();
  }

  /** Remember that an address has failed. */
  fail(address, nowMs) {
    if (this.failed.size >= KNOWN_MAX) this.failed.delete(this.failed.keys().next().value);
    this.failed.set(address, nowMs + REST_AFTER_FAILURE_MS);
  }

  /** Whether the browser got this address before, so that it needs no turn. */
  isKnown(address) {
    return this.known.has(address);
  }

  /**
   * Call `begin` when it is the turn of an address, and `halt` if the fetch has to wait again. Returns `{done, cancel}`: call `done(isGood)` when
   * the picture has arrived or failed, `cancel()` when it is not wanted any more.
   */
  request(address, begin, halt = () => {}) {
    const turn = { address, begin, halt };
    this.waiting.push(turn);
    this.advance();
    const leave = () => {
      const at = this.waiting.indexOf(turn);
      if (at >= 0) this.waiting.splice(at, 1);
      if (this.running.delete(turn)) this.advance();
    };
    const done = (isGood) => {
      if (isGood && this.running.has(turn)) this.learn(address);
      leave();
    };
    return { done, cancel: leave };
  }

  /** Halt all fetches and begin none for a while, or go on. */
  pause(isPaused) {
    this.isPaused = isPaused;
    for (const turn of isPaused ? this.running : []) {
      this.running.delete(turn);
      this.waiting.push(turn);
      turn.halt();
    }
    this.advance();
  }

  learn(address) {
    if (this.known.size >= KNOWN_MAX) this.known.delete(this.known.values().next().value);
    this.known.add(address);
  }

  advance() {
    while (!this.isPaused && this.running.size < this.atOnce && this.waiting.length) {
      const turn = this.waiting.pop();
      this.running.add(turn);
      turn.begin();
    }
  }
}
