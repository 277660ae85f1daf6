"""The settings of a running peer, as other programs may see and change them.

A setting comes from a flag, a variable or `config.toml`, in this order (`storage/settings.py`). What the user changes
while the peer runs is written into `config.toml`, so it holds after a restart, too. A setting that a flag or a variable
has set is `fixed`: a change in the file would have no effect, so it is refused.

Most changes are in use at once: the rate of running transfers, from whom offers are taken, where they are saved. Others
need a restart, because ports, addresses and the registry are chosen when the peer starts. Nothing is written unless
all values of a request are valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import DeferredLock

from p2pshare.errors import BadSetting, ControlRefused, WrongUsage
from p2pshare.net.notifier import Notifier
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import Action, Fields
from p2pshare.peer.desktop import DesktopNotices
from p2pshare.peer.running import RunningPeer
from p2pshare.storage.config_file import update_config
from p2pshare.storage.identity.data_folder import inbox_folder
from p2pshare.storage.settings import (
    OFFERS_FROM,
    Settings,
    Source,
    Via,
    default_inbox_folder,
    read_config,
    read_setting,
    written_setting,
)
from p2pshare.web.exchange import Route
from p2pshare.wire.addresses import LAN
from p2pshare.wire.strict_json import member

CHANGES_MAX = 32  # settings in a request


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a setting is."""

    kind: str
    """How it is edited."""
    needs_restart: bool = False
    choices: tuple[str, ...] = ()


_KINDS: Mapping[str, _Kind] = {
    "limit": _Kind("rate"),
    "inbox_folder": _Kind("folder"),
    "inbox_quota": _Kind("bytes"),
    "offers": _Kind("choice", choices=OFFERS_FROM),
    "accept_from": _Kind("names"),
    "notify": _Kind("switch"),
    "port_mapping": _Kind("switch"),
    "registry": _Kind("registry", needs_restart=True),
    "private": _Kind("switch", needs_restart=True),
    "via": _Kind("choice", needs_restart=True, choices=tuple(each.value for each in Via)),
    "listen": _Kind("port", needs_restart=True),
    "address": _Kind("addresses", needs_restart=True),
    "classic": _Kind("switch", needs_restart=True),
}
"""The settings that other programs see, in the order in which they are shown."""


