"""Settings: flags first, then `P2PSHARE_…` variables, then `config.toml`."""

from __future__ import annotations

import enum
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import platformdirs

from p2pshare.errors import BadSetting, IllegalName, SettingsUnreadable, UnknownSetting
from p2pshare.names import FORM, read_name, read_viewer
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.text_files import read_text_file
from p2pshare.wire.addresses import LAN, address_fault, registry_or_lan

DEFAULT_REGISTRY = LAN
VARIABLE_PREFIX = "P2PSHARE_"
DEBUG_VARIABLE = f"{VARIABLE_PREFIX}DEBUG"
"""The variable with the file of `--debug`. It is no setting, since the log begins before settings are read."""
SETTINGS_SIZE_MAX = 64 * 1024  # bytes of config.toml
SILENCE = 8.0  # seconds without a word after which a path counts as broken
SILENCE_MIN, SILENCE_MAX = 1.0, 600.0  # seconds that it can be set to
ADDRESSES_MAX = 4  # addresses of this machine that the user can give
LIMIT_MIN, LIMIT_MAX = 1000.0, 1e12  # bytes per second that a rate can be limited to

OFFERS_FROM = ("everyone", "known", "allowed", "nobody")
"""From whom offers are taken: the values of `core.offers.incoming.OffersPolicy`, which takes its time to import."""
PICTURES = ("auto", "kitty", "sixel", "blocks", "off")
"""How a terminal shows pictures: `ui.terminal.picture_form.PictureForm`, or the best form that it has."""
INBOX_QUOTA = 10 * 10**9  # bytes of files that may be taken without asking
QUOTA_MAX = 2**63 - 1  # bytes that it can be set to

INVITATION_MAX = 4096  # characters: `wire.statements.STATEMENT_MAX`, which takes its time to import

_COMMAND_LINE = "the command line"
_INVITATION = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?((?:[kmg]i?)?)(?:b(?:/s)?)?", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?((?:[kmgt]i?)?)b?", re.IGNORECASE)
_SECONDS = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) ?s?")
_SWITCHES = ("classic", "portable_names", "private", "port_mapping", "notify", "hidden")
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class Via(enum.StrEnum):
    """The carriers over which an opener tries to reach a peer."""

    AUTO = "auto"
    """All of them side by side; the first session that is welcomed is used."""
    UDP = "udp"
    TCP = "tcp"
    RELAY = "relay"
    """The registry's relay alone, so that the peer does not learn this machine's address."""


