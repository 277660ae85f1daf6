"""Every error that a user can meet.

    P2pshareError                      exit code 1
    ├── WrongUsage                     exit code 2
    ├── Refused                        exit code 3
    ├── NotFound                       exit code 4
    ├── Unreachable                    exit code 5
    ├── TransferFailed                 exit code 1
    ├── LocalProtocolError             we broke the rules: a bug of ours
    └── RemoteProtocolError            the other side broke them

The docstring of a class **is** the sentence that the user reads: its fields are filled in from the keyword
arguments. A field with text from outside is written `{field!r}`, so that nothing in it reaches a terminal raw. The
sentence ends with one full stop, or a question mark, whether or not its last field brings one.
"""

from __future__ import annotations

import inspect
from typing import ClassVar, Self


class P2pshareError(Exception):
    """Something went wrong: {reason}"""

    exit_code: ClassVar[int] = 1

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        sentence = " ".join(inspect.cleandoc(type(self).__doc__ or type(self).__name__).split())
        said = sentence.format(**fields)
        super().__init__(said if said.endswith("?") else f"{said.rstrip('.')}.")

    @classmethod
    def retold(cls, sentence: str) -> Self:
        """An error of another process of ours, in the words in which it told it; it has no fields."""
        error = cls.__new__(cls, sentence)
        error.fields = {}
        return error


class WrongUsage(P2pshareError):
    """{reason}"""

    exit_code = 2


class IllegalName(WrongUsage):
    """{name!r} cannot be a name: {reason}"""


class BadSetting(WrongUsage):
    """{source}: {setting} is {value!r}, but must be {expected}."""


class UnknownSetting(WrongUsage):
    """{source}: there is no setting {setting!r}, only {known}."""


class SettingsUnreadable(WrongUsage):
    """{source} cannot be read as settings: {reason}"""


class Refused(P2pshareError):
    """{reason}"""

    exit_code = 3


class NameTaken(Refused):
    """The name {name!r} is taken in the registry {registry}: choose another name."""


class AlreadyRunning(Refused):
    """{name!r} is already running on this machine (process {pid}), or another name on its data folder: stop it first,
    or choose another name.
    """


class FolderInUse(Refused):
    """The folder {path} is in use by another process ({pid}): stop it first, or choose another folder."""


class SecretUnusable(Refused):
    """The secret in {path} cannot be used: {reason}"""


class KeyUnusable(Refused):
    """The key in {path} cannot be used: {reason}"""


class SealedKeyUnusable(Refused):
    """The exported key cannot be opened: {reason}"""


class IdentityUnusable(Refused):
    """What {path} says of this peer cannot be used: {reason}"""


class KnownPeersUnusable(Refused):
    """The list of known keys, {path}, cannot be used: {reason}"""


class KnownPeersFull(KnownPeersUnusable):
    """The list of known keys, {path}, is full, with {most} names: forget some with `p2pshare peers forget NAME`."""


class KeyChanged(Refused):
    """The key of {name!r} is another one than before, and nothing that it signed explains that. Known: {known}. Now:
    {now}. Somebody else may have taken the name or stand between: ask {name!r} for the key in another way, and if it is
    right, say `p2pshare peers forget {name}`.
    """


class KeyGone(Refused):
    """The name {name!r} belonged to a key, {known}, and belongs to none now, so that anybody may stand behind it: ask
    {name!r} in another way, and if that is right, say `p2pshare peers forget {name}`.
    """


class ClassicOnly(Refused):
    """{name!r} speaks the classic protocol only, which neither encrypts nor proves anything: add --classic if you
    accept that, or ask its owner to update.
    """


class NewerOnly(Refused):
    """{name!r} speaks a newer protocol, which this program does not know: update p2pshare."""


class NotClassic(Refused):
    """{name!r} does not speak the classic protocol: leave --classic away, or ask its owner to switch it on."""


class StaleRecord(Refused):
    """The registry {registry} has seen a newer record of {name!r} (number {seq}): is the same key in use elsewhere?"""


