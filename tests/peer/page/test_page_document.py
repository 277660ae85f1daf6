"""docs/page-api.json: it has what the page can ask for, with the fields that docs/control.md has, and nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

from p2pshare.peer.page.api import NOT_FOR_PAGES
from tests.peer.page.page_case import PageTestCase
from tests.peer.page.page_document import DO, DOCUMENT
from tests.peer.test_control_document import documented_actions, fields, part

SHARED = {
    "An offer": "Offer",
    "A recipient": "Recipient",
    "An item of the inbox": "InboxItem",
    "A share": "Share",
    "A person": "Person",
    "A job": "Job",
    "A setting": "Setting",
    "A visit": "Visit",
    "A local folder": "LocalFolder",
    "An entry of the history": "HistoryEntry",
    "An entry of a folder": "FolderEntry",
    "What is left out": "LeftOut",
}
"""The schema of each object of docs/control.md that several actions have."""
NONSENSE: tuple[Any, ...] = ("\ud800\0\u202e", "x" * 5000, -(2**63), [[["a"]]], None)
"""Values that no field can have, or few."""
NO_OBJECTS = (b"", b"null", b"[]", b"{}}", b'{"a": 1, "a": 1}', b'{"a": NaN}', b"[" * 9000, b"\xff")
"""Bodies that are no object of JSON."""


class PageDocumentTests(PageTestCase):
    """The document against docs/control.md, and against a peer that runs."""

    async def test_actions(self) -> None:
        """All actions that the page can ask for are described, and no others."""
        _, browser = await self.page()
        known = set((await browser.do("version")).fields["actions"])
        self.assertEqual(DOCUMENT.actions, known - NOT_FOR_PAGES)
        self.assertEqual(NOT_FOR_PAGES - known, set())

    def test_events(self) -> None:
        """All events of docs/control.md are described, and the two that only this stream has."""
        listed = set(re.findall(r"^\| `(\w+)` \|", part("## Events"), re.M))
        self.assertEqual(set(DOCUMENT.content["x-events"]), listed | {"hello", "alive"})

    async def test_routes(self) -> None:
        """Each path that is described exists; without a session it is closed, unless the document opens it."""
        _, browser = await self.page()
        cookie, browser.cookie = browser.cookie, ""
        for method, template, operation in DOCUMENT.operations():
            path = (
                template.replace("{path}", "a/b").replace("{name}", "bob").replace("{draft}", "x")
            )
            told = await browser.ask(method.upper(), path, {} if method != "get" else None)
            expected = (400,) if operation.get("security") == [] else (401,)
            self.assertIn(told.status, expected, (method, path))
        browser.cookie = cookie
        for method in ("PUT", "PATCH", "OPTIONS"):
            told = await browser.ask(method, "/api/v1/do/status", {})
            self.assertEqual((told.status, told.headers["allow"]), (405, "POST"), method)

    async def test_nonsense(self) -> None:
        """Threat 6: no action fails by a defect, whatever its fields are. All replies are as described."""
        peer, browser = await self.page()
        for action in DOCUMENT.actions - {"stop"}:
            operation = DOCUMENT.content["paths"][DO + action]["post"]
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            for value in NONSENSE:
                body = dict.fromkeys(schema.get("properties", ("name",)), value)
                told = await browser.ask("POST", DO + action, body)
                self.assertNotIn(told.status, (500, 503), (action, value))
        for data in NO_OBJECTS:
            self.assertEqual((await browser.ask("POST", f"{DO}send", data)).status, 400, data)
        self.assertTrue(peer.running)

    def test_fields(self) -> None:
        """Requests and shared objects have the fields that docs/control.md has."""
        for action in documented_actions() - NOT_FOR_PAGES:
            operation = DOCUMENT.content["paths"][DO + action]["post"]
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            text = part(f"### {action}")
            if "| bound |" in text:
                self.assertEqual(list(schema["properties"]), fields(text), action)
        for title, name in SHARED.items():
            schema = DOCUMENT.content["components"]["schemas"][name]
            self.assertEqual(list(schema["properties"]), fields(part(f"### {title}")), title)

    def test_schemas(self) -> None:
        """The schemas are valid, each is used, and each says of something that it is wrong."""
        components, text = DOCUMENT.content["components"], json.dumps(DOCUMENT.content)
        for name, schema in components["schemas"].items():
            Draft202012Validator.check_schema(schema)
            self.assertIn(f'"#/components/schemas/{name}"', text)
        identities = [operation["operationId"] for _, _, operation in DOCUMENT.operations()]
        self.assertEqual(len(identities), len(set(identities)))

    def test_deviations(self) -> None:
        """A reply or an event that is not described is found."""
        json_type = {"content-type": "application/json"}
        deviations: list[tuple[Any, ...]] = [
            ("POST", DO + "stop", 200, json_type, b'{"name": 1, "pid": 1}'),
            ("POST", DO + "stop", 201, json_type, b"{}"),
            ("POST", DO + "stop", 404, json_type, b"{}"),
            ("GET", "/api/v1/session", 200, json_type, b"{}"),
        ]
        for deviation in deviations:
            with self.assertRaises((AssertionError, ValidationError), msg=deviation):
                DOCUMENT.check(*deviation)
        self.assertRaises(AssertionError, DOCUMENT.check_event, "nonsense", {})
