"""docs/control.md: its actions, fields, bounds and example are those of a running peer."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2pshare.errors import P2pshareError
from p2pshare.peer import control
from p2pshare.peer.control import ControlClient, running_peer
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.strict_json import DEPTH_MAX
from tests.peer.registry_case import RegistryTestCase

DOCUMENT = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
OF_REPLIES = {"do", "error", "message", "exit_code"}
"""What the socket itself reads, besides the fields of actions."""
DOWNLOAD = {
    "title": "a",
    "files": 1,
    "bytes": 2,
    "outcome": "done",
    "key": str(SigningKey(bytes(32)).public),
}


def part(title: str) -> str:
    """Return the text below a heading of the document, up to the next heading of its level or above."""
    level, _, _ = title.partition(" ")
    found = re.search(
        rf"^{re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", DOCUMENT, re.M | re.S
    )
    assert found, title
    return found[1]


def fields(text: str) -> list[str]:
    """Return the names in the first column of the tables of fields."""
    names, is_field = list[str](), False
    for line in text.splitlines():
        if not line.startswith("|"):
            is_field = False
        elif line.startswith("| field"):
            is_field = True
        elif is_field and (name := re.match(r"\| `(\w+)` \|", line)):
            names.append(name[1])
    return names


def documented_actions() -> set[str]:
    """Return the actions that the document describes."""
    return set(re.findall(r"^### (\w+)$", part("## Actions"), re.M))


def shape(value: Any) -> Any:
    """Return the kinds of the fields of a reply, without the values."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return type(value).__name__


