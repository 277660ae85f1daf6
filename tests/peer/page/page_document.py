"""docs/page-api.json, and the check of the page's replies and events against it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.registry.openapi_document import OpenApiDocument

DO = "/api/v1/do/"


class PageDocument(OpenApiDocument):
    """Checks replies; a deviation is an `AssertionError` or an error of `jsonschema`."""

    def template_of(self, path: str) -> str | None:
        """Return the template of a path; `{path}` stands for several segments."""
        if path in self.content["paths"]:
            return path
        for template in self.content["paths"]:
            shape = re.escape(template).replace(r"\{path\}", ".*")
            if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]*", shape), path):
                return str(template)
        return None

    def check(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """See the base class; a problem is described once, as the default of all operations."""
        template = self.template_of(path.partition("?")[0])
        if template is None or method == "HEAD":
            return
        where = f"{method} {template}: {status}"
        operation = self.content["paths"][template].get(method.lower())
        if operation is None:
            assert status in (401, 403, 405), where
            return
        responses = operation["responses"]
        response = self.resolve(responses.get(str(status)) or responses["default"])
        assert status >= 400 or str(status) in responses, where
        for name, header in response.get("headers", {}).items():
            assert name.lower() in headers, f"{where} lacks {name}"
            self.validate(headers[name.lower()], self.resolve(header)["schema"])
        if status == 304:
            return
        content, kind = response.get("content", {}), headers.get("content-type", "")
        assert kind in content or not content or "*/*" in content, f"{where} has {kind}"
        if kind in content and kind.endswith("json"):
            self.validate(json.loads(body), content[kind].get("schema", {}))

    def check_event(self, kind: str, fields: Any) -> None:
        """Check the fields of an event."""
        events = self.content["x-events"]
        assert kind in events, f"the event {kind} is not described"
        self.validate(fields, events[kind])

    @property
    def actions(self) -> set[str]:
        """Return the actions that are described."""
        return {path.removeprefix(DO) for path in self.content["paths"] if path.startswith(DO)}


DOCUMENT = PageDocument(Path(__file__).parents[3] / "docs" / "page-api.json")
