"""What the view of a person's files decides without the document: its modules, run in the browser."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from tests.page.page_case import PageTestCase


class LogicTests(PageTestCase):
    """The modules of `views/browse` that know no document."""

    def setUp(self) -> None:
        super().setUp()
        self.open(self.world["alice"], "/people")

    def module(self, name: str, expression: str, *arguments: object) -> Any:
        """Return the value of an expression over a module of the view, as `m`; `a` has the arguments from 1 on."""
        return self.browser.run(
            "import(new URL(a[0], document.querySelector('script[type=module]').src))"
            f".then((m) => {expression})",
            f"views/browse/{name}",
            *arguments,
        )

    def test_order(self) -> None:
        """Folders come first, numbers count by their value, and a filter knows no case, accents or kinds of letters."""
        script = """(() => {
            const order = new m.Order("en");
            const add = (names, size) => order.add({
              names, sizes: names.map(() => size), times: names.map((name) => name.length),
              folders: names.map((name) => name.endsWith("/")),
            });
            add(["b10", "b9", "z/", "Éa"], 5);
            add(["a/", "eb", "B1"], 7);
            const shown = (...how) => [...order.sorted(...how)].map((id) => order.names[id]).join(" ");
            const all = order.sorted("name", false, "");
            return [
              shown("name", false, ""), shown("name", true, ""), shown("size", true, ""),
              shown("time", false, ""), shown("name", false, "EA"), shown("name", false, "b ?0"),
              order.find("b", all, 4), order.find("e", all, 0), order.find("zz", all, 0),
              m.matcher("\\u0643\\u064a\\u0641")("\\u06a9\\u06cc\\u0641"), m.matcher("a*c")("xabcx"),
            ];
        })()"""
        names = [
            "a/ z/ B1 b9 b10 Éa eb",
            "z/ a/ eb Éa b10 b9 B1",
            "a/ z/ B1 eb b9 b10 Éa",
            "a/ z/ B1 b9 Éa eb b10",
            "Éa",
            "b10",
        ]
        self.assertEqual(self.module("order.js", script), [*names, 4, 5, -1, True, True])

    def test_large_folder(self) -> None:
        """100 000 names are sorted and filtered by a worker, while the page goes on."""
        script = """(async () => {
            const sorter = new m.Sorter("en");
            let worst = 0, last = performance.now();
            const timer = setInterval(() => {
              worst = Math.max(worst, performance.now() - last);
              last = performance.now();
            }, 1);
            const entry = (index) => (
              {name: `${(index * 7919) % 100000} picture.jpg`, bytes: index, modified: 0, kind: "file"});
            for (let page = 0; page < 100; page += 1) {
              sorter.add(Array.from({length: 1000}, (_, index) => entry(page * 1000 + index)));
              if (page % 10 === 0) await new Promise((resolve) => setTimeout(resolve));
            }
            const {order, places} = await sorter.sort({by: "name", isDescending: false, filter: ""});
            const few = await sorter.sort({by: "size", isDescending: true, filter: "99999"});
            clearInterval(timer);
            sorter.close();
            return [order.length, places[order[77777]], few.order.length, (order[5] * 7919) % 100000, worst];
        })()"""
        *found, worst = self.module("sorter.js", script)
        self.assertEqual(found, [100_000, 77_777, 1, 5])
        self.assertLess(worst, 500.0)  # ms; a sort in the page's own thread takes longer

    def test_change_while_sorting(self) -> None:
        """A filter that changes in any step of a sort counts in the end."""
        script = """(async () => {
            const arrangement = {by: "name", isDescending: false, filter: ""};
            const entries = ["a", "b"].map((name) => ({name, kind: "file", bytes: 1, modified: 0}));
            const run = (steps) => new Promise((done) => {
              let isFirst = true;
              const onChange = async () => {
                if (!isFirst || folder.sight.order.length !== 2) return;
                isFirst = false;
                for (let step = 0; step < steps; step += 1) await null;
                folder.arrange({...arrangement, filter: "b"});
                setTimeout(() => (folder.close(), done(folder.sight.order.length)), 300);
              };
              const ask = async () => (await new Promise((go) => setTimeout(go)), {entries, more: false});
              const told = () => setup && onChange();
              const folder = new m.Folder("bob", "", {ask, language: "en", arrangement, onChange: told});
              setup = true;
            });
            let setup = false;
            return Promise.all([0, 1, 2, 3, 4, 5, 6].map(run));
        })()"""
        self.assertEqual(self.module("folder.js", script), [1] * 7)

    def test_pages_of_a_listing(self) -> None:
        """Pages are told as they come, a failure goes on behind them, and an endless folder ends: threat 152."""
        script = """(async () => {
            const told = [];
            let names = ["a", "b", "c", "d", "e"], fails = 0;
            const ask = async (action, {after, limit}) => {
              if (after === "b" && fails++ === 0) throw new Error("away");
              const from = names.findIndex((name) => name > after);
              const rest = from < 0 ? [] : names.slice(from);
              const left_out = after === "" ? [{name: "x", why: "link"}] : [];
              const entries = rest.slice(0, limit).map((name) => ({name}));
              return {entries, more: rest.length > limit, left_out, unnamed: 2};
            };
            const tell = ({state, entries}) => told.push(`${state} ${entries.length}`);
            const listing = new m.Listing("bob", "", {ask, onChange: tell, pageEntries: 2});
            await listing.read();
            listing.retry();
            await new Promise((resolve) => setTimeout(resolve, 50));
            const same = await listing.look();
            names = ["a", "a2", "b"];
            const other = await listing.look();
            const always = async () => ({entries: Array(1000).fill({name: "x"}), more: true});
            const endless = new m.Listing("eve", "", {ask: always, onChange: () => {}});
            await endless.read();
            return [told, listing.leftOutCount, same, other, endless.entries.length, endless.isFull];
        })()"""
        told, *found = self.module("listing.js", script)
        wanted = ["reading 0", "reading 2", "failed 2", "reading 2", "reading 4", "ready 5"]
        self.assertEqual(told, wanted)
        self.assertEqual(found, [7, False, True, 200_000, True])

    def test_thumbnails(self) -> None:
        """Threat 153: few thumbnails are fetched at once, the newest first, and none that is out of sight.

        While they are paused, none is.
        """
        script = """(() => {
            const queue = new m.ThumbnailQueue(2), begun = [];
            const turns = ["a", "b", "c", "d", "e"].map(
              (address) => queue.request(address, () => begun.push(address), () => begun.push(`-${address}`)));
            turns[3].cancel();
            turns[0].done(true);
            turns[1].cancel();
            queue.fail("x", 0);
            const facts = [queue.isKnown("a"), queue.isKnown("b"), queue.hasFailed("x", 1), queue.hasFailed("x", 1e6)];
            queue.pause(true);
            const paused = queue.running.size;
            queue.pause(false);
            return [begun, paused, queue.running.size, ...facts];
        })()"""
        found = self.module("thumbnail_queue.js", script)
        begun = ["a", "b", "e", "c", "-e", "-c", "c", "e"]
        self.assertEqual(found, [begun, 0, 2, True, False, True, False])

    def test_keys(self) -> None:
        """Shift extends from the anchor, filters take away what is not shown, letters make a word."""
        script = """(() => {
            const no = 0xffffffff;
            const sight = {order: Uint32Array.of(4, 3, 2, 1, 0), places: Uint32Array.of(4, 3, 2, 1, 0)};
            const less = {order: Uint32Array.of(2), places: Uint32Array.of(no, no, 0, no, no)};
            const ids = ({chosen}) => [...chosen].sort();
            const from = m.extend(m.only(3), 1, sight);
            const back = m.extend(from, 4, sight);
            const added = m.click(m.toggle(m.only(0), 4), 2, sight, {shiftKey: true, ctrlKey: true});
            const all = m.all(m.NOTHING, sight), letters = new m.TypedLetters();
            return [
              ids(from), ids(back), ids(added), ids(all), ids(m.restrict(back, less)), ids(m.restrict(all, less)),
              letters.add("a", 0), letters.add("a", 100), letters.add("b", 200), letters.add("c", 5000),
            ];
        })()"""
        *chosen, one, two, three, four = self.module("selection.js", script)
        self.assertEqual(chosen, [[1, 2, 3], [3, 4], [0, 2, 3, 4], [0, 1, 2, 3, 4], [], [2]])
        self.assertEqual([one, two], [{"text": "a", "isNext": True}] * 2)
        self.assertEqual(
            [three, four], [{"text": "aab", "isNext": False}, {"text": "c", "isNext": True}]
        )

    def test_texts(self) -> None:
        """Text of several encodings is read, and binary content is not."""
        script = """(() => {
            const bytes = (...values) => Uint8Array.from(values);
            const text = (value) => new TextEncoder().encode(value);
            const of = (value, how) => m.textOf(value, how)?.text ?? null;
            return [
              of(text("Grüße")), of(bytes(0xff, 0xfe, 0x41, 0)), of(bytes(0x41, 0, 0x42, 0)),
              of(bytes(0x47, 0x72, 0xfc)), of(bytes(0xc8), {language: "fa"}),
              of(text("ä").slice(0, 1), {isWhole: false}), of(bytes(0, 1, 2, 3, 4, 200, 201)), of(bytes()),
              m.shown("a\\r\\nb\\u0007"), m.blocks("ab\\ncdef", 4), m.blocks("😀😀", 3), m.blocks(""),
            ];
        })()"""
        found = self.module("text_bytes.js", script)
        self.assertEqual(
            found,
            [
                "Grüße",
                "A",
                "AB",
                "Grü",
                "\u0628",
                "",
                None,
                "",
                "a\nb\u2407",
                ["ab\n", "cdef"],
                ["😀", "😀"],
                [""],
            ],
        )

    def test_picture_sizes(self) -> None:
        """The size of a picture is found in its first bytes, and a drawing has none: threat 151."""
        pictures = {}
        kinds = ("png", "gif", "jpeg", "bmp", "webp")
        for kind, options in (*((kind, {}) for kind in kinds), ("webp", {"lossless": True})):
            encoded = io.BytesIO()
            Image.new("RGB", (33, 21), "red").save(encoded, kind, **options)
            pictures[f"{kind} {options}"] = list(encoded.getvalue()[:4096])
        script = "a[1].map((bytes) => m.pictureSize(Uint8Array.from(bytes)))"
        found = self.module("picture_size.js", script, [*pictures.values(), list(b"<svg>"), []])
        self.assertEqual(found, [{"width": 33, "height": 21}] * len(pictures) + [None, None])

    def test_downloads(self) -> None:
        """Many paths become requests, one at a time; one file is itself, all else an archive of bounded length."""
        script = """(() => {
            const file = {kind: "file", name: "a?b.txt"}, folder = {kind: "folder", name: "d"};
            const many = Array.from({length: 1500}, (_, index) => `shared/${index}`);
            const long = Array(300).fill({kind: "file", name: "x".repeat(40)});
            const endless = (function* () { for (;;) yield "x"; })();
            return [
              [...m.batches(many)].map((part) => part.length),
              [...m.batches(["x".repeat(90), "y".repeat(90), "z"], 100)].length,
              m.batches(endless).next().value.length, m.browserAddress("bob", "s", {length: 1001}),
              m.literal("a[1]*?"), m.browserAddress("bob", "s", [file]), m.browserAddress("bob", "s", [file, folder]),
              m.browserAddress("bob", "s", long),
            ];
        })()"""
        addresses = [
            "/api/v1/file/bob/s/a%3Fb.txt?download=1",
            "/api/v1/archive/bob?path=s%2Fa%3Fb.txt&path=s%2Fd",
            None,
        ]
        found = self.module("downloads.js", script)
        self.assertEqual(found, [[1000, 500], 2, 1000, None, "a[[]1][*][?]", *addresses])
