/**
 * A folder of a person as the view shows it: its entries, their order, and what is read anew in the background.
 *
 * A `Listing` brings the entries, a `Sorter` their order. A folder that has changed is read again beside the one that is shown, and takes its place
 * when it is complete; ids are then new ones, so `generation` grows, and the view finds what was selected by its name.
 *
 *     listing ──entries──► sorter ──order, places──► sight (what the view shows)
 */

import { Listing } from "./listing.js";
import { Sorter } from "./sorter.js";

const SETTLE_MS = 120; // between two sorts while pages arrive

const EMPTY = { entries: [], order: new Uint32Array(0), places: new Uint32Array(0), generation: 0 };

export class Folder {
  /** Begin to read. `arrangement` is `{by, isDescending, filter}`; `onChange()` is called when there is something new to show. */
  constructor(person, path, { ask, language, arrangement, onChange }) {
    Object.assign(this, { person, path, askPeer: ask, language, arrangement, onChange });
    this.sight = EMPTY;
    this.isRefreshing = false;
    this.refreshError = null;
    this.hasEnded = false;
    this.isLooking = false;
    this.shown = this.begin();
    this.next = null;
  }

  /** The listing that is shown. */
  get listing() {
    return this.shown.listing;
  }

  /** Sort or filter in another way. */
  arrange(arrangement) {
    this.arrangement = arrangement;
    this.sort(this.shown);
    if (this.next) this.sort(this.next);
  }

  /** Return the place of the next name that begins with a text. */
  find(text, from) {
    return this.shown.sorter.find(text, from);
  }

  /** Read the folder again: what failed goes on, what is shown is replaced when the new one is complete. */
  refresh() {
    if (this.listing.state === "failed") this.listing.retry();
    else if (this.listing.state === "ready" && !this.next) {
      this.isRefreshing = true;
      this.refreshError = null;
      this.next = this.begin();
      this.onChange();
    }
  }

  /** Read again if the folder has changed. */
  async look() {
    if (this.next || this.isLooking) return; // a person far away may answer later than the next look
    this.isLooking = true;
    const { listing } = this;
    const hasChanged = await listing.look();
    this.isLooking = false;
    if (hasChanged && listing === this.listing && !this.hasEnded) this.refresh();
  }

  /** Stop everything. */
  close() {
    this.hasEnded = true;
    for (const source of [this.shown, this.next]) source && end(source);
  }

  begin() {
    const source = { listing: null, sorter: new Sorter(this.language), added: 0, isSorting: false, isDirty: false, sight: EMPTY, sortedAs: null };
    source.listing = new Listing(this.person, this.path, { ask: this.askPeer, onChange: () => this.arrived(source) });
    source.listing.read();
    return source;
  }

  arrived(source) {
    const { listing } = source;
    if (listing.entries.length > source.added) {
      source.sorter.add(listing.entries.slice(source.added));
      source.added = listing.entries.length;
      this.sort(source);
    }
    if (source === this.next && listing.state === "failed") {
      this.refreshError = listing.error;
      this.dropNext();
    }
    this.settle(source);
    if (!this.hasEnded) this.onChange();
  }

  async sort(source) {
    source.isDirty = true;
    if (source.isSorting) return;
    source.isSorting = true;
    try {
      while (source.isDirty && !this.hasEnded) await this.sortOnce(source);
    } catch (error) { // a browser without workers of modules
      this.refreshError = error;
      this.onChange();
    } finally {
      source.isSorting = false; // in one step with the last look at `isDirty`: nobody can ask in between
    }
  }

  async sortOnce(source) {
    source.isDirty = false;
    const { arrangement } = this;
    const { order, places } = await source.sorter.sort(arrangement);
    source.sight = { entries: source.listing.entries, order, places, generation: source.sight.generation };
    source.sortedAs = { arrangement, count: places.length };
    this.settle(source);
    if (source === this.shown && !this.hasEnded) this.onChange();
    if (source.listing.state === "reading" && arrangement === this.arrangement) await pause(SETTLE_MS);
  }

  settle(source) {
    const isComplete = source.listing.state === "ready" && (source.added === 0 || source.sortedAs?.count === source.added);
    if (source === this.next && isComplete) {
      end(this.shown);
      this.shown = source;
      this.next = null;
      this.isRefreshing = false;
      source.sight = { ...source.sight, generation: this.sight.generation + 1 };
    }
    if (source === this.shown) this.sight = source.sight;
  }

  dropNext() {
    end(this.next);
    this.next = null;
    this.isRefreshing = false;
  }
}

function end({ listing, sorter }) {
  listing.end();
  sorter.close();
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
