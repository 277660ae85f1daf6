"""Every error that a user can meet.

    P2pshareError                      exit code 1
    ├── WrongUsage                     exit code 2
    ├── Refused                        exit code 3
    ├── NotFound                       exit code 4
    ├── Unreachable                    exit code 5
    ├── TransferFailed                 exit code 1
    ├── LocalProtocolError             a bug on this side
    └── RemoteProtocolError            a violation by the other side

The docstring of a class **is** the sentence that the user reads: what failed, why, and what to do next. Its fields are
filled in from the keyword arguments. A field with text from outside is written `{field!r}`, so that a terminal shows it
and does not obey it. The sentence ends with one full stop or question mark, whether or not its last field brings one.
The name of a class is the `kind` of the error with `--json`, so it stays.
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
        """Return an error with the sentence of an error in another process of this program; it has no fields."""
        error = cls.__new__(cls, sentence)
        error.fields = {}
        return error


class WrongUsage(P2pshareError):
    """{reason}"""

    exit_code = 2


class AnswersUnreadable(WrongUsage):
    """The answers on standard input cannot be read: {reason}. Save them as UTF-8."""


class IllegalName(WrongUsage):
    """{name!r} is not a valid name: {reason}."""


class BadSetting(WrongUsage):
    """{source}: {setting} is {value!r}, but must be {expected}."""


class UnknownSetting(WrongUsage):
    """{source}: there is no setting {setting!r}. The settings are {known}."""


class SettingsUnreadable(WrongUsage):
    """{source} cannot be read as settings: {reason}"""


class JoinLinkUnusable(WrongUsage):
    """The link cannot be used: {reason}."""


class Refused(P2pshareError):
    """{reason}"""

    exit_code = 3


class NameTaken(Refused):
    """The name {name!r} is taken in the registry {registry}. Choose another name."""


class AlreadyRunning(Refused):
    """A peer already runs on the data folder of {name!r} (process {pid}). Stop it, or choose another name or --data."""


class FolderInUse(Refused):
    """The folder {path} is in use by another process ({pid}). Stop it, or choose another folder."""


class SecretUnusable(Refused):
    """The secret in {path} cannot be used: {reason}"""


class KeyUnusable(Refused):
    """The key in {path} cannot be used: {reason}"""


class SealedKeyUnusable(Refused):
    """The exported key cannot be opened: {reason}"""


class IdentityUnusable(Refused):
    """The state of this peer's identity, {path}, cannot be used: {reason}"""


class KnownPeersUnusable(Refused):
    """The list of known keys, {path}, cannot be used: {reason}"""


class KnownPeersFull(KnownPeersUnusable):
    """The list of known keys, {path}, is full: it has {most} names. Remove some with `p2pshare peers forget NAME`."""


class KeyChanged(Refused):
    """The key of {name!r} has changed, and the new key is not signed by the old one. Known key: {known}. New key:
    {now}. Somebody may have taken the name or intercept the connection. Ask {name!r} for the key by other means. If the
    new key is right, run `p2pshare peers forget {name}`.
    """


class KeyGone(Refused):
    """The name {name!r} belonged to the key {known}, and now belongs to no key, so anybody may use it. Ask {name!r} by
    other means. If that is right, run `p2pshare peers forget {name}`.
    """


class ClassicOnly(Refused):
    """{name!r} supports only the classic protocol, which is neither encrypted nor authenticated. Add --classic if you
    accept that, or ask its owner to update.
    """


class NewerOnly(Refused):
    """{name!r} supports only a newer protocol. Update p2pshare."""


class NotClassic(Refused):
    """{name!r} does not support the classic protocol. Omit --classic, or ask its owner to enable it."""


class StaleRecord(Refused):
    """The registry {registry} has a newer record of {name!r} (number {seq}). Is the same key in use elsewhere?"""


class ClockWrong(Refused):
    """The clock of this machine is {difference} the clock of the registry {registry}. Correct it, or tell the
    registry's operator if it is right.
    """


class InvitationNeeded(Refused):
    """The registry {registry} accepts new names by invitation only. Ask its operator for one, and pass it with
    --invitation FILE.
    """


class InvitationRefused(Refused):
    """The registry {registry} rejected the invitation, which was used before or has expired. Ask its operator for
    another one.
    """


class JoinLinkExpired(Refused):
    """The link expired {ago}. Ask the person who sent it for a new one."""


