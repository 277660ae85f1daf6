"""The registry's own key: what it vouches for, and the sessions that only it can have made.

All processes of a registry have the same key, and need to share nothing else: a session's MAC key follows from
the session.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from p2pshare.wire.registry_answers import OWNERSHIP_LEASE, SESSION_LIFE
from p2pshare.wire.statements import Invitation, Proof, Receipt

ID_SIZE = 16  # random bytes of a session or an invitation

_SESSION = re.compile(r"([1-9][0-9]{0,14})\.[A-Za-z0-9_-]{22}")


class Authority:
    """Signs receipts, invitations and proofs, and makes sessions."""

    def __init__(
        self,
        key: SigningKey,
        wall: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._key = key
        self._wall = wall
        self._random_bytes = random_bytes
        self._secret = hmac.digest(key.seed, b"p2pshare-session-secret-v1", "sha256")
        self.public = key.public

    def prove(self, challenge: str) -> str:
        """Prove to a client, who has drawn the challenge, that this registry holds its key."""
        return Proof(self.public, challenge, int(self._wall())).sign(self._key)

    def receipt(self, name: str, key: PublicKey, claim: int) -> str:
        """Vouch that the key owns the name since the claim of this number."""
        return Receipt(name, key, claim, int(self._wall()) + OWNERSHIP_LEASE).sign(self._key)

    def read_receipt(self, text: str, name: str, key: PublicKey) -> int | None:
        """The claim number of a receipt of ours for this name and key; None if it is none, or too old."""
        try:
            receipt = Receipt.read(text, self.public)
        except RemoteProtocolError:
            return None
        if (receipt.name, receipt.key) != (name, key) or receipt.exp <= self._wall():
            return None
        return receipt.claim

    def invite(self, life: int) -> str:
        """Let somebody claim one new name within `life` seconds."""
        now = int(self._wall())
        return Invitation(to_base64url(self._random_bytes(ID_SIZE)), now, now + life).sign(
            self._key
        )

    def read_invitation(self, text: str) -> Invitation:
        """Read an invitation of ours; whether it was used is for the store to say.

        Raises:
            RemoteProtocolError: it is none, or too old.
        """
        invitation = Invitation.read(text, self.public)
        if invitation.exp <= self._wall():
            raise RemoteProtocolError(reason="the invitation has expired")
        return invitation

    def new_session(self, name: str) -> tuple[str, bytes]:
        """A session for the owner of a name, and its MAC key."""
        expires = int(self._wall()) + SESSION_LIFE
        session = f"{expires}.{to_base64url(self._random_bytes(ID_SIZE))}"
        return session, self._mac_key(name, session)

    def mac_key(self, name: str, session: str) -> bytes | None:
        """The MAC key of a session; None if it has expired, or can be none."""
        match = _SESSION.fullmatch(session)
        if match is None or int(match[1]) <= self._wall():
            return None
        return self._mac_key(name, session)

    def _mac_key(self, name: str, session: str) -> bytes:
        message = f"p2pshare-session-v1\0{name}\0{session}".encode()
        return hmac.digest(self._secret, message, "sha256")