class OwnSettings:
    """Shows and changes the settings of a peer."""

    def __init__(
        self, peer: RunningPeer, make_notifier: Callable[[Any], Notifier] = Notifier
    ) -> None:
        """Show those of `peer`; `make_notifier` makes what shows notifications on the desktop."""
        self._peer = peer
        self._make_notifier = make_notifier
        self._kept = peer.settings  # those after a restart
        self._changing = DeferredLock()  # one change of the file at a time
        self._desktop: DesktopNotices | None = None
        if peer.settings.notify:
            self._desktop = DesktopNotices(peer.events, make_notifier(peer.reactor))

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs and the page may ask for."""
        return {"settings": self._settings, "settings_change": self._change}

    def table(self) -> Mapping[bytes, Route]:
        """Return no routes."""
        return {}

    async def start(self) -> None:
        """Do nothing: notifications are shown from the beginning."""

    async def stop(self) -> None:
        """Show no notifications any more."""
        desktop, self._desktop = self._desktop, None
        if desktop is not None:
            await desktop.stop()

    async def _settings(self, _request: Fields) -> Fields:
        """Return all settings."""
        return {"settings": list(self._rows()), "file": self._file_text()}

    def _file_text(self) -> str | None:
        origin = self._peer.settings.origin
        return None if origin is None else str(origin.path)

    def _rows(self) -> Iterator[dict[str, Any]]:
        defaults = Settings()
        for name, what in _KINDS.items():
            source = self._source(name)
            yield {
                "name": name,
                "kind": what.kind,
                "value": _shown(name, getattr(self._kept, name)),
                "in_use": _shown(name, getattr(self._peer.settings, name)),
                "default": _shown(name, getattr(defaults, name)),
                "source": source.value,
                "fixed": source in (Source.FLAG, Source.VARIABLE),
                "needs_restart": what.needs_restart,
                "choices": list(what.choices),
            }

    def _source(self, name: str) -> Source:
        origin = self._kept.origin
        return Source.DEFAULT if origin is None else origin.sources.get(name, Source.DEFAULT)

    async def _change(self, request: Fields) -> Fields:
        """Change some settings, or none of them if one of the new values is not valid."""
        async with self._changing:
            return await self._change_now(request)

    async def _change_now(self, request: Fields) -> Fields:
        values = member(dict(request), "values")
        if not isinstance(values, dict) or not 1 <= len(values) <= CHANGES_MAX:
            raise ControlRefused(reason="the values is no object with a setting in it")
        parsed = {name: self._parsed(name, value) for name, value in values.items()}
        wanted = replace(self._kept, **parsed)
        _check(wanted)
        origin = self._kept.origin
        if origin is None:
            raise ControlRefused(reason="it was started without a config.toml")
        if inbox_folder(wanted) != inbox_folder(self._kept):
            self._peer.live_shares.keep_private(inbox_folder(wanted))
        defaults = Settings()
        written = {  # no list is empty in the file, so a default is left out
            name: None if value == getattr(defaults, name) else written_setting(value)
            for name, value in parsed.items()
        }
        await run_in_thread(self._peer.reactor, _write, origin.path, written)
        sources = dict(origin.sources)
        for name, text in written.items():
            sources.pop(name, None)
            if text is not None:
                sources[name] = Source.FILE
        self._kept = replace(wanted, origin=replace(origin, sources=sources))
        await self._use(parsed)
        fields = {"settings": list(self._rows()), "file": self._file_text()}
        self._peer.events.publish("settings", **fields)
        return fields

    def _parsed(self, name: str, value: object) -> Any:
        """Return the value of a setting; its default for None."""
        if name not in _KINDS:
            raise WrongUsage(reason=f"There is no setting {name[:64]!r} that can be changed here.")
        if self._source(name) in (Source.FLAG, Source.VARIABLE):
            flag, variable = f"--{name.replace('_', '-')}", f"P2PSHARE_{name.upper()}"
            reason = f"{name} is set by {flag} or {variable}, which precede the file."
            raise WrongUsage(reason=f"{reason} Start the peer without it to change it here.")
        if value is None:
            return getattr(Settings(), name)
        if name in ("accept_from", "address") and value == []:
            return ()
        parsed = read_setting(name, value)
        if name == "inbox_folder" and not parsed.is_absolute():
            raise BadSetting(
                source="The request", setting=name, value=value, expected="an absolute path"
            )
        if parsed in ((), None):
            return parsed
        return read_setting(name, written_setting(parsed))  # as the file has it after a restart

    async def _use(self, parsed: Mapping[str, Any]) -> None:
        """Use what does not need a restart."""
        peer = self._peer
        live = {name: value for name, value in parsed.items() if not _KINDS[name].needs_restart}
        settings = peer.settings = replace(peer.settings, **live)
        if "limit" in live:
            peer.sessions.limit(settings.limit)
        peer.offers.use(settings)
        await peer.ports.use(settings)
        await self._show_notices()
        for changed in tuple(peer.on_settings):
            changed(settings)

    async def _show_notices(self) -> None:
        if self._peer.settings.notify and self._desktop is None:
            notifier = self._make_notifier(self._peer.reactor)
            self._desktop = DesktopNotices(self._peer.events, notifier)
        elif not self._peer.settings.notify:
            await self.stop()


def _check(settings: Settings) -> None:
    if settings.private and settings.registry == LAN:
        reason = "Without a registry there is no relay, so others find a peer only by its address: private needs one."
        raise WrongUsage(reason=reason)


def _shown(name: str, value: Any) -> Any:
    """Return a value as JSON has it: 0 is no limit."""
    match value:
        case None if name == "inbox_folder":
            return str(default_inbox_folder())
        case None:
            return 0
        case Path():
            return str(value)
        case tuple():
            return list(value)
        case Via():
            return value.value
    return value


def _write(path: Path, values: Mapping[str, str | None]) -> None:
    """Write into `config.toml`, which must be valid before: otherwise the peer could not start with it again."""
    read_config(path)
    update_config(path, values)