class NoRegistry(Refused):
    """There is no registry here: without one, {reason}. Set --registry URL to use one."""


class NamesProven(Refused):
    """Names in the registry {registry} belong to keys already, so nobody waits to be accepted. Use --allow instead."""


class NameAlsoUsed(Refused):
    """Another peer here calls itself {name!r}, too, with the key {other}. To end this, choose another name."""


class NameAmbiguous(Refused):
    """Several peers on this network call themselves {name!r}, with the keys {keys}. Ask {name!r} for the right one,
    which `p2pshare whoami` shows there, and run `p2pshare peers pin {name} KEY`.
    """


class NotOwner(Refused):
    """The name {name!r} does not belong to this key in the registry {registry}. Nothing was changed."""


class RegistryRefused(Refused):
    """The registry {registry} refused the request: {reason}"""


class RegistryDowngraded(Refused):
    """The registry {registry} proved a key before, but no longer supports owned names. It is another registry, or an
    older version. Ask its operator.
    """


class RegistryChanged(Refused):
    """The key of the registry {registry} has changed. Known key: {known}. New key: {now}. It was set up again, or
    another machine answers in its place. Ask its operator for the key. If the new key is right, run `p2pshare
    registries forget {registry}`, and try again.
    """


class AudienceRefused(Refused):
    """The registry {registry} rejected a statement as meant for another registry. Several registries seem to answer at
    this address. Ask its operator.
    """


class KnownRegistriesUnusable(Refused):
    """The list of known registries, {path}, cannot be used: {reason}"""


class RegistryHasNoOwners(Refused):
    """The registry {registry} is an original one, which knows no keys, so nobody there can prove who they are. Use
    another registry, or --classic, which lets anybody fetch your shares without encryption.
    """


class ControlRefused(Refused):
    """The running peer refused the command: {reason}"""


class StoreOfAnother(Refused):
    """The names in {store} belong to a registry with another key ({owner}). Copy its registry.key to {path}, or choose
    another Redis.
    """


class NotFound(P2pshareError):
    """{reason}"""

    exit_code = 4


class NoSuchPeer(NotFound):
    """Nobody is registered as {name!r}{hint}. Run `p2pshare users` for the list of names."""

    def __init__(self, **fields: object) -> None:
        super().__init__(**{"hint": "", **fields})


class NobodyHere(NoSuchPeer):
    """Nobody on this network calls themselves {name!r}{hint}. Run `p2pshare users`, or set --registry URL."""


class RemoteNotFound(NotFound):
    """{name!r} shares no {path!r}, or not with you. Run `p2pshare ls {name}` for what it shares with you."""


class NothingShared(NotFound):
    """{name!r} answered, but sent no {what}. It may share none, or too many peers are fetching it."""


class Unreachable(P2pshareError):
    """{reason}"""

    exit_code = 5


class RegistryUnreachable(Unreachable):
    """The registry {registry} is unreachable: {reason}. Check that it runs, and that the address is right."""


class LanUnusable(RegistryUnreachable):
    """The local network cannot be used: {reason}. Connect this machine to a network, or set --registry URL."""


class RegistryNotLookedUp(RegistryUnreachable):
    """The registry {registry} is unreachable: {reason}. Check the network and its DNS server, or set --registry to the
    registry's IP address.
    """


class OwnAddressNeeded(WrongUsage):
    """The registry {registry} is an original one, which knows IPv4 addresses only, and this machine has none. Set
    --address to an IPv4 address at which others reach it, or use a registry that knows keys.
    """


class OwnAddressUnknown(Unreachable):
    """The address of this peer cannot be found: {reason}. Check the network, or set --address."""


class RegistryNotBelieved(RegistryUnreachable):
    """The registry {registry} sent an invalid answer about {name!r}: {reason}. Ask its operator."""


class RegistryUnavailable(Unreachable):
    """The registry {registry} is temporarily unavailable (HTTP {status}). Try again in a minute."""


class RegistryRecovering(RegistryUnavailable):
    """The registry {registry} has lost its store and is recovering: until then only previous owners get their names.
    Try again in {retry_after} s.
    """


class RegistryBusy(Unreachable):
    """The registry {registry} limits the rate of requests from here. Try again in {retry_after} s."""


class RelayRefused(Unreachable):
    """The relay of the registry {registry} did not join this peer with the other one: {reason}."""


class PeerNotAnswering(Unreachable):
    """The peer that runs on {path} does not answer: {reason}. Stop it, and try again."""