class Source(enum.StrEnum):
    """Where a setting comes from."""

    FLAG = "flag"
    VARIABLE = "variable"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where settings were read."""

    path: Path
    """`config.toml`, which need not exist."""
    sources: Mapping[str, Source]
    """The source of each setting that has another one than its default."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a verb or a peer."""

    registry: str = DEFAULT_REGISTRY
    """The URL of the registry, without a slash at its end; or `LAN`, if there is none."""
    name: str | None = None
    """The user's own name."""
    data: Path | None = None
    """The data folder; None for the one of this registry and name."""
    share: tuple[str, ...] = ()
    """The shares, each `[NAME=]PATH` as it was given; empty for the `my_file.*` of the current folder."""
    allow: tuple[str, ...] = ()
    """The names that may see shares: `NAME,NAME`, or `SHARE=NAME,NAME` for one share; empty for everybody with a name.
    Without a registry `@lan` is everybody on the network, and empty everybody who was accepted.
    """
    exclude: tuple[str, ...] = ()
    """Patterns as in `.gitignore` of what is left out of all shares."""
    hidden: bool = False
    """Whether names that begin with a dot are shared."""
    limit: float | None = None
    """Maximum rate of sending or fetching, in bytes per second; None for no limit."""
    timeout: float = SILENCE
    """Seconds without a word from the other side after which a connection counts as broken."""
    via: Via = Via.AUTO
    """The carriers over which peers are reached."""
    classic: bool = False
    """Whether the classic protocol is enabled, which is neither encrypted nor authenticated."""
    portable_names: bool = False
    """Whether fetched files get names that every file system accepts."""
    pictures: str = PICTURES[0]
    """How the terminal shows pictures; one of `PICTURES`."""
    listen: int = 0
    """The welcome port; 0 lets the system choose."""
    address: tuple[str, ...] = ()
    """IP addresses at which others reach this machine, besides those that are found."""
    private: bool = False
    """Whether the addresses are kept secret, so that others come in by the relay alone."""
    port_mapping: bool = False
    """Whether the router is asked to forward the welcome port to this machine."""
    offers: str = OFFERS_FROM[0]
    """From whom offers are taken; one of `OFFERS_FROM`."""
    accept_from: tuple[str, ...] = ()
    """Names whose offers are accepted without asking."""
    inbox_folder: Path | None = None
    """Where accepted offers are saved; None for `default_inbox_folder`."""
    inbox_quota: int | None = INBOX_QUOTA
    """Bytes that the inbox folder may have for an offer to be accepted without asking; None for no limit."""
    notify: bool = False
    """Whether the desktop shows notifications of offers."""
    page: str | None = None
    """The endpoint of the page for browsers, as `serverFromString` reads it; None for none until a command opens it."""
    page_password_file: Path | None = None
    """The file with the password for browsers on other machines."""
    invitation: str | None = None
    """The invitation itself, for claiming a new name. The command line names a file with it, since everybody on the
    machine can see a command line.
    """
    origin: Origin | None = field(default=None, compare=False, repr=False)
    """Where they were read; None if they were not read but made."""

    @classmethod
    def load(
        cls, flags: Mapping[str, object], environ: Mapping[str, str], config_path: Path
    ) -> Self:
        """Take each setting from the first source that has it.

        Args:
            flags: values of the command line; None, or an empty one, for a flag that is absent.
            environ: the environment.
            config_path: `config.toml`, which need not exist.

        Raises:
            BadSetting: a value is not valid.
            UnknownSetting: the file has an unknown key.
            SettingsUnreadable: the file is not TOML, or cannot be read.
        """
        written = read_config(config_path)
        values: dict[str, Any] = {}
        found: dict[str, Source] = {}
        for setting in _READERS:
            variable = VARIABLE_PREFIX + setting.upper()
            sources = (
                (
                    Source.FLAG,
                    _COMMAND_LINE,
                    f"--{setting.replace('_', '-')}",
                    flags.get(setting),
                ),
                (Source.VARIABLE, "the environment", variable, environ.get(variable) or None),
                (Source.FILE, str(config_path), setting, written.get(setting)),
            )
            for kind, source, key, value in sources:
                if value is not None and value != [] and not _is_unset(setting, source, value):
                    if (source, setting) == (_COMMAND_LINE, "invitation"):
                        value = _read_invitation(Path(str(value)))
                    values[setting], found[setting] = _parsed(setting, source, key, value), kind
                    break
        return cls(**values, origin=Origin(config_path, found))


def _is_unset(setting: str, source: str, value: object) -> bool:
    """Whether a flag without a value is absent."""
    return source == _COMMAND_LINE and setting in _SWITCHES and not value


def default_inbox_folder() -> Path:
    """Return the folder `p2pshare` in the user's folder for downloads."""
    return platformdirs.user_downloads_path() / "p2pshare"


def default_config_path() -> Path:
    """Return `config.toml` in the user's configuration folder."""
    return platformdirs.user_config_path("p2pshare") / "config.toml"


def read_config(path: Path) -> dict[str, object]:
    """Return the values in `config.toml`, which need not exist; they are not validated.

    Raises:
        UnknownSetting, SettingsUnreadable: see `Settings.load`.
    """
    try:
        text = read_text_file(path, SETTINGS_SIZE_MAX + 1)
        if len(text) > SETTINGS_SIZE_MAX:
            raise SettingsUnreadable(source=path, reason="it is too long.")
        written = tomllib.loads(text.decode())
        str(written)  # raises RecursionError for keys that are nested too deeply
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SettingsUnreadable(source=path, reason=plain_reason(error)) from error
    except ValueError as error:  # TOMLDecodeError
        raise SettingsUnreadable(source=path, reason=str(error)) from error
    except RecursionError as error:
        raise SettingsUnreadable(source=path, reason="it is nested too deeply.") from error
    for key in written:
        if key not in _READERS:
            raise UnknownSetting(source=path, setting=key, known=", ".join(_READERS))
    return written


