"""JSON abuse (threat 28)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.strict_json import (
    DEPTH_MAX,
    boolean,
    integer,
    parse_json,
    parse_object,
    text,
    texts,
)


class StrictJsonTests(SynchronousTestCase):
    """Accepted and rejected texts."""

    def test_abuse(self) -> None:
        """Each of these is refused with one sentence, and at once (threat 28)."""
        for body in (
            b"", b"{", b"\xff", b"\xef\xbb\xbf{}", b'{"a":1,"a":2}', b'{"a":{"b":1,"b":2}}',
            b"NaN", b"[Infinity]", b'{"a":-Infinity}', b"1" * 5000, b"[" * 15000, b'{"a":' * 3000,
            b"[" * 17 + b"]" * 17, b"'a'", b"{a:1}", b"[1,]", b"01", b"{} {}", b'"\x00"', b'"a\nb"',
            b"9007199254740992", b"[-9007199254740992]", b'{"a":9007199254740992}', b"1e400", b"[-1e400]",
            b"-" + b"1" * 5000, b"1" * 400 + b".0", b'"\\ud800"', b'{"\\uDC00":1}', b'["\\udc00\\ud800"]',
        ):  # fmt: skip
            with self.assertRaises(RemoteProtocolError, msg=str(body[:20])):
                parse_json(body)

    def test_what_is_wrong(self) -> None:
        """The error names the text and the part that implementations may read differently."""
        for body, reason in (
            (b"x", "the body is no valid JSON in UTF-8"),
            (b'{"a":1,"a":2}', "a member that stands twice"),
            (b'{"a":[9007199254740992]}', "an integer of more than 53 bits"),
            (b'{"a":1e400}', "a number that is too large"),
            (b'{"a":"\\ud800"}', "half a surrogate pair"),
            (b"[" * 17 + b"]" * 17, "nested more than 16 deep"),
        ):
            with self.assertRaisesRegex(RemoteProtocolError, f"the body is .*{reason[-20:]}"):
                parse_json(body, "the body")

    def test_limits(self) -> None:
        """Integers up to the bound and complete surrogate pairs are accepted."""
        body = b'[9007199254740991, -9007199254740991, 1e308, 0.1, "\\ud83d\\ude00", "\\u00e9"]'
        found = parse_json(body)
        self.assertEqual(found, [2**53 - 1, 1 - 2**53, 1e308, 0.1, "\U0001f600", "é"])

    def test_depth(self) -> None:
        """Brackets may be nested up to the limit."""
        self.assertTrue(parse_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX))

    @given(st.binary(max_size=64))
    def test_noise(self, body: bytes) -> None:
        """Noise is an object or the one error."""
        try:
            self.assertIsInstance(parse_object(body), dict)
        except RemoteProtocolError as error:
            self.assertIn("JSON", str(error))

    def test_fields(self) -> None:
        """A field is of its type and within its bounds, or it is named."""
        fields = {"n": 5, "t": "abc", "a": ["x", "yy"], "f": 5.0, "b": True, "m": [1]}
        self.assertEqual(integer(fields, "n", 5, 5), 5)
        self.assertEqual(text(fields, "t", 3), "abc")
        self.assertIs(boolean(fields, "b"), True)
        with self.assertRaisesRegex(RemoteProtocolError, "the none is missing"):
            texts(fields, "none", 1, 1)
        self.assertEqual(texts(fields, "a", 2, 2), ("x", "yy"))
        for refused in (
            lambda: integer(fields, "n", 6),
            lambda: integer(fields, "f"),
            lambda: integer(fields, "b"),
            lambda: integer(fields, "none"),
            lambda: boolean(fields, "n"),
            lambda: text(fields, "t", 2),
            lambda: text(fields, "n", 2),
            lambda: texts(fields, "a", 1, 2),
            lambda: texts(fields, "a", 2, 1),
            lambda: texts(fields, "m", 2, 2),
            lambda: texts(fields, "t", 5, 5),
        ):
            with self.assertRaises(RemoteProtocolError):
                refused()