class PeerNotRunning(Unreachable):
    """No peer runs on {path}. Start one with `p2pshare --name NAME` or `twistd p2ppeer --name NAME`, or set --data."""


class RegistryNotRunning(Unreachable):
    """No registry runs on the folder {path}. Set --data to its folder."""


class ServiceDoesNotEnd(Unreachable):
    """Process {pid} was told to stop, but still runs after {seconds} s. See its log, or end it with `kill -9 {pid}`."""


class PeerNotListening(Unreachable):
    """{name!r} takes no calls at the moment. Try again when it is online."""


class SignalNotAccepted(Refused):
    """{name!r} does not accept calls from you."""


class CallFailed(Unreachable):
    """The call to {name!r} failed: {reason}. Run `p2pshare path {name}` to see what was tried."""


class StoreUnavailable(Unreachable):
    """The store of names does not answer: {reason}. Check that Redis runs."""


class StoreRecovering(StoreUnavailable):
    """The store of names was lost: for {seconds} s only previous owners can claim this name."""


class PeerUnreachable(Unreachable):
    """{name!r} did not answer at {address}. It has left, or a firewall blocks the connection."""


class NoAnswerOverUdp(PeerUnreachable):
    """{name!r} did not answer over UDP at {address}. It has left, or a firewall blocks UDP. Try `--via auto`."""


class NoSessionThere(Unreachable):
    """The program at {address} accepts no sessions: {reason}. {name!r} has moved, or is an older version."""


class SessionLost(Unreachable):
    """The session with {name!r} broke: {reason}"""


class SessionPostponed(Unreachable):
    """{name!r} accepts no session at the moment: {reason}. Try again in {retry_after} s."""


class AcceptanceAwaited(SessionPostponed):
    """{name!r} must accept your key first. Ask for `p2pshare peers accept` with your name there, and try again."""


class OtherKeyThere(Refused):
    """The peer at {address} has another key than {name!r}. Expected key: {known}. Its key: {there}. Nothing was sent to
    it. {name!r} has moved, or somebody intercepts the connection.
    """


class SessionRefused(Refused):
    """{name!r} refused the session: {reason}"""


class VersionRefused(P2pshareError):
    """{name!r} and this program have no version of the session protocol in common. Update p2pshare on both sides."""


class NameReleased(P2pshareError):
    """The name {name!r} was given up, so its peer stops."""

    exit_code = 0


class PeerNotFound(Unreachable):
    """{name!r} is not at {address}, where it was last seen {seen}, and the registry {registry} cannot tell its new
    address: {reason}. Try again when the registry is back, or set --at IP:PORT.
    """


class KeyUnknown(Unreachable):
    """The key of {name!r} is unknown, and the registry {registry} cannot tell it: {reason}. So the peer at {address}
    cannot prove that it is {name!r}. Try again when the registry is back.
    """


class PeerStopped(P2pshareError):
    """The peer of {name!r} was stopped by `p2pshare stop`."""

    exit_code = 0


class PeerOffline(Unreachable):
    """{name!r} is offline, last seen {seen}{tried}. Run `p2pshare users --online` to see who is online."""


class PeerSharesNothing(Unreachable):
    """{name!r} only fetches from others, and runs no peer that shares files."""


class PeerNotReachable(Unreachable):
    """{name!r} has registered no address at which this machine can reach it, and cannot be called."""


class PeerAddressRefused(PeerNotReachable):
    """The address {address} of {name!r} {reason}. Ask its owner to set another one with --address."""


class StartNotFinished(Unreachable):
    """The service is not ready after {seconds} s. It keeps trying in the background as process {pid}, with the log
    {log}. Stop it with `{stop}`.
    """


class CannotStart(P2pshareError):
    """{what} cannot start: {reason}"""


class TooFewOpenFiles(P2pshareError):
    """The system allows this process {allowed} open files, but at least {least} are needed. Raise the limit with
    `ulimit -n {least}`.
    """


class PortUnusable(P2pshareError):
    """Port {port} cannot be used: {reason}. Choose another port."""


class TransferFailed(P2pshareError):
    """{reason}"""


class PeerFellSilent(TransferFailed):
    """{name!r} stopped sending: {done} of {total} rows arrived, without {missing}. Nothing was saved. Try again."""


class TextCutShort(TransferFailed):
    """The text ended after {done} bytes: {reason}. Nothing was saved. Try again."""


