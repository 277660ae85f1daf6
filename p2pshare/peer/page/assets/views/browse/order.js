/**
 * The order of the entries of a folder: sorted, filtered and searched, without the document.
 *
 * An entry is known by its number of arrival, its *id*. Names are sorted as the reader's language does, with numbers by their value. That costs
 * about 2 s for 100 000 names in the worst case, so `order_worker.js` runs this off the page's thread. Names arrive in pages that are almost in
 * order, and the sort of the browser merges runs, so that most pages cost a few comparisons only.
 */

const GLOB = /[*?]/;
const MARKS = /[\p{M}\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu; // accents, vowel marks, joiners and marks of direction

/** Return a name as filters compare it: without case, accents and marks, and with one form for letters that keyboards differ in. */
export function folded(name) {
  return name.normalize("NFKD").replace(MARKS, "").toLowerCase().replace(/\u064a|\u0649/g, "\u06cc").replace(/\u0643/g, "\u06a9");
}

/** Return a function that tells whether a folded name has each word of a filter; `*` and `?` in a word stand for any letters. */
export function matcher(filter) {
  const words = folded(filter).split(/\s+/).filter(Boolean).map(wordMatcher);
  return (name) => words.every((word) => word(name));
}

function wordMatcher(word) {
  if (!GLOB.test(word)) return (name) => name.includes(word);
  const source = word.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*+/g, ".*").replace(/\?/g, ".");
  const glob = new RegExp(source, "su");
  return (name) => glob.test(name);
}

export class Order {
  /** Sort as a language does; `language` is its code. */
  constructor(language) {
    this.collator = new Intl.Collator(language, { numeric: true });
    this.names = [];
    this.sizes = [];
    this.times = [];
    this.folders = [];
    this.foldedNames = [];
    this.byName = []; // ids in the order of names, folders and files mixed
    this.sortedCount = 0;
    this.ranks = new Uint32Array(0); // from an id to its place in `byName`
  }

  /** Add entries, given as columns of the same length. */
  add({ names, sizes, times, folders }) {
    for (let index = 0; index < names.length; index += 1) {
      this.byName.push(this.names.length);
      this.names.push(names[index]);
      this.sizes.push(sizes[index]);
      this.times.push(times[index]);
      this.folders.push(folders[index]);
    }
  }

  /** Return the ids to show: folders first, then by "name", "size" or "time"; equals are in the order of their names. */
  sorted(by, isDescending, filter) {
    this.rank();
    const matches = filter.trim() ? matcher(filter) : null;
    const folders = [];
    const files = [];
    for (const id of this.byName) {
      if (matches && !matches(this.foldedName(id))) continue;
      (this.folders[id] ? folders : files).push(id);
    }
    return Uint32Array.from([...this.arranged(folders, by, isDescending), ...this.arranged(files, by, isDescending)]);
  }

  /** Return the place in `order` of the next name that begins with `text`, from the place `from` on and around; -1 if there is none. */
  find(text, order, from) {
    const start = folded(text);
    for (let step = 0; step < order.length; step += 1) {
      const place = (from + step) % order.length;
      if (this.foldedName(order[place]).startsWith(start)) return place;
    }
    return -1;
  }

  arranged(ids, by, isDescending) {
    if (by !== "name") {
      const values = by === "size" ? this.sizes : this.times;
      const sign = isDescending ? -1 : 1;
      return ids.sort((one, other) => sign * ((values[one] ?? -1) - (values[other] ?? -1)) || this.ranks[one] - this.ranks[other]);
    }
    return isDescending ? ids.reverse() : ids;
  }

  rank() {
    if (this.sortedCount === this.byName.length) return;
    const { names, collator } = this;
    this.byName.sort((one, other) => collator.compare(names[one], names[other]) || (names[one] < names[other] ? -1 : 1));
    this.ranks = new Uint32Array(this.byName.length);
    for (let place = 0; place < this.byName.length; place += 1) this.ranks[this.byName[place]] = place;
    this.sortedCount = this.byName.length;
  }

  foldedName(id) {
    return (this.foldedNames[id] ??= folded(this.names[id]));
  }
}