class ControlDocumentTests(RegistryTestCase):
    """The document against a peer that runs."""

    async def client(self) -> ControlClient:
        """Connect to the peer."""
        client = await running_peer(self.reactor, self.data_of("alice"))
        assert client is not None
        self.addCleanup(client.close)
        return client

    async def test_actions(self) -> None:
        """The peer has the actions of the document, and no others. Their replies have the fields of the document."""
        await self.started("alice")
        client = await self.client()
        version = await client.ask("version")
        self.assertEqual(sorted(version["actions"]), sorted(documented_actions()))
        self.assertEqual(fields(part("### version")), list(version))
        status = await client.ask("status")
        self.assertEqual(sorted(fields(part("### status"))), sorted(status))
        left_out = status["shares"][0]["left_out"]
        self.assertEqual(sorted(fields(part("### What is left out"))), sorted(left_out))

    async def test_offers(self) -> None:
        """An offer has the fields of the document."""
        await self.started("alice")
        client = await self.client()
        paths = [str(self.shared)]
        offer = await client.ask("send", paths=paths, to=["bob"], check=True)
        self.assertEqual(fields(part("### An offer")), list(offer))
        self.assertEqual(fields(part("### A recipient")), list(offer["to"][0]))
        self.assertEqual(set(offer["items"][0]), {"name", "kind", "bytes", "files"})
        self.assertEqual(list(await client.ask("offers")), ["offers", "more"])
        folder = await client.ask("local_folders", path=str(self.shared), files=True)
        self.assertEqual(fields(part("### A local folder")), list(folder))
        entry = await client.ask("history_add", name="bob", **DOWNLOAD)
        self.assertEqual(sorted(fields(part("### An entry of the history"))), sorted(entry))
        history = await client.ask("history", name="bob")
        self.assertEqual((list(history), len(history["entries"])), (["entries", "more"], 1))

    async def test_inbox(self) -> None:
        """An item of the inbox and its events have the fields of the document."""
        await self.started("alice")
        sender = await self.started("bob")
        events = await (await self.client()).follow()
        assert sender._control is not None
        await sender._control.perform("send", {"text": "hi", "to": ["alice"]})
        event = await anext(events)
        self.assertEqual(event.pop("event"), "inbox")
        self.assertEqual(fields(part("### An item of the inbox")), list(event))
        client = await self.client()
        listed = await client.ask("inbox")
        self.assertEqual(listed, {"items": [event], "more": False})
        await client.ask("accept_offer", id=event["id"][:4], folder=str(self.saved))
        while (event.get("event"), event.get("state")) != ("inbox", "done"):
            event = await anext(events)
        self.assertEqual(event["saved"], [str(self.saved / "text.txt")])
        await events.aclose()

    async def test_shares(self) -> None:
        """A share has the fields of the document, and followers are told of it."""
        await self.started("alice")
        client, follower = await self.client(), await self.client()
        events = await follower.follow()
        share = await client.ask("share_add", path=str(self.shared), name="more")
        self.assertEqual(fields(part("### A share")), list(share))
        self.assertEqual(list(await client.ask("shares")), ["shares", "more"])
        told = await anext(events)
        self.assertEqual(told, {"event": "shares", **share, "removed": False})
        await events.aclose()

    async def test_jobs(self) -> None:
        """A job has the fields of the document, and followers are told of it."""
        (self.shared / "cat.jpg").write_bytes(b"miaow")
        await self.started("alice")
        await self.started("bob")
        client, follower = await self.client(), await self.client()
        events = await follower.follow()
        folder = str(self.saved)
        job = await client.ask("get", name="bob", paths=["stuff/cat.jpg"], folder=folder)
        wanted = fields(part("### A job"))
        self.assertEqual(sorted(job), sorted(wanted))
        while (event := await anext(events))["event"] != "job" or event["state"] != "done":
            pass
        self.assertEqual(sorted(event), sorted([*wanted, "event"]))
        details = await client.ask("job", id=job["id"])
        self.assertEqual(sorted(details), sorted([*wanted, *fields(part("### job"))]))
        self.assertEqual(list(await client.ask("jobs")), ["jobs", "more"])
        self.assertEqual((await client.ask("job_remove", id=job["id"]))["state"], "done")
        self.assertEqual(await client.ask("jobs_clear"), {"count": 0})
        self.assertEqual(list(await client.ask("traffic")), ["step_s", "down", "up"])
        await events.aclose()

    async def test_entries(self) -> None:
        """An entry of a folder of another peer has the fields of the document."""
        (self.shared / "cat.jpg").write_bytes(b"")
        await self.started("alice")
        await self.started("bob")
        page = await (await self.client()).ask("list", name="bob", path="stuff")
        self.assertEqual(list(page), ["entries", "more", "left_out", "unnamed"])
        (entry,) = page["entries"]
        self.assertEqual(fields(part("### An entry of a folder")), list(entry))

    async def test_requests(self) -> None:
        """The peer reads each field of a request that the document has: one of a wrong type is an error."""
        await self.started("alice")
        client = await self.client()
        for action in sorted(documented_actions()):
            table = part(f"### {action}")
            for name in fields(table) if "| bound |" in table else ():
                right = {
                    "name": "bob",
                    "prefix": "",
                    "paths": ["/"],
                    "to": ["bob"],
                    "id": "k6xw",
                    "path": str(self.shared),
                    **DOWNLOAD,
                }
                with self.assertRaises(P2pshareError) as raised:
                    await client.ask(action, **{**right, name: {}})
                self.assertIn(f"the {name} is", str(raised.exception))

    def test_fields_of_requests(self) -> None:
        """The document has each field that the modules with actions read of a request, and no others."""
        read = {"folder"}  # which inbox.py reads in another way
        for path in Path(control.__file__).parent.rglob("*.py"):
            source = path.read_text()
            if re.search(r"from p2pshare\.peer\.control import .*\bFields\b", source):
                read |= _fields_read(source)
        read |= _fields_read(Path(control.__file__).read_text()) - OF_REPLIES
        documented = set[str]()
        for action in documented_actions():
            text = part(f"### {action}")
            documented |= set(fields(text)) if "| bound |" in text else set()
            for sentence in re.findall(r"^Takes ([^.]*)", text, re.M):
                documented |= set(re.findall(r"`(\w+)` \(text", sentence))
        self.assertEqual(sorted(documented), sorted(read))

    def test_bounds(self) -> None:
        """The bounds in the document are those of the code."""
        words = " ".join(DOCUMENT.split())
        for bound in (
            f"length of a request | {control.LINE_MAX} bytes",
            f"length of a reply or an event | {control.REPLY_MAX} bytes",
            f"time without a request | {control.REQUEST_TIMEOUT:.0f} s,",
            f"time for an action | {control.time_for('offers'):.0f} s, for `send` {control.time_for('send'):.0f} s,",
            f"connections | {control.CONNECTIONS_MAX};",
            f"connections that follow | {control.FOLLOWERS_MAX} |",
            f"slow follower | {control.QUEUE_EVENTS}, and {control.QUEUE_BYTES} bytes",
            f"may read the rest | {control.OVERRUN_TIMEOUT:.0f} s |",
            f"at most {DEPTH_MAX} brackets",
            f"as `control`, which is {control.CONTROL_VERSION}.",
        ):
            self.assertIn(bound, words)

    async def test_example(self) -> None:
        """The session of the document goes as it says."""
        await self.started("alice")
        client = await self.client()
        for request, expected in _session():
            do = request.pop("do")
            try:
                reply = {"ok": True, **await client.ask(do, **request)}
            except P2pshareError as error:
                reply = {"ok": False, "error": type(error).__name__, "message": str(error)}
                reply["exit_code"] = error.exit_code
                self.assertEqual(reply["error"], expected["error"])
                self.assertIn(expected["message"], str(error))
            self.assertEqual(shape(reply), shape(expected))


def _fields_read(source: str) -> set[str]:
    """Return the names of fields that the readers of strict JSON are called with."""
    return {
        str(each.args[1].value)
        for each in ast.walk(ast.parse(source))
        if isinstance(each, ast.Call)
        and isinstance(each.func, ast.Name)
        and each.func.id in ("boolean", "integer", "member", "text", "texts")
        and len(each.args) > 1
        and isinstance(each.args[1], ast.Constant)
    }


def _session() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    lines = re.findall(r"^([<>]) (.*)$", part("## An example"), re.M)
    for (asks, request), (says, reply) in zip(lines[::2], lines[1::2], strict=True):
        assert (asks, says) == (">", "<")
        yield json.loads(request), json.loads(reply)
