"""The registry's page in a real browser."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from p2pshare.registry.api.event_streams import StreamLimits
from p2pshare.registry.api.events import EventHub
from p2pshare.registry.api.page import PageRoutes
from p2pshare.registry.store import Claim, OwnerClaim
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.client_addresses import origin_of
from p2pshare.web.exchange import Query, Reply, Route
from p2pshare.web.site import CHECK_INTERVAL, Site
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.person_links import PersonLink
from tests.page.browser import Browser, the_browser, why_none
from tests.page.page_case import AXE
from tests.registry.connections import REGISTRY_KEY, make_routes

NOT_EPHEMERAL = range(20_000, 32_000)  # below the ports that Linux draws for connections

NOW = 1_800_000_000  # seconds: the wall clock of the registry stands still there
SILENCE_MAX = 20.0  # seconds of a silent stream that the page accepts
ANNOUNCE_INTERVAL = 30.0  # seconds between two announcements of the count
HASTE = 10  # by which timers run faster in tests that would wait for these
NAMES = "[...document.querySelectorAll('#list .name')].map(e => e.textContent)"
SHOWN = (
    "[...document.querySelectorAll('#list li')]"
    ".map(e => [e.dataset.presence, e.querySelector('.name').textContent])"
)
STATE = "document.getElementById('state-text').textContent"
EVIL = "<img src=x onerror='window.evil=1'><script>window.evil=1</script>"


class PageTestCase(TestCase):
    """A registry on the test's reactor, and a browser that is driven from another thread."""

    timeout = 100

    def setUp(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        if why_none():
            raise SkipTest(why_none())
        self.browser = the_browser()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = MemoryNameStore(self.clock)
        self.hub = EventHub(self.store, reactor)
        self.routes = make_routes(self.store, self.clock)
        self.routes.table.update(PageRoutes().table())
        self.routes.table.update(self.hub.table(lambda query: origin_of(query.source)))
        self.site = Site(self.routes, reactor, wall=self.clock.seconds)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.leave_all()))
        self.browser.look_as(1280)
        self.browser.hasten(1)
        return Deferred.fromCoroutine(self.listen_anywhere())

    async def listen_anywhere(self) -> None:
        """Listen on a number that the system gives to nobody meanwhile, so that a test can listen on it again."""
        for number in random.sample(NOT_EPHEMERAL, 100):
            with contextlib.suppress(CannotListenError):
                await self.listen(number)
                return
        raise AssertionError("no number is free")

    async def listen(self, port: int) -> None:
        endpoint = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")
        self.port = await endpoint.listen(self.site)
        self.number = cast(IPv4Address, self.port.getHost()).port
        self.url = f"http://127.0.0.1:{self.number}/"

    async def leave_all(self) -> None:
        await self.see(lambda browser: browser.open("about:blank"))
        await self.hub.stop()
        await self.end()

    async def end(self) -> None:
        """Stop the registry, and wait until all connections are closed."""
        await maybeDeferred(self.port.stopListening)
        while self.site.connections:
            await deferLater(reactor, 0.01)

    async def pass_time(self, seconds: float) -> None:
        """Advance the registry's clock and its Date header."""
        self.clock.advance(seconds)
        await deferLater(reactor, 1.1 * CHECK_INTERVAL)

    async def see(self, what: Callable[[Browser], Any]) -> Any:
        """Run a call to the browser in a thread while the registry serves."""
        return await deferToThread(what, self.browser)

    async def open(self) -> None:
        def look(browser: Browser) -> None:
            browser.open(self.url)
            browser.wait(STATE, "Live")

        await self.see(look)

    async def expect(self, script: str, value: object) -> None:
        await self.see(lambda browser: browser.wait(script, value))

    async def keep(self, name: str) -> Path:
        """Save a screenshot of the visible part of the page."""
        path: Path = await self.see(lambda browser: browser.keep(name))
        return path

    async def expect_no_complaint(self) -> None:
        """Assert that the browser reported no error and no violation of the content security policy."""
        self.assertEqual(await self.see(lambda browser: browser.complaints()), [])

    async def join(self, *names: str) -> None:
        """Register peers under these names."""
        for name in names:
            claim = OwnerClaim(name, f"key of {name}", 1, "record", f"session of {name}", None)
            await self.store.claim_owned(claim)

    async def leave(self, *names: str) -> None:
        """Release the presence of these names."""
        for name in names:
            await self.store.beat(name, f"session of {name}", 1, online=False)

    async def register(self, *names: str) -> None:
        """Register original clients."""
        for name in names:
            await self.store.claim(Claim(name, PeerAddress("10.0.0.5", 50000), 86400))

    def put(self, path: bytes, *replies: Any) -> None:
        """Answer a path with the given JSON replies in turn; the last one repeats."""
        left = list(replies)

        def answer(_query: Query) -> Deferred[Reply]:
            body = left.pop(0) if len(left) > 1 else left[0]
            return succeed(Reply(200, (json.dumps(body).encode(),)))

        self.routes.table[path] = Route("test", {b"GET": answer})