def read_setting(setting: str, value: object) -> Any:
    """Return the value of a setting that a program has given as JSON, as `Settings` has it.

    Raises:
        BadSetting: it is not valid.
    """
    return _parsed(setting, "The request", setting, value)


def written_setting(value: object) -> str:
    """Return the text of a value of `Settings`, as `config.toml` may have it."""
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(map(str, value))
        case None:
            return "0"
        case float():
            return str(int(value))
    return str(value)


def _read_invitation(path: Path) -> str:
    """Return the text of the file with the invitation, which is validated with the other settings."""
    try:
        return read_text_file(path, INVITATION_MAX + 2).decode("ascii", "replace").strip()
    except OSError as error:
        raise SettingsUnreadable(source=path, reason=plain_reason(error)) from error


def _parsed(setting: str, source: str, key: str, value: object) -> object:
    """Return the value of a setting; `key` is its name in `source`."""
    parse, expected = _READERS[setting]
    try:
        return parse(value)
    except IllegalName as error:
        said = error.fields["name"], error.fields["reason"]
        expected = (
            f"{expected}; {said[0]!r} is none: {said[1]}"
            if setting in ("allow", "accept_from")
            else f"a name: {said[1]}"
        )
        raise BadSetting(source=source, setting=key, value=value, expected=expected) from error
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        shown = "..." if setting == "invitation" else value  # it could be a secret
        raise BadSetting(source=source, setting=key, value=shown, expected=expected) from error


def _path(value: str | Path) -> Path:
    if not str(value) or "\0" in str(value):
        raise ValueError(value)
    return Path(value).expanduser()


def _share(value: object) -> tuple[str, ...]:
    shares = _several(value, os.pathsep)
    for each in shares:
        _path(each.partition("=")[2] if "=" in each else each)
    return shares


def _allow(value: object) -> tuple[str, ...]:
    allowed = _several(value, ";")
    for each in allowed:
        _, _, names = each.rpartition("=")
        for name in names.split(","):
            read_viewer(name)
    return allowed


def _several(value: object, separator: str) -> tuple[str, ...]:
    """Return texts; in a variable they are one text with separators."""
    if isinstance(value, str):
        value = value.split(separator)
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise TypeError(value)
    if any("\0" in each for each in value):
        raise ValueError(value)
    return tuple(value)


def _offers(value: str) -> str:
    policy = value.strip().lower()
    if policy not in OFFERS_FROM:
        raise ValueError(value)
    return policy


def _pictures(value: str) -> str:
    form = value.strip().lower()
    if form not in PICTURES:
        raise ValueError(value)
    return form


def _accept_from(value: object) -> tuple[str, ...]:
    names = (name for each in _several(value, ",") for name in each.split(","))
    return tuple(dict.fromkeys(map(read_name, names)))


def _quota(value: float | str) -> int | None:
    if isinstance(value, str):
        value = _scaled(_SIZE, value)
    if not 0 <= _number(value) <= QUOTA_MAX:
        raise ValueError(value)
    return int(value) or None


def _limit(value: float | str) -> float | None:
    rate = rate_of(value) if isinstance(value, str) else _number(value)
    if rate == 0:
        return None
    if not LIMIT_MIN <= rate <= LIMIT_MAX:
        raise ValueError(value)
    return rate


def rate_of(text: str) -> float:
    """Return the bytes per second of a text such as `500k`, `1.5MiB/s` or `none`, which is 0.

    Raises:
        ValueError: it is malformed.
    """
    return _scaled(_RATE, text)


def _scaled(form: re.Pattern[str], text: str) -> float:
    """Return the number of a text with a unit of 1000 or 1024, or 0 for `none`."""
    if text.strip().lower() == "none":
        return 0.0
    match = form.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    prefix = match[2].lower()
    power = " kmgt".index(prefix[:1] or " ")
    return float(match[1]) * (1024.0 if prefix.endswith("i") else 1000.0) ** power