class RemoteTooMany(TransferFailed):
    """{name!r} lists more than {most} {what} in {path!r}, perhaps without end. Fetch a part of it, or add --max-files N
    if you expect that many.
    """


class RemoteIsFile(TransferFailed):
    """{path!r} of {name!r} is a file, not a folder. Fetch it with `p2pshare get`."""


class RemoteIsFolder(TransferFailed):
    """{path!r} of {name!r} has become a folder. Try again."""


class RemoteUnreadable(TransferFailed):
    """{name!r} cannot read {path!r}. Tell its owner."""


class RemoteNoPreview(TransferFailed):
    """{name!r} has no preview of {path!r}: only JPEG, PNG and WebP pictures have one, and only up to 50 million pixels.
    Get the file itself.
    """


class RemoteGone(TransferFailed):
    """{path!r} of {name!r} disappeared while it was listed. Try again."""


class RemoteLinkNotFollowed(TransferFailed):
    """{path!r} of {name!r} is a link whose target does not exist or is not shared. Ask its owner to replace it."""


class RemoteLinkLoop(TransferFailed):
    """{path!r} of {name!r} is a link to a folder that contains the link. Fetch that folder instead."""


class RemoteNameUnusable(TransferFailed):
    """{path!r} of {name!r} cannot be fetched: its name is not UTF-8, or is too long. Ask its owner to rename it."""


class RemoteTooDeep(TransferFailed):
    """Something in {path!r} of {name!r} cannot be fetched: its path is too deep or too long. Ask its owner to share a
    folder nearer to it.
    """


class RemoteSpecial(TransferFailed):
    """{path!r} of {name!r} is a device, a FIFO or a socket, which cannot be fetched. Ask its owner to remove it."""


class RemoteTooLarge(TransferFailed):
    """{path!r} of {name!r} is too large to be fetched. Ask its owner to split it."""


class RemoteLeftOut(TransferFailed):
    """{name!r} left {count} more files or folders out of {path!r}, without their names. Ask its owner about them."""


class RemotePathTooLong(TransferFailed):
    """{path!r} of {name!r} cannot be fetched: the path is too deep or too long. Ask its owner to share a folder nearer
    to it.
    """


class RemoteBusy(TransferFailed):
    """{name!r} is too busy to send {path!r}. Try again later."""


class SourceChanged(TransferFailed):
    """{path!r} of {name!r} kept changing while it was fetched. Try again when nobody writes to it."""


class SharerLied(TransferFailed):
    """{path!r} was given up: the data from {name!r} does not match its checksums. Its disk, its memory or its owner
    cannot be trusted.
    """


class LinkGivenUp(Unreachable):
    """The connection to {name!r} broke ({reason}), and could not be restored within {patience} s. Verified data is
    kept: run the same command again to continue.
    """


class LinkClosed(Unreachable):
    """The connection to {name!r} was closed on this side."""


class PictureRefused(TransferFailed):
    """The picture of {name!r}, with {width} x {height} pixels, is refused: {fault}."""


class PictureUnreadable(P2pshareError):
    """{path} cannot be shared as a picture: {reason}"""


class CannotSave(TransferFailed):
    """{path} cannot be written: {reason}"""


class DiskFull(CannotSave):
    """{path} needs {needed}, but its disk has {free} left. Make room, and run the same command again to continue.
    `p2pshare get --clean FOLDER` removes what stopped transfers left.
    """


class DestinationGone(CannotSave):
    """The folder {path} was removed, or its disk was unmounted, during the transfer. Choose a folder that exists, and
    run the command again.
    """


class TooManyOpenFiles(CannotSave):
    """{path} cannot be written: {reason}. Raise the limit with `ulimit -n 1024`, and run the command again."""


class InUse(CannotSave):
    """{path} is being fetched by another process. Wait until that is done, or stop it."""


class BlockCorrupt(TransferFailed):
    """{path} does not match its checksums: {reason}. Try again."""


class CannotRead(P2pshareError):
    """{path} cannot be read: {reason}"""


class FolderUnusable(P2pshareError):
    """The folder {path} cannot be used: {reason}"""


class LocalProtocolError(P2pshareError):
    """A bug in p2pshare, please report it: {reason}"""


class RemoteProtocolError(P2pshareError):
    """The other side violated the protocol: {reason}"""


class SignalOutOfTime(RemoteProtocolError):
    """A signal is not of this time: {reason}"""
