"""The original's fetching side: a text in one receive call, a picture row by row."""

import socket

from PIL import Image

from tests.originals.datagrams import (
    ACK,
    ACK_SIZE,
    COMPLETE,
    FIN,
    RECEIVE_MAX,
    SILENCE_TIMEOUT,
    TRIES,
    WELCOME_TIMEOUT,
    Address,
    bind_somewhere,
    decode_row,
    decode_row_number,
    decode_size,
    encode_wanted,
    is_row,
)

TEXT_MAX = 1024 * 1024  # bytes, of the one receive call


class FetchError(Exception):
    """The original gave up."""


def fetch_text(ip: str, welcome: Address) -> bytes:
    """Return what one receive call brings of the text of the sharer at `welcome`.

    Raises:
        FetchError: nobody answered in three tries, or nobody connected within 1 s of the answer.
    """
    # Open: whether "no connection" starts over as "no ACK" does. It does not here.
    for _ in range(TRIES):
        with bind_somewhere(ip) as requester:
            if not _is_welcome(requester, welcome, b"TXT"):
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
                listener.settimeout(WELCOME_TIMEOUT)
                try:
                    listener.bind(requester.getsockname())
                    listener.listen()
                    connection, _sharer = listener.accept()
                    with connection:
                        connection.settimeout(WELCOME_TIMEOUT)
                        return connection.recv(TEXT_MAX)
                except OSError as error:
                    raise FetchError(f"no text: {error!r}") from error
    raise FetchError("no ACK")


def fetch_image(ip: str, welcome: Address) -> Image.Image:
    """Return the picture of the sharer at `welcome`, from one of three whole tries.

    Raises:
        FetchError: none of the tries was answered to its end.
    """
    reasons = []
    for _ in range(TRIES):
        # Open: a fresh socket for each try, and one count of tries for all that can go wrong.
        with bind_somewhere(ip) as requester:
            if not _is_welcome(requester, welcome, b"IMG"):
                reasons.append("no ACK")
                continue
            try:
                return _receive_image(requester)
            except FetchError as error:
                reasons.append(str(error))
    raise FetchError("; ".join(reasons))


def _is_welcome(requester: socket.socket, welcome: Address, word: bytes) -> bool:
    """Send the word once; say whether the next datagram within 1 s is ACK."""
    requester.settimeout(WELCOME_TIMEOUT)
    requester.sendto(word, welcome)
    try:
        return requester.recv(RECEIVE_MAX) == ACK
    except TimeoutError:
        return False


def _receive_image(requester: socket.socket) -> Image.Image:
    """Receive a picture on a socket that was welcomed; FetchError after 10 s of silence."""
    requester.settimeout(SILENCE_TIMEOUT)
    missing: set[int] | None = None
    try:
        size = None
        while size is None:  # Open: whether anything else than SIZE is ignored here.
            datagram, sharer = requester.recvfrom(RECEIVE_MAX)
            size = decode_size(datagram)
        requester.sendto(ACK_SIZE, sharer)
        image = Image.new("RGB", size)
        missing = set(range(image.height))
        while True:
            # A datagram longer than this is cut short, and its row then fails its checksum.
            datagram = requester.recv(RECEIVE_MAX)
            if datagram == FIN:
                if not missing:
                    requester.sendto(COMPLETE, sharer)
                    return image
                for row in sorted(missing):
                    requester.sendto(encode_wanted(row), sharer)
                requester.sendto(FIN, sharer)
            elif is_row(datagram, image.width, image.height):
                decode_row(datagram, image)  # Open: a row that it has already is decoded again.
                missing.discard(decode_row_number(datagram))
    except TimeoutError as error:
        state = "no SIZE" if missing is None else f"{len(missing)} rows missing"
        raise FetchError(f"silence, {state}") from error