class ClockWrong(Refused):
    """The clock of this machine is {difference} that of the registry {registry}: set it right, or tell the registry's
    operator if it is.
    """


class InvitationNeeded(Refused):
    """The registry {registry} takes no new names without an invitation: ask its operator for one, and pass it with
    --invitation FILE.
    """


class InvitationRefused(Refused):
    """The registry {registry} does not take this invitation, used before or out of date: ask for another one."""


class NotOwner(Refused):
    """The name {name!r} is not this key's in the registry {registry}: nothing was changed."""


class RegistryRefused(Refused):
    """The registry {registry} refused what was asked: {reason}"""


class RegistryDowngraded(Refused):
    """The registry {registry} has proven a key before, but now speaks of no owners: it is another one, or was set back.
    Ask its operator.
    """


class RegistryChanged(Refused):
    """The registry {registry} has another key than before. Known: {known}. Now: {now}. Either it was set up anew, or
    another machine answers in its place. Ask its operator for the key. If the new key is right, run
    `p2pshare registries forget {registry}`, and try again.
    """


class AudienceRefused(Refused):
    """The registry {registry} rejected a statement as meant for another registry: several registries seem to answer at
    this address. Ask its operator.
    """


class KnownRegistriesUnusable(Refused):
    """The list of known registries, {path}, cannot be used: {reason}"""


class RegistryHasNoOwners(Refused):
    """The registry {registry} is an original one: it knows nothing of keys, and nobody there can prove who they are.
    Use another one, or --classic, which lets anybody fetch what you share, in the clear.
    """


class ControlRefused(Refused):
    """The running peer cannot do that: {reason}"""


class StoreOfAnother(Refused):
    """The names in {store} are those of a registry with another key ({owner}): copy its registry.key to {path}, or
    choose another Redis.
    """


class NotFound(P2pshareError):
    """{reason}"""

    exit_code = 4


class NoSuchPeer(NotFound):
    """Nobody is registered as {name!r}{hint}: `p2pshare users` shows who is there."""

    def __init__(self, **fields: object) -> None:
        super().__init__(**{"hint": "", **fields})


class RemoteNotFound(NotFound):
    """{name!r} shares no {path!r}, or not with you: `p2pshare ls {name}` shows what it shares with you."""


class NothingShared(NotFound):
    """{name!r} answered, but sent no {what}: probably there is none to share, or too many are fetching it."""


class Unreachable(P2pshareError):
    """{reason}"""

    exit_code = 5


class RegistryUnreachable(Unreachable):
    """The registry {registry} cannot be reached ({reason}): is it running, and is the address right?"""


class RegistryNotLookedUp(RegistryUnreachable):
    """The registry {registry} cannot be reached ({reason}): check the network and its DNS server, or use the
    registry's IP address in --registry.
    """


class OwnAddressNeeded(WrongUsage):
    """The registry {registry} has no IPv4 address, so this peer cannot find its own: peers connect over IPv4 only. Set
    --address to an IPv4 address of this machine, or use an IPv4 address of the registry in --registry.
    """


class OwnAddressUnknown(Unreachable):
    """The IPv4 address of this peer cannot be found: {reason}. Check the network, or set --address."""


class RegistryNotBelieved(RegistryUnreachable):
    """The registry {registry} gives an answer about {name!r} that is not valid: {reason}. Ask its operator."""


class RegistryUnavailable(Unreachable):
    """The registry {registry} cannot do its work just now (HTTP {status}): try again in a minute."""


class RegistryRecovering(RegistryUnavailable):
    """The registry {registry} has lost its store and fills it again: until then only those who owned a name get it. Try
    again in {retry_after} s.
    """


class RegistryBusy(Unreachable):
    """The registry {registry} was asked too often from here: try again in {retry_after} s."""


class PeerNotAnswering(Unreachable):
    """The peer that runs on {path} does not answer ({reason}): end it, and try again."""


