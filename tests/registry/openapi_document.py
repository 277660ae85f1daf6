"""docs/openapi.json, and the check of a reply against it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

METHODS = {"get", "put", "post", "delete"}


class OpenApiDocument:
    """Checks replies; a deviation is an `AssertionError`."""

    def __init__(self, path: Path) -> None:
        self.content: dict[str, Any] = json.loads(path.read_text())
        self._shapes = {
            re.compile(re.sub(r"\{\w+\}", "[^/]*", template)): template
            for template in self.content["paths"]
        }

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Iterate over every method, path template, and operation."""
        for template, item in self.content["paths"].items():
            for method in METHODS & item.keys():
                yield method, template, item[method]

    def resolve(self, value: dict[str, Any]) -> dict[str, Any]:
        """Resolve a reference."""
        if "$ref" in value:
            found = self.content
            for step in value["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            return found
        return value

    def template_of(self, path: str) -> str | None:
        """Return the template of a path."""
        if path in self.content["paths"]:
            return path
        return next((each for shape, each in self._shapes.items() if shape.fullmatch(path)), None)

    def check(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Check a reply to a request.

        Args:
            method: in upper case.
            path: without the `?` and what follows it.
            status: the reply's.
            headers: the reply's, with their names in lower case.
            body: the reply's.
        """
        template = self.template_of(path)
        if template is None:
            return
        operation = self.content["paths"][template].get(method.lower())
        where = f"{method} {template}: {status}"
        if operation is None:
            assert status in (405, 429), where
            return
        assert str(status) in operation["responses"], where
        response = self.resolve(operation["responses"][str(status)])
        for name, header in response.get("headers", {}).items():
            header = self.resolve(header)
            assert name.lower() in headers, f"{where} lacks {name}"
            value: Any = headers[name.lower()]
            is_number = header["schema"].get("type") == "integer"
            self.validate(int(value) if is_number else value, header["schema"])
        if not body:
            is_classic = status >= 400 and "classic" in operation["tags"]
            assert is_classic or "content" not in response, f"{where} lacks a body"
            return
        if (
            status == 400 and "classic" in operation["tags"]
        ):  # only a request that is no HTTP has one
            described = self.content["components"]["responses"]["Malformed"]
        else:
            described = response
        content = described["content"][headers["content-type"]]
        self.validate(json.loads(body), content["schema"])

    def validate(self, value: object, schema: dict[str, Any]) -> None:
        """Check a value; raises the errors of `jsonschema`."""
        whole = {**schema, "components": self.content["components"]}
        Draft202012Validator(whole).validate(value)


DOCUMENT = OpenApiDocument(Path(__file__).parent.parent.parent / "docs" / "openapi.json")
