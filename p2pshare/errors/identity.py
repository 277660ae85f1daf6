"""Errors of keys: those of this peer, and the known keys of other peers and of registries."""

from __future__ import annotations

from p2pshare.errors.base import Refused, Unreachable


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


class RegistryChanged(Refused):
    """The key of the registry {registry} has changed. Known key: {known}. New key: {now}. It was set up again, or
    another machine answers in its place. Ask its operator for the key. If the new key is right, run `p2pshare
    registries forget {registry}`, and try again.
    """


class KnownRegistriesUnusable(Refused):
    """The list of known registries, {path}, cannot be used: {reason}"""


class StoreOfAnother(Refused):
    """The names in {store} belong to a registry with another key ({owner}). Copy its registry.key to {path}, or choose
    another Redis.
    """


class OtherKeyThere(Refused):
    """The peer at {address} has another key than {name!r}. Expected key: {known}. Its key: {there}. Nothing was sent to
    it. {name!r} has moved, or somebody intercepts the connection.
    """


class KeyUnknown(Unreachable):
    """The key of {name!r} is unknown, and the registry {registry} cannot tell it: {reason}. So the peer at {address}
    cannot prove that it is {name!r}. Try again when the registry is back.
    """
