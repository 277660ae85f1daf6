"""Errors of names, and of the registry or local network that finds them."""

from __future__ import annotations

from p2pshare.errors.base import NotFound, P2pshareError, Refused, Unreachable, WrongUsage


class IllegalName(WrongUsage):
    """{name!r} is not a valid name: {reason}."""


class JoinLinkUnusable(WrongUsage):
    """The link cannot be used: {reason}."""


class PersonLinkUnusable(WrongUsage):
    """The link cannot be followed: {reason}."""


class NameTaken(Refused):
    """The name {name!r} is taken in the registry {registry}. Choose another name."""


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


class ForeignRegistry(Refused):
    """The link is to {person} in a registry that you do not use. Nobody was contacted. To join that registry, ask
    somebody who is in it for a link of `p2pshare invite`, and run `p2pshare join LINK`. Its key is {key}.
    """


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


class AudienceRefused(Refused):
    """The registry {registry} rejected a statement as meant for another registry. Several registries seem to answer at
    this address. Ask its operator.
    """


class RegistryHasNoOwners(Refused):
    """The registry {registry} is an original one, which knows no keys, so nobody there can prove who they are. Use
    another registry, or --classic, which lets anybody fetch your shares without encryption.
    """


class NoSuchPeer(NotFound):
    """Nobody is registered as {name!r}{hint}. Run `p2pshare users` for the list of names."""

    def __init__(self, **fields: object) -> None:
        super().__init__(**{"hint": "", **fields})


class NobodyHere(NoSuchPeer):
    """Nobody on this network calls themselves {name!r}{hint}. Run `p2pshare users`, or set --registry URL."""


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


class StoreUnavailable(Unreachable):
    """The store of names does not answer: {reason}. Check that Redis runs."""


class StoreRecovering(StoreUnavailable):
    """The store of names was lost: for {seconds} s only previous owners can claim this name."""


class NameReleased(P2pshareError):
    """The name {name!r} was given up, so its peer stops."""

    exit_code = 0