class PeerNotRunning(Unreachable):
    """No peer runs on {path}: `p2pshare --name NAME` or `twistd p2ppeer --name NAME` starts one; --data says where."""


class RegistryNotRunning(Unreachable):
    """No registry runs on the folder {path}: `--data DIR` names another folder."""


class ServiceDoesNotEnd(Unreachable):
    """Process {pid} was told to stop, but still runs after {seconds} s: see its log, or end it with `kill -9 {pid}`."""


class StoreUnavailable(Unreachable):
    """The store of names does not answer ({reason}): is Redis running?"""


class StoreRecovering(StoreUnavailable):
    """The store of names was lost: for {seconds} s only those who owned a name can claim it."""


class PeerUnreachable(Unreachable):
    """{name!r} did not answer at {address}: the peer has left, or a firewall stands between."""


class NoSessionThere(Unreachable):
    """What answers at {address} takes no sessions ({reason}): {name!r} has moved, or is an older version."""


class SessionLost(Unreachable):
    """The session with {name!r} broke off: {reason}"""


class SessionPostponed(Unreachable):
    """{name!r} takes no more sessions just now ({reason}): try again in {retry_after} s."""


class OtherKeyThere(Refused):
    """Another key than that of {name!r} is in use at {address}. Expected: {known}. There: {there}. Nothing was sent to
    it: {name!r} has moved, or somebody stands between.
    """


class SessionRefused(Refused):
    """{name!r} refused the session: {reason}"""


class VersionRefused(P2pshareError):
    """{name!r} speaks no version of the session protocol that is spoken here: update p2pshare on both sides."""


class NameReleased(P2pshareError):
    """The name {name!r} was given up, so its peer ends."""

    exit_code = 0


class PeerNotFound(Unreachable):
    """{name!r} was not found at {address}, where it was last seen {seen}, and the registry {registry} cannot be asked
    for its new address ({reason}). Try again when the registry is back, or name the address with --at IP:PORT.
    """


class KeyUnknown(Unreachable):
    """The key of {name!r} is not known here, and the registry {registry} cannot be asked for it ({reason}), so the peer
    at {address} cannot prove to be {name!r}. Try again when the registry is back.
    """


class PeerStopped(P2pshareError):
    """The peer of {name!r} was stopped by `p2pshare stop`."""

    exit_code = 0


class PeerOffline(Unreachable):
    """{name!r} is offline, last seen {seen}{tried}: `p2pshare users` shows who is there."""


class PeerSharesNothing(Unreachable):
    """{name!r} only fetches from others, and runs no peer that shares anything."""


class PeerNotReachable(Unreachable):
    """{name!r} has told the registry no IPv4 address, which is needed to fetch from it."""


class PeerAddressRefused(PeerNotReachable):
    """The address {address} of {name!r} {reason}: ask its owner to set another one with --address."""


class StartNotFinished(Unreachable):
    """The service is not ready after {seconds} s, and goes on trying in the background as process {pid}. Its log is
    {log}. Stop it with `{stop}`.
    """


class CannotStart(P2pshareError):
    """{what} cannot start: {reason}"""


class TooFewOpenFiles(P2pshareError):
    """The system lets a process open {allowed} files here, and at least {least} are needed: raise the limit with
    `ulimit -n {least}`.
    """


class PortUnusable(P2pshareError):
    """Port {port} cannot be listened on ({reason}): choose another one."""


class TransferFailed(P2pshareError):
    """{reason}"""


class PeerFellSilent(TransferFailed):
    """{name!r} fell silent: {done} of {total} rows came, without {missing}. Nothing was saved, try again."""


class TextCutShort(TransferFailed):
    """The text was cut short after {done} bytes ({reason}): nothing was saved, try again."""


class RemoteTooMany(TransferFailed):
    """{name!r} lists more than {most} {what} in {path!r}, and there may be no end: fetch a part of it, or add
    --max-files N if you expect that many.
    """


