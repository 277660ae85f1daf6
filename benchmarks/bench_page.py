"""The peer's page at its largest: 10 000 people, a folder of 100 000 pictures, 1 000 jobs.

A real Chromium shows the page of a peer that is one of 10 000 people. It scrolls through the people, through a folder
of another peer as a list and as a grid of pictures, and through 1 000 transfers. For each view the table has the
longest time between two frames, and the longest task of the page's main thread, in time of its processor and of the
clock. The first row is an empty page that scrolls by as much: the limit of the browser on this machine. Only times of
the processor can be compared on a busy machine. The event loops of both peers are watched meanwhile, in both times.

Run it as `python benchmarks/bench_page.py`; it takes about three minutes, and needs Chromium and its driver.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.filling import fill, registry_key
from benchmarks.reporting import print_table
from benchmarks.task_trace import LongestTask, traced
from tests.page.browser import Browser, why_none
from tests.page.files import picture
from tests.page.world import Person, World, until

PEOPLE = 10_000
PICTURES = 100_000
JOBS = 1_000
HOLD_SHOWN = 30  # ms of processor time, from which the stack is printed
PATIENCE = 90  # seconds for a view to have all its rows
FRAMES = 120  # of one scroll
STEP = 900  # pixels between two frames: more than a screen
MANY = "/people/carol/files/shared/many"
NAMES = ("alice", "carol")  # whose event loops are watched
SCROLL = """
  const done = arguments[arguments.length - 1], [frames, step] = arguments;
  const scrolls = (each) => /auto|scroll/.test(getComputedStyle(each).overflowY)
    && each.scrollHeight > each.clientHeight;
  let target = document.querySelector("[data-virtual]");
  while (target && !scrolls(target)) target = target.parentElement;
  target ??= document.scrollingElement;
  const begin = target.scrollTop;
  let last = performance.now(), longest = 0, count = 0;
  const gaps = [];
  function frame(now) {
    gaps.push(now - last); last = now;
    if (++count > frames) {
      setTimeout(() => done({longest: Math.max(...gaps), moved: target.scrollTop - begin}), 200);
      return;
    }
    target.scrollTop += step; requestAnimationFrame(frame);
  }
  requestAnimationFrame(now => { last = now; requestAnimationFrame(frame); });
"""
"""Scrolls down, and measures the time between frames in ms."""
ROW = "document.querySelector('[data-row]')"
COUNT = "Number(document.querySelector('[data-row]')?.getAttribute('aria-setsize') ?? 0)"
FIRST_ROW = """
  const found = () => { if (document.querySelector("[data-row]")) window.firstRow = performance.now();
                        else requestAnimationFrame(found); };
  requestAnimationFrame(found);