def _timeout(value: float | str) -> float:
    if isinstance(value, str):
        match = _SECONDS.fullmatch(value.strip())
        if match is None:
            raise ValueError(value)
        value = float(match[1])
    if not SILENCE_MIN <= _number(value) <= SILENCE_MAX:
        raise ValueError(value)
    return float(value)


def _via(value: str) -> Via:
    return Via(value.strip().lower())


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    return float(value)


def _switch(value: object) -> bool:
    if isinstance(value, str):
        if value.strip().lower() not in _YES + _NO:
            raise ValueError(value)
        return value.strip().lower() in _YES
    if value not in (0, 1) or not isinstance(value, int):
        raise TypeError(value)
    return bool(value)


def _listen(value: int | str) -> int:
    port = int(value) if isinstance(value, str) else value
    if type(port) is not int or not 0 <= port <= 65535:
        raise ValueError(value)
    return port


def _address(value: object) -> tuple[str, ...]:
    given = [str(ipaddress.ip_address(each.strip())) for each in _several(value, ",")]
    if len(given) > ADDRESSES_MAX or any(map(address_fault, given)):
        raise ValueError(value)
    return tuple(dict.fromkeys(given))


def _endpoint(value: int | str) -> str:
    """Return an endpoint; a number alone is a port of loopback."""
    if isinstance(value, int) or value.strip().isdecimal():
        return f"tcp:{_listen(value)}:interface=127.0.0.1"
    if ":" not in value or "\0" in value:
        raise ValueError(value)
    return value.strip()


def _invitation(value: str) -> str:
    if len(value) > INVITATION_MAX or not _INVITATION.fullmatch(value.strip()):
        raise ValueError(value)
    return value.strip()


# The keys of config.toml, which are also the flags and the variables: how each is read, and what it must be.
_READERS: dict[str, tuple[Callable[[Any], object], str]] = {
    "registry": (
        registry_or_lan,
        "a URL such as http://127.0.0.1:8000, without a path, or lan: for none",
    ),
    "name": (read_name, f"a name: {FORM}"),
    "data": (_path, "a path"),
    "share": (
        _share,
        'a path or NAME=PATH, or several: a list in config.toml, joined by ":" in a variable',
    ),
    "allow": (
        _allow,
        'a list of names such as bob,carol, or SHARE=bob,carol, or several: a list in config.toml, joined by ";" in a'
        " variable",
    ),
    "exclude": (
        lambda value: _several(value, ";"),
        'a pattern such as *.tmp, or several: a list in config.toml, joined by ";" in a variable',
    ),
    "hidden": (_switch, "a yes or no: true or false"),
    "limit": (_limit, "a rate such as 5MB/s, 500kB/s or 1.5MiB/s, or 0 for none"),
    "timeout": (_timeout, "a time from 1 to 600 seconds"),
    "via": (_via, "auto, udp, tcp or relay"),
    "classic": (_switch, "a yes or no: true or false"),
    "portable_names": (_switch, "a yes or no: true or false"),
    "pictures": (_pictures, "auto, kitty, sixel, blocks or off"),
    "listen": (_listen, "a port number from 0 to 65535"),
    "address": (
        _address,
        "an IP address that others can reach, such as 192.0.2.7 or 2001:db8::7, or up to 4 of them: a"
        ' list in config.toml, joined by "," in a variable',
    ),
    "private": (_switch, "a yes or no: true or false"),
    "port_mapping": (_switch, "a yes or no: true or false"),
    "offers": (_offers, "everyone, known, allowed or nobody"),
    "accept_from": (
        _accept_from,
        'a list of names such as bob,carol, or several: a list in config.toml, joined by "," in a variable',
    ),
    "inbox_folder": (_path, "a path"),
    "inbox_quota": (_quota, "a size such as 10GB, 500MB or 1.5GiB, or 0 for no limit"),
    "notify": (_switch, "a yes or no: true or false"),
    "page": (_endpoint, "a port, or an endpoint such as tcp:8080:interface=127.0.0.1"),
    "page_password_file": (_path, "a path"),
    "invitation": (_invitation, "an invitation from a registry's operator"),
}
