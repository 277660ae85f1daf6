"""The words of the page: every language says everything, and every text is used."""

from __future__ import annotations

import json
import re
import unittest
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from p2pshare import errors
from p2pshare.web.assets import Assets
from p2pshare.web.exchange import Query
from p2pshare.web.reply_bodies import BytesSource

ASSETS = Path(str(files("p2pshare.peer.page"))) / "assets"
SECTIONS = (
    "common", "people", "person", "browse", "viewer", "transfers", "send", "inbox", "shares", "settings", "health",
    "signin",
)  # fmt: skip
"""The sections of a catalogue, one for each view, in their order."""
PLURALS = {"zero", "one", "two", "few", "many", "other"}
KEY = rf"(?:{'|'.join(SECTIONS)})\.[a-z0-9_]+(?:\.\w+)*"
LITERAL = re.compile(rf"""(["'`])({KEY})\1""")
"""A key in a script, as one string."""
TEMPLATE = re.compile(rf"`((?:{'|'.join(SECTIONS)})\.[^`\s]*\$\{{[^`\s]*)`")
"""A key in a script of which a part is computed."""
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
PLACE = re.compile(r"\{(\w+)\}")
PERSIAN_FAULTS = {
    "a letter or digit of Arabic": r"[\u0643\u064a\u0649\u0629\u0660-\u0669]",
    "a mark of Latin texts": r"[,;?\"'%]|\.\.\.|[\u2018-\u201f]",
    "a prefix without its joiner": r"(?:^|[\s\u00ab(])\u0646?\u0645\u06cc ",
    "a suffix without its joiner": r"\u0647 \u0627\u06cc\b| \u0647\u0627\u06cc?\b",
    "a joiner that joins nothing": r"\u200c(?!\w)|(?<!\w)\u200c",
    "a space before a mark, or two": r" [.:!\u060c\u061b\u061f\u00bb]|\u00ab |  ",
}
"""Mistakes in Persian texts: the name of each, and its pattern."""


def catalogues() -> dict[str, dict[str, Any]]:
    """Return the catalogues by their language."""
    folder = ASSETS / "texts"
    return {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}


def texts_of(catalogue: dict[str, Any]) -> dict[str, str | dict[str, str]]:
    """Return the texts by their key; one with plurals is a dictionary."""
    found: dict[str, str | dict[str, str]] = {}

    def walk(value: Any, key: str) -> None:
        if isinstance(value, str) or (value and set(value) <= PLURALS):
            found[key] = value
        else:
            for name, each in value.items():
                walk(each, f"{key}.{name}" if key else name)

    walk({name: value for name, value in catalogue.items() if name != "_language"}, "")
    return found


def scripts() -> dict[str, str]:
    """Return the scripts of the page by their path, without those of others and without comments."""
    paths = (path for path in ASSETS.rglob("*.js") if "vendor" not in path.parts)
    return {
        str(path.relative_to(ASSETS)): COMMENT.sub("", path.read_text("utf-8")) for path in paths
    }


