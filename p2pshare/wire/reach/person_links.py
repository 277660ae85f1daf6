"""The link to a person in a registry, or to one of their folders or files: `p2pshare://KEY/NAME/PATH`.

`p2pshare open` follows it, and `docs/join-links.md` has its form::

    link = "p2pshare://" key "/" name *( "/" component )

The key is that of the registry, since a registry is known by it: the link does not say where the registry is, so it
cannot lead anybody to a registry. The components of the path are percent-encoded UTF-8. A link comes from a page of a
stranger, so everything that is not needed is rejected: a query, a fragment, a port, dots that climb, and control
characters.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote_to_bytes

from p2pshare.errors import IllegalName, PersonLinkUnusable, RemoteProtocolError
from p2pshare.names import check_name
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath, format_path, parse_path

PREFIX = "p2pshare://"
LINK_MAX = 16_384  # characters; the longest path takes three for each byte

_PARTS = re.compile(r"([a-z2-7]+)((?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)+)")
"""The key, and the rest of a link in the characters of RFC 3986."""


@dataclass(frozen=True, slots=True)
class PersonLink:
    """What a link leads to."""

    registry: PublicKey
    name: str
    path: RemotePath = ()

    def __str__(self) -> str:
        """Return the link."""
        components = (self.name, *self.path)
        return f"{PREFIX}{self.registry}/" + "/".join(quote(each, safe="") for each in components)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a link from anybody.

        Raises:
            PersonLinkUnusable: it is none; the reason says why.
        """
        if not is_person_link(text):
            raise PersonLinkUnusable(reason=f"it does not begin with {PREFIX}")
        if len(text) > LINK_MAX:
            raise PersonLinkUnusable(reason=f"it has more than {LINK_MAX} characters")
        match = _PARTS.fullmatch(text[len(PREFIX) :])
        if match is None:
            raise PersonLinkUnusable(reason=f"it is not {PREFIX}KEY/NAME or {PREFIX}KEY/NAME/PATH")
        try:
            key = PublicKey.parse(match[1], "the key of the registry")
            name, *path = (unquote_to_bytes(each).decode() for each in match[2][1:].split("/"))
            if any(unicodedata.category(character) == "Cc" for character in "".join(path)):
                raise PersonLinkUnusable(reason="its path has a control character")
            if any("/" in each for each in path):
                raise PersonLinkUnusable(reason="a part of its path has a slash")
            return cls(key, check_name(name), parse_path(format_path(tuple(path))))
        except UnicodeDecodeError:
            raise PersonLinkUnusable(reason="a text in it is not UTF-8") from None
        except RemoteProtocolError as error:
            raise PersonLinkUnusable(reason=str(error.fields["reason"])) from None
        except IllegalName as error:
            raise PersonLinkUnusable(
                reason=f"{error.fields['name']!r} is no name: {error.fields['reason']}"
            ) from None


def is_person_link(text: str) -> bool:
    """Whether a text is meant to be a link to a person."""
    return text[: len(PREFIX)].lower() == PREFIX