class PresenceTests(PageTestCase):
    """The list of peers."""

    async def test_who_is_here(self) -> None:
        """Peers that are online are listed in order with kind and presence; offline peers are not listed."""
        await self.join("carol", "alice", "dave")
        await self.register("bob")
        await self.leave("dave")
        await self.open()
        shown = [["online", "alice"], ["unknown", "bob"], ["online", "carol"]]
        await self.expect(SHOWN, shown)
        rows = await self.see(
            lambda browser: browser.run(
                "[...document.querySelectorAll('#list li')].map(e => e.innerText.split(/\\n+/).slice(1))"
            )
        )
        self.assertEqual(rows[0], ["alice", "online now", "Open"])
        self.assertEqual(rows[1], ["bob", "classic", "registered just now"])
        await self.expect("document.getElementById('legend').hidden", False)
        await self.expect("document.getElementById('summary').textContent", "2 online, 1 classic")
        await self.expect_no_complaint()

    async def test_coming_and_going(self) -> None:
        """A peer that comes online appears in its place, and one that goes offline disappears, without a reload."""
        await self.join("bob")
        await self.open()
        await self.expect(NAMES, ["bob"])
        await self.see(lambda browser: browser.run("window.untouched = true"))
        await self.join("alice", "carol")
        await self.expect(NAMES, ["alice", "bob", "carol"])
        await self.leave("bob")
        await self.expect(NAMES, ["alice", "carol"])
        self.assertTrue(await self.see(lambda browser: browser.run("window.untouched")))
        await self.expect_no_complaint()

    async def test_offline(self) -> None:
        """A switch, also usable by keyboard, adds offline peers and the time since they were seen."""
        await self.join("alice", "bob")
        await self.leave("bob")
        await self.pass_time(80)
        await self.join("alice")
        await self.open()
        await self.see(lambda browser: browser.type("#search", "\ue004 "))  # Tab, Space
        await self.expect(SHOWN, [["online", "alice"], ["offline", "bob"]])
        times = "Array.from(document.querySelectorAll('#list time'), (each) => each.textContent)"
        await self.expect(times, ["online for 1 minute", "seen 1 minute ago"])
        await self.leave("alice")
        await self.expect(SHOWN, [["offline", "alice"], ["offline", "bob"]])
        await self.see(lambda browser: browser.press(" "))
        await self.expect(NAMES, [])
        await self.expect(
            "document.getElementById('empty-title').textContent", "Nobody is online at the moment"
        )
        await self.expect_no_complaint()

    async def test_search(self) -> None:
        """Any part of a name, in any case, finds it. For text that cannot be part of a name the page says so."""
        await self.join("alice", "alan", "bob")
        await self.open()
        await self.expect(NAMES, ["alan", "alice", "bob"])
        await self.see(lambda browser: browser.type("#search", "AL"))
        await self.expect(NAMES, ["alan", "alice"])
        await self.join("albert", "berta")
        await self.expect(NAMES, ["alan", "albert", "alice"])
        await self.see(lambda browser: browser.type("#search", "\ue003" * 2 + "AN"))
        await self.expect(NAMES, ["alan"])
        await self.see(lambda browser: browser.type("#search", "\ue003" * 2 + "al<b>"))
        await self.expect(NAMES, [])
        title = "No online name contains “al<b>”"
        await self.expect("document.getElementById('empty-title').textContent", title)
        await self.expect("document.querySelectorAll('#empty b').length", 0)
        await self.see(lambda browser: browser.type("#search", "\ue003" * 5))
        await self.expect(NAMES, ["alan", "albert", "alice", "berta", "bob"])
        await self.expect_no_complaint()

    async def test_connection_lost(self) -> None:
        """The page shows that the registry is unreachable, and the changes once it is back."""
        await self.join("alice")
        await self.open()
        await self.expect(NAMES, ["alice"])
        number = self.number
        await self.end()
        await self.expect(STATE, "Not connected")
        await self.expect("document.querySelector('#list .when')?.textContent", "was online")
        await self.expect("document.getElementById('summary').textContent", "1 was online")
        await self.expect("document.getElementById('list').className", "list stale")
        notice = "document.getElementById('lost').textContent.includes('Last updated')"
        await self.expect(notice, True)
        await self.expect("document.getElementById('lost').getClientRects().length", 1)
        await self.keep("lost-light")
        await self.join("bob")
        await self.listen(number)
        await self.expect(STATE, "Live")
        await self.expect(NAMES, ["alice", "bob"])
        await self.expect("document.querySelector('#list .when')?.textContent", "online now")
        await self.expect("document.getElementById('lost').hidden", True)

    async def test_cut_off(self) -> None:
        """The page shows that the registry is silent although its connections are open, and recovers later."""
        self.patch(self.hub, "limits", StreamLimits(keep_alive=0.1))
        await self.join("alice")
        self.put(b"v1/peers/*", {"key": "abcd" * 13, "addresses": []})
        self.browser.hasten(HASTE)
        await self.open()
        await self.expect(NAMES, ["alice"])
        await self.see(lambda browser: browser.click("#list .head"))
        await deferLater(reactor, 1.3 * SILENCE_MAX / HASTE)
        self.assertEqual(await self.see(lambda browser: browser.run(STATE)), "Live")
        self.hub._looking.stop()
        table, unanswered = dict(self.routes.table), list[Deferred[Reply]]()

        def hang(_query: Query) -> Deferred[Reply]:
            unanswered.append(Deferred())
            return unanswered[-1]

        for path in table:
            self.routes.table[path] = Route("test", {b"GET": hang})
        await self.expect(STATE, "Not connected")
        await self.expect("document.querySelector('#list .when')?.textContent", "was online")
        notice = "document.getElementById('lost').textContent.includes('Last updated')"
        await self.expect(notice, True)
        self.routes.table.update(table)
        self.put(b"v1/peers/*", {"key": "efgh" * 13, "addresses": []})
        await self.join("bob")
        for each in unanswered:
            each.callback(Reply(503))
        await self.expect(STATE, "Live")
        await self.expect(NAMES, ["alice", "bob"])
        await self.expect("document.getElementById('lost').hidden", True)
        await self.expect("document.querySelector('.key')?.textContent.slice(0, 4)", "efgh")

    async def test_announcements(self) -> None:
        """A screen reader hears the count only when it has changed."""
        self.patch(self.hub, "limits", StreamLimits(keep_alive=0.1))
        self.browser.hasten(HASTE)
        await self.join("alice")
        await self.open()
        await self.expect(NAMES, ["alice"])
        watch = (
            "window.news = [], new MutationObserver(() => news.push(document.getElementById('news').textContent))"
            ".observe(document.getElementById('news'), {childList: true})"
        )
        await self.see(lambda browser: browser.run(watch))
        await self.join("bob")
        await self.expect("news", ["2 online"])
        await self.see(lambda browser: browser.click("#join li:nth-child(2) .copy"))
        await self.expect("news.length", 2)
        await self.leave("alice")
        await self.join("carol")
        await self.expect(NAMES, ["bob", "carol"])
        await deferLater(reactor, 1.3 * ANNOUNCE_INTERVAL / HASTE)
        self.assertEqual(await self.see(lambda browser: browser.run("news.length")), 2)
        await self.leave("carol")
        await self.expect("news[2]", "1 online")

    async def test_stopping(self) -> None:
        """If only the event stream ends, the page polls the list and says so."""
        await self.open()
        await self.hub.stop()
        await self.expect(STATE, "Every 30 s")

    async def test_out_of_sight(self) -> None:
        """A hidden page holds no event stream; when it becomes visible, it shows the changes."""
        hide = (
            "Object.defineProperty(document, 'hidden', {value: a[0], configurable: true}), "
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        await self.open()
        self.assertEqual(len(self.hub), 1)
        await self.see(lambda browser: browser.run(hide, True))
        while len(self.hub):
            await deferLater(reactor, 0.02)
        await self.join("alice")
        await self.see(lambda browser: browser.run(hide, False))
        await self.expect(STATE, "Live")
        await self.expect(NAMES, ["alice"])
        await self.join("bob")
        await self.expect(NAMES, ["alice", "bob"])

    async def test_full(self) -> None:
        """If the registry has no stream to spare, the page shows the list and that it is not live."""
        self.patch(self.hub, "limits", StreamLimits(streams_max=0))
        await self.join("alice")
        await self.see(lambda browser: browser.open(self.url))
        await self.expect(NAMES, ["alice"])
        await self.expect(STATE, "Every 30 s")
        await self.expect("document.querySelector('#list .when')?.textContent", "online now")

    async def test_joining(self) -> None:
        """The commands to join contain the registry's URL and the visitor's name, and can be copied."""
        self.put(b"v1/", {"invite_only": True})
        await self.open()
        origin = self.url.removesuffix("/")
        last = "[...document.querySelectorAll('#join code[data-command]')].pop().textContent"
        start = "mkdir -p ~/Public && ~/.p2pshare/bin/p2pshare --share ~/Public"
        wrong = "document.getElementById('you').getAttribute('aria-invalid')"
        await self.expect(last, f"{start} --registry {origin}")
        await self.see(lambda browser: browser.type("#you", "Robin"))
        await self.expect(last, f"{start} --name robin --registry {origin}")
        await self.expect(wrong, "false")
        for keys in ("; rm", "\ue003" * 4 + "-", "\ue003" * 6 + "list"):
            await self.see(partial(Browser.type, selector="#you", keys=keys))
            await self.expect(last, f"{start} --registry {origin}")
            await self.expect(wrong, "true")
        await self.expect("document.getElementById('invitation').hidden", False)
        await self.see(lambda browser: browser.run("delete Navigator.prototype.clipboard"))
        await self.see(lambda browser: browser.click("#join li:nth-child(3) .copy"))
        await self.expect("document.querySelectorAll('.copy.done').length", 1)

    async def test_details(self) -> None:
        """An open row shows the key in groups, the kinds of addresses and a command. It can be opened by keyboard."""
        await self.join("alice")
        await self.register("bob")
        addresses = ["192.168.1.7:4000", "10.0.0.7:4000", "203.0.113.9:4000", "[fd00::7]:4000"]
        views = {
            b"v1/peers/alice": {"key": "abcd" * 13, "addresses": addresses},
            b"v1/peers/bob": {"addresses": ["127.0.0.1:9"]},
        }

        def answer(query: Query) -> Reply:
            return Reply(200, (json.dumps(views[query.path]).encode(),))

        self.routes.table[b"v1/peers/*"] = Route("test", {b"GET": answer})
        await self.open()
        await self.see(lambda browser: browser.type("#list li:first-child .head", " "))
        await self.expect(
            "document.querySelector('#list .key')?.textContent", " ".join(["abcd"] * 13)
        )
        fact = "[...document.querySelectorAll('#list dd')].pop()?.textContent"
        own = "reachable on its own network"
        await self.expect(fact, f"IPv4, {own}; IPv4, public; IPv6, {own}")
        command = f"~/.p2pshare/bin/p2pshare ls alice --name YOU --registry {self.url[:-1]}"
        text = "document.querySelector('#list .command code')?.textContent"
        await self.expect(text, command)
        await self.see(lambda browser: browser.click("#list .copy"))
        await self.expect("document.activeElement.id", "you")  # nothing to copy that does not work
        await self.expect("document.querySelectorAll('.copy.done').length", 0)
        await self.see(lambda browser: browser.press("robin"))
        await self.expect(text, command.replace("YOU", "robin"))
        await self.see(lambda browser: browser.click("#list .copy"))
        await self.expect("document.querySelectorAll('.copy.done').length", 1)
        await self.see(lambda browser: browser.type("#list li:first-child .head", ""))
        opened = "document.querySelector('#list .head')?.getAttribute('aria-expanded')"
        await self.expect(opened, "true")
        await self.keep("details-light")
        await self.see(lambda browser: browser.press(" "))
        await self.expect(opened, "false")
        await self.expect("document.querySelector('#list .details')?.hidden", True)
        await self.see(lambda browser: browser.click("#list li:nth-child(2) .head"))
        await self.expect(fact, "IPv4, reachable on its own machine only")
        await self.expect("document.querySelectorAll('#list .key').length", 1)
        await self.expect_no_complaint()

    async def test_links(self) -> None:
        """Each person with a key has a plain link to the visitor's own p2pshare, and a command that does the same."""
        await self.join("alice")
        await self.register("bob")
        await self.open()
        self.put(b"v1/peers/*", {"key": "abcd" * 13, "addresses": []})
        links = (
            "[...document.querySelectorAll('#list a')].filter(a => !a.hidden)"
            ".map(a => [a.ariaLabel, a.getAttribute('href')])"
        )
        link = PersonLink(REGISTRY_KEY.public, "alice")
        await self.expect(links, [["Open alice in your p2pshare", str(link)]])
        await self.see(lambda browser: browser.click("#list .head"))
        command = "[...document.querySelectorAll('#list .details code')].pop()?.textContent"
        await self.expect(command, f"~/.p2pshare/bin/p2pshare open {link}")
        found = await self.see(lambda browser: browser.violations(AXE.read_text()))
        self.assertEqual(found, [])
        self.put(b"v1/", {"key": "javascript:alert(1)//"})
        await self.open()
        await self.expect(links, [])
        await self.expect_no_complaint()


class HostileTests(PageTestCase):
    """Hostile content in the registry's store, and too much of it (threat 5)."""

    async def test_markup(self) -> None:
        """Threat: markup in the registry's replies is shown as text."""
        peer = {"name": EVIL, "kind": EVIL, "presence": EVIL, "since": EVIL}
        self.put(b"v1/peers", {"peers": [{**peer, "presence": "online"}], "next": None})
        await self.open()
        await self.expect(NAMES, [EVIL])
        await self.expect("document.querySelector('#list .tag')?.textContent", EVIL[:64])
        self.put(b"v1/peers", {"peers": [peer], "next": None})
        await self.see(lambda browser: browser.click(".switch"))
        await self.expect(SHOWN, [[EVIL, EVIL]])
        inside = "document.querySelectorAll('#list img, #list script').length + (window.evil ?? 0)"
        await self.expect(inside, 0)
        await self.expect_no_complaint()

    async def test_policy(self) -> None:
        """Threat: the browser refuses to run a script that was injected into the page."""
        await self.open()
        script = (
            "((e) => { e.textContent = 'window.evil = 1'; document.body.append(e); })"
            "(document.createElement('script'))"
        )

        def inject(browser: Browser) -> None:
            try:
                browser.run(script)
            except Exception as error:
                self.assertIn("TrustedScript", str(error))

        await self.see(inject)
        await self.expect("window.evil ?? 'nothing'", "nothing")

    def put_many(self, count: int) -> None:
        """Answer with this many names, page by page."""
        names = [f"n{number:06}" for number in range(count)]

        def answer(query: Query) -> Deferred[Reply]:
            words = dict(each.split("=") for each in query.arguments.decode().split("&"))
            after, prefix = words.get("after", ""), words.get("prefix", "")
            found = [name for name in names if name > after and name.startswith(prefix)]
            shared = {"kind": "owned", "presence": "online", "since": NOW - 7200}
            peers = [{"name": name, **shared} for name in found[:500]]
            body = {"peers": peers, "next": found[499] if len(found) > 500 else None}
            return succeed(Reply(200, (json.dumps(body).encode(),)))

        self.routes.table[b"v1/peers"] = Route("test", {b"GET": answer})

    async def test_pages(self) -> None:
        """Names beyond the visible rows are counted and can be found by any part."""
        self.put_many(502)
        await self.open()
        when = "document.querySelector('#list .when time')?.textContent"
        await self.expect(when, "online for 2 hours")
        summary = "document.getElementById('summary').textContent"
        await self.expect(summary, "502 online, 200 of 502 shown")
        self.browser.look_as(390, 844)
        height = await self.see(lambda browser: browser.run("document.body.scrollHeight"))
        self.assertLess(height, 200 * 62 + 2600)
        await self.see(lambda browser: browser.type("#search", "0501"))
        await self.expect(NAMES, ["n000501"])
        await self.expect(summary, "1 name found")

    async def test_many(self) -> None:
        """With endless names, the page shows more on request up to a bound, and finds the others by prefix."""
        self.put_many(100_000)
        await self.open()
        rows = "document.querySelectorAll('#list li').length"
        for expected in range(200, 2001, 200):
            await self.expect(rows, expected)
            if expected < 2000:
                await self.see(lambda browser: browser.click("#more-button"))
        await self.expect("document.getElementById('more-button').hidden", True)
        await self.expect(
            "document.getElementById('summary').textContent",
            "2,000 online, 2,000 of more than 2,000 shown",
        )
        await self.join("zoe", "n000100x")
        await self.expect(f"{NAMES}.includes('n000100x')", True)
        await self.expect(rows, 2000)
        await self.expect(f"{NAMES}.includes('zoe')", False)
        await self.see(lambda browser: browser.type("#search", "n09999"))
        await self.expect(f"{NAMES}.length", 10)


class LookTests(PageTestCase):
    """The layout of the page."""

    async def test_looks(self) -> None:
        """In light and dark, wide and narrow, nothing overflows at the side. Screenshots are kept."""
        await self.join("alice", "bob", "carol", "dmitri", "eve.laptop", "fatima", "giorgos")
        await self.register("heidi", "ivan-old-machine.example")
        await self.pass_time(60)
        await self.leave("carol", "fatima")
        await self.pass_time(25)
        await self.join("judy", "this-is-the-longest-name.of-all.1")
        for scheme in ("light", "dark"):
            for width, height in ((1280, 900), (360, 740), (320, 640)):
                self.browser.look_as(width, height, scheme)
                await self.open()
                await self.see(lambda browser: browser.click(".switch"))
                await self.expect("document.querySelectorAll('#list li').length", 11)
                await self.expect("document.documentElement.scrollWidth <= innerWidth", True)
                if width > 320:
                    path = await self.keep(f"people-{scheme}-{width}")
                    self.assertGreater(path.stat().st_size, 5000)
                    found = await self.see(lambda browser: browser.violations(AXE.read_text()))
                    self.assertEqual(found, [])
        await self.expect_no_complaint()

    async def test_right_to_left(self) -> None:
        """From right to left, everything is mirrored and nothing overflows; names keep their direction."""
        await self.join("alice", "-".join(["long"] * 6))
        for width, height in ((1280, 900), (360, 740)):
            self.browser.look_as(width, height)
            await self.open()
            await self.see(
                lambda browser: browser.run("document.documentElement.setAttribute('dir', 'rtl')")
            )
            await self.expect("document.documentElement.scrollWidth <= innerWidth", True)
            mirrored = (
                "((face, open) => face.left > open.right)(document.querySelector('.face').getBoundingClientRect(),"
                " document.querySelector('.open').getBoundingClientRect())"
            )
            await self.expect(mirrored, True)
            await self.expect(
                "getComputedStyle(document.querySelector('bdi.name')).direction", "ltr"
            )

    async def test_empty(self) -> None:
        """If nobody is online, the page says so and how to join."""
        for scheme in ("light", "dark"):
            self.browser.look_as(1280, 900, scheme)
            await self.open()
            await self.expect("document.getElementById('empty').hidden", False)
            await self.keep(f"empty-{scheme}")
        self.browser.look_as(360, 740, "dark")
        await self.see(
            lambda browser: browser.run("document.getElementById('join').scrollIntoView()")
        )
        path = await self.keep("join-dark-360")
        self.assertGreater(path.stat().st_size, 5000)

    async def test_still(self) -> None:
        """The layout does not shift while the page loads."""
        await self.join("alice", "bob")
        await self.open()
        await self.expect(NAMES, ["alice", "bob"])
        script = (
            "new PerformanceObserver(() => 0).observe({type: 'layout-shift', buffered: true}) ?? "
            "performance.getEntriesByType('layout-shift').reduce((sum, each) => sum + each.value, 0)"
        )
        self.assertLess(await self.see(lambda browser: browser.run(script)), 0.02)