class TextsTests(unittest.TestCase):
    """The catalogues and the scripts agree."""

    def setUp(self) -> None:
        self.catalogues = catalogues()
        self.english = texts_of(self.catalogues["en"])

    def test_languages(self) -> None:
        """Each language has the sections in order, the keys and the placeholders of English, and no empty text."""
        for language, catalogue in self.catalogues.items():
            self.assertEqual(tuple(catalogue), ("_language", *SECTIONS), language)
            self.assertIn(catalogue["_language"]["direction"], ("ltr", "rtl"))
            texts = texts_of(catalogue)
            self.assertEqual(self.english.keys() ^ texts.keys(), set(), language)
            for key, text in texts.items():
                forms = [text] if isinstance(text, str) else list(text.values())
                self.assertTrue(all(each.strip() for each in forms), f"{language}: {key} is empty")
                english = self.english[key]
                self.assertEqual(isinstance(text, str), isinstance(english, str), key)
                if not isinstance(text, str):
                    self.assertIn("other", text, f"{language}: {key}")
                wanted = english if isinstance(english, str) else " ".join(english.values())
                self.assertEqual(
                    set(PLACE.findall(" ".join(forms))),
                    set(PLACE.findall(wanted)),
                    f"{language}: {key}",
                )

    def test_persian(self) -> None:
        """Persian texts have the letters, digits, marks and joiners of Persian, and end as the English ones do."""
        ends = {".": ".", ":": ":", "?": "\u061f", "\u2026": "\u2026"}
        for key, text in texts_of(self.catalogues["fa"]).items():
            english = self.english[key]
            for form, persian in {"": text}.items() if isinstance(text, str) else text.items():
                for fault, pattern in PERSIAN_FAULTS.items():
                    self.assertNotRegex(persian, pattern, f"{key}: {fault}")
                own = english if isinstance(english, str) else english[form]
                self.assertEqual(
                    ends.get(own[-1], ""), persian[-1] if persian[-1] in ends.values() else "", key
                )

    def test_one_more_language(self) -> None:
        """One more file is one more language: the page names it to its scripts, which load it."""
        with TemporaryDirectory() as folder:
            texts = Path(folder, "texts")
            texts.mkdir()
            texts.joinpath("eo.json").write_text('{"_language": {"direction": "ltr"}}', "utf-8")
            assets = Assets([ASSETS, Path(folder)])
        index = assets.index(Query(b"GET", b"", b"", "")).source
        assert isinstance(index, BytesSource)
        self.assertIn(b'content="en eo fa"', index.content)
        path = f"{assets.folder}/texts/eo.json".encode()
        self.assertEqual(assets.file(Query(b"GET", path, b"", "")).status, 200)

    def test_every_key_exists(self) -> None:
        """A script asks for no text that does not exist."""
        for path, script in scripts().items():
            for _, key in LITERAL.findall(script):
                groups = any(each.startswith(f"{key}.") for each in self.english)
                self.assertTrue(key in self.english or groups, f"{path} wants {key}")
            for template in TEMPLATE.findall(script):
                self.assertTrue(
                    any(map(_pattern(template).fullmatch, self.english)), f"{path} wants {template}"
                )

    def test_every_key_is_used(self) -> None:
        """No text is left behind when a script changes."""
        all_scripts = "\n".join(scripts().values())
        used = {key for _, key in LITERAL.findall(all_scripts)}
        patterns = [_pattern(each) for each in TEMPLATE.findall(all_scripts)]
        unused = [
            key
            for key in self.english
            if key not in used and not any(each.fullmatch(key) for each in patterns)
        ]
        self.assertEqual(unused, [])

    def test_first_view(self) -> None:
        """The page names all modules of its first view at once, so that none waits until another has been read."""
        index = ASSETS.joinpath("index.html").read_text("utf-8")
        named = set(re.findall(r'"modulepreload" href="\{\{assets\}\}/(\S+)"', index))
        found, left = set(), ["app.js", "views/people.js"]
        while left:
            path = ASSETS / left.pop()
            for other in re.findall(
                r'^(?:import|export|\}) .*from "(\.\S+)";$', path.read_text(), re.M
            ):
                name = str((path.parent / other).resolve().relative_to(ASSETS.resolve()))
                if name not in found:
                    found.add(name)
                    left.append(name)
        self.assertEqual(named, found | {"views/people.js"})

    def test_errors(self) -> None:
        """Each sentence for an error belongs to a class of errors that exists, and names no command."""
        for language, catalogue in self.catalogues.items():
            for name, text in catalogue["common"]["errors"].items():
                self.assertTrue(name == "NoReply" or hasattr(errors, name), name)
                self.assertNotRegex(text, r"`|--", f"{language}: {name}")


def _pattern(template: str) -> re.Pattern[str]:
    """Return a pattern of the keys that a template may stand for."""
    fixed = re.split(r"\$\{[^}]*\}", template)
    return re.compile(r"[\w.]+".join(map(re.escape, fixed)))
