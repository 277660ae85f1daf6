"""The registry's own key: the statements that it signs, and the sessions that only it can make.

All processes of a registry have the same key and share nothing else. The MAC key of a session follows from that key
and the session's text, so every process can verify every heartbeat.
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
        """Sign with `key`; `wall` returns Unix time in s."""
        self._key = key
        self._wall = wall
        self._random_bytes = random_bytes
        self._secret = hmac.digest(key.seed, b"p2pshare-session-secret-v1", "sha256")
        self.public = key.public

    def prove(self, challenge: str) -> str:
        """Sign a challenge that a client has drawn: the proof that this registry holds its key."""
        return Proof(self.public, challenge, int(self._wall())).sign(self._key)

    def receipt(self, name: str, key: PublicKey, claim: int) -> str:
        """Sign that the key has owned the name since the claim with this number."""
        return Receipt(name, key, claim, int(self._wall()) + OWNERSHIP_LEASE).sign(self._key)

    def read_receipt(self, text: str, name: str, key: PublicKey) -> int | None:
        """Return the claim number of our receipt for this name and key; None if it is invalid or expired."""
        try:
            receipt = Receipt.read(text, self.public)
        except RemoteProtocolError:
            return None
        if (receipt.name, receipt.key) != (name, key) or receipt.exp <= self._wall():
            return None
        return receipt.claim

    def invite(self, life: int) -> str:
        """Sign an invitation to claim one new name within `life` seconds."""
        now = int(self._wall())
        id = to_base64url(self._random_bytes(ID_SIZE))
        return Invitation(id, now, now + life).sign(self._key)

    def read_invitation(self, text: str) -> Invitation:
        """Read an invitation of ours; only the store knows whether it was used.

        Raises:
            RemoteProtocolError: it is invalid or expired.
        """
        invitation = Invitation.read(text, self.public)
        if invitation.exp <= self._wall():
            raise RemoteProtocolError(reason="the invitation has expired")
        return invitation

    def new_session(self, name: str) -> tuple[str, bytes]:
        """Return a new session for the owner of a name, and its MAC key."""
        expires = int(self._wall()) + SESSION_LIFE
        session = f"{expires}.{to_base64url(self._random_bytes(ID_SIZE))}"
        return session, self._mac_key(name, session)

    def mac_key(self, name: str, session: str) -> bytes | None:
        """Return the MAC key of a session; None if the session has expired or is malformed."""
        match = _SESSION.fullmatch(session)
        if match is None or int(match[1]) <= self._wall():
            return None
        return self._mac_key(name, session)

    def _mac_key(self, name: str, session: str) -> bytes:
        message = f"p2pshare-session-v1\0{name}\0{session}".encode()
        return hmac.digest(self._secret, message, "sha256")