class RemoteIsFile(TransferFailed):
    """{path!r} of {name!r} is a file, and not a folder: fetch it with `p2pshare get`."""


class RemoteIsFolder(TransferFailed):
    """{path!r} of {name!r} has become a folder: try again."""


class RemoteUnreadable(TransferFailed):
    """{name!r} cannot read its own {path!r}: tell its owner."""


class RemoteGone(TransferFailed):
    """{path!r} of {name!r} disappeared while it was listed: try again."""


class RemoteLinkNotFollowed(TransferFailed):
    """{path!r} of {name!r} is a link that is not followed, since its target does not exist or is not shared: ask its
    owner to replace the link.
    """


class RemoteLinkLoop(TransferFailed):
    """{path!r} of {name!r} is a link to a folder that contains it, so it is not followed: fetch that folder instead."""


class RemoteNameUnusable(TransferFailed):
    """{path!r} of {name!r} cannot be fetched, since its name is not UTF-8 or is too long: ask its owner to choose
    another name.
    """


class RemoteTooDeep(TransferFailed):
    """Something in {path!r} of {name!r} cannot be fetched, since it is deeper or longer than a path may be: ask its
    owner to share a folder that is nearer to it.
    """


class RemoteSpecial(TransferFailed):
    """{path!r} of {name!r} is a device, a FIFO or a socket, which cannot be fetched: ask its owner to remove it."""


class RemoteTooLarge(TransferFailed):
    """{path!r} of {name!r} is too large to be fetched: ask its owner to split it."""


class RemoteLeftOut(TransferFailed):
    """{name!r} left {count} more files or folders out of {path!r}, without their names: ask its owner about them."""


class RemotePathTooLong(TransferFailed):
    """{path!r} of {name!r} cannot be fetched, since it is deeper or longer than a path may be: ask its owner to share a
    folder that is nearer to it.
    """


class RemoteBusy(TransferFailed):
    """{name!r} has too much to do for {path!r} just now: try again later."""


class SourceChanged(TransferFailed):
    """{path!r} of {name!r} was changed again and again while it was fetched: try again when nobody writes to it."""


class SharerLied(TransferFailed):
    """{path!r} was given up: what {name!r} sent is not what it announced. Its disk, its memory or its owner cannot be
    trusted.
    """


class LinkGivenUp(Unreachable):
    """The connection to {name!r} broke ({reason}) and did not come back within {patience} s. What has come is kept:
    the same command goes on from there.
    """


class LinkClosed(Unreachable):
    """The connection to {name!r} was closed here."""


class PictureRefused(TransferFailed):
    """{name!r} announced a picture of {width} x {height} pixels, which is refused: {fault}."""


class PictureUnreadable(P2pshareError):
    """{path} cannot be shared as a picture: {reason}"""


class CannotSave(TransferFailed):
    """{path} cannot be written: {reason}"""


class DiskFull(CannotSave):
    """{path} needs {needed}, but its disk has {free} left: make room, and do the same again, which goes on there.
    `p2pshare get --clean FOLDER` removes what stopped transfers left.
    """


class DestinationGone(CannotSave):
    """The folder {path} was removed, or its disk was unmounted, while files were fetched into it: choose a folder that
    is there, and do the same again.
    """


class TooManyOpenFiles(CannotSave):
    """{path} cannot be written: {reason}. Raise the limit with `ulimit -n 1024`, and do the same again."""


class InUse(CannotSave):
    """{path} is being fetched by another process already: wait until that is done, or end it."""


class BlockCorrupt(TransferFailed):
    """{path} did not come as it was announced ({reason}): try again."""


class CannotRead(P2pshareError):
    """{path} cannot be read: {reason}"""


class FolderUnusable(P2pshareError):
    """The folder {path} cannot be used: {reason}"""


class LocalProtocolError(P2pshareError):
    """A defect of p2pshare, please report it: {reason}"""


class RemoteProtocolError(P2pshareError):
    """The other side sent something that it must not: {reason}"""