"""
"""Notes when the first row is there, in ms since the page was asked for."""
FIRST_VIEW = """[window.firstRow, [...performance.getEntriesByType("navigation"),
  ...performance.getEntriesByType("resource")].filter(each => each.startTime < window.firstRow)
  .reduce((sum, each) => sum + each.transferSize, 0)]"""
"""The ms until the first row, and the bytes of everything that was asked for until then."""
HEADER = ("view", "frame", "task (busy)", "alice's loop (busy)", "carol's loop (busy)")
ORIGINALS = 4  # a file system takes some 65 000 links of a file
PLAIN = (
    "data:text/html,<body style='margin:0'><div style='height:2000000px;"
    "background:linear-gradient(red,blue)'></div>"
)


class Watched:
    """The event loop of a peer, as `watched_twistd` sees it."""

    def __init__(self, person: Person, report: Path) -> None:
        self._person = person
        self._report = report

    @contextmanager
    def measured(self, held: dict[str, str]) -> Iterator[None]:
        """Put the longest hold during the block into `held`, in ms."""
        assert self._person.program is not None
        pid = self._person.program.process.pid
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.2)
        yield
        time.sleep(1.2)
        told = json.loads(self._report.read_text())
        held[self._person.name] = f"{told['held_s'] * 1000:.0f} ({told['busy_s'] * 1000:.0f})"
        if told["busy_s"] * 1000 > HOLD_SHOWN:
            print(f"held for {told['busy_s'] * 1000:.0f} ms:", *told["stack"], file=sys.stderr)


def watched(world: World, name: str, files: dict[str, bytes]) -> Watched:
    """Add a person whose event loop is watched."""
    report = world.folder / f"{name}.json"
    twistd = ("-m", "benchmarks.watched_twistd", str(report), "-n")
    return Watched(world.add(name, files, twistd=twistd), report)


def first_view(browser: Browser, person: Person) -> tuple[float, int]:
    """Return the ms until the first view shows people, without anything cached, and the bytes that came for it."""
    browser.open(person.page_url("/people"))
    browser.wait_until(ROW)  # from now on the browser has a cookie
    browser.forget_cache()
    browser.open("about:blank")  # or else only the fragment changes
    browser.open(person.page_url("/people"))
    browser.wait_until("window.firstRow")
    found = browser.run(FIRST_VIEW)
    return found[0], found[1]


def opened(
    browser: Browser, view: str, loops: Sequence[Watched], go: Callable[[], None]
) -> list[str]:
    """Do what opens a view with all its rows, and return a row of the table."""
    with measured(browser, loops) as (task, held):
        go()
    return [view, "", times(task), *(held.get(name, "") for name in NAMES)]


def scrolled(browser: Browser, view: str, loops: Sequence[Watched]) -> list[str]:
    """Scroll the view that is open, and return a row of the table."""
    browser.wait_until(ROW)
    with measured(browser, loops) as (task, held):
        found: dict[str, Any] = browser.run_async(SCROLL, FRAMES, STEP)
    assert found["moved"] > STEP, f"{view} does not scroll: {found}"
    return [view, f"{found['longest']:.0f}", times(task), *(held.get(name, "") for name in NAMES)]


@contextmanager
def measured(
    browser: Browser, loops: Sequence[Watched]
) -> Iterator[tuple[LongestTask, dict[str, str]]]:
    """Measure the page and some event loops during the block."""
    held: dict[str, str] = {}
    with ExitStack() as watching:
        for each in loops:
            watching.enter_context(each.measured(held))
        task = watching.enter_context(traced(browser.debugger))
        yield task, held


def times(task: LongestTask) -> str:
    """Return the times of a task for the table."""
    return f"{task.wall:.0f} ({task.busy:.0f})"


def show(browser: Browser, view: str) -> None:
    """Go to another view of the page that is open."""
    browser.run("void (location.hash = a[0])", f"#{view}")
    browser.wait("location.hash", f"#{view}")


def link_pictures(folder: Path, count: int) -> None:
    """Make a folder of many pictures out of a few; each has its own name, and is decoded for itself."""
    folder.mkdir(parents=True)
    originals = [folder.parent / f"original-{seed}" for seed in range(ORIGINALS)]
    for seed, original in enumerate(originals):
        original.write_bytes(picture(640, 480, seed))
    for number in range(count):
        os.link(originals[number % ORIGINALS], folder / f"IMG_{number:06}.jpg")
    for original in originals:
        original.unlink()


def main() -> None:
    """Run all measurements, and print a table."""
    if reason := why_none():
        print(f"bench_page is left out: {reason}")  # others follow in `make bench`
        return
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    browser, world = Browser(), World(())
    try:
        rows = measure(browser, world)
    finally:
        browser.quit()
        world.discard()
    print_table("Longest times in ms while a view scrolls", HEADER, rows)


def measure(browser: Browser, world: World) -> list[list[str]]:
    """Return the rows of the table."""
    link_pictures(world.folder / "carol" / "shared" / "many", PICTURES)
    fill(str(world.folder / "registry" / "redis.sock"), PEOPLE, registry_key(world.registry.port))
    carol = watched(world, "carol", {})
    alice = watched(world, "alice", {})
    loops, person = (alice, carol), world["alice"]
    browser.look_as(1280, 800)
    browser.open(PLAIN)
    with traced(browser.debugger) as task:
        plain: dict[str, Any] = browser.run_async(SCROLL, FRAMES, STEP)
    rows = [["an empty page", f"{plain['longest']:.0f}", times(task), "", ""]]
    browser.begin_with(FIRST_ROW)
    held: dict[str, str] = {}
    with alice.measured(held):
        shown, size = first_view(browser, person)
    print(f"first view: {shown:.0f} ms, {size} bytes; alice's event loop held {held['alice']} ms")

    def reads(view: str, count: int) -> None:
        browser.run("void (location.hash = a[0])", f"#{view}")
        until(lambda: browser.run(COUNT) >= count, PATIENCE)

    browser.open("about:blank")
    url = person.page_url("/people")

    def opens() -> None:
        browser.open(url)
        reads("/people", PEOPLE)

    rows.append(opened(browser, f"open {PEOPLE} people", loops, opens))
    rows.append(scrolled(browser, "scroll them", loops))
    show(browser, MANY)
    browser.wait_until(ROW)
    rows.append(scrolled(browser, "scroll pictures while they are listed", loops))
    rows.append(opened(browser, f"list {PICTURES} pictures", loops, lambda: reads(MANY, PICTURES)))
    rows.append(scrolled(browser, "scroll them", loops))
    browser.run("document.querySelector('input[value=grid]').click()")
    rows.append(scrolled(browser, "scroll them as a grid", loops))
    show(browser, "/people")
    for number in range(JOBS):
        person.ask("get", name=f"peer-{number:07}", paths=["photos"])
    rows.append(opened(browser, f"open {JOBS} transfers", loops, lambda: reads("/transfers", JOBS)))
    rows.append(scrolled(browser, "scroll them", loops))
    return rows


if __name__ == "__main__":
    main()
