"""The original's serving side: the welcome thread, and one thread for each transfer."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.originals.datagrams import (
    ACK,
    ACK_SIZE,
    COMPLETE,
    FIN,
    RECEIVE_MAX,
    SILENCE_TIMEOUT,
    Address,
    decode_wanted,
    encode_row,
    encode_size,
)

SEND_TIMEOUT = 1.0  # seconds for the one send call of a text, and for its connection


class Sharer:
    """Serves `my_file.txt` and `my_file.jpg` of a folder through a welcome socket.

    The socket is the caller's; the welcome thread and the transfers are daemon threads.
    """

    def __init__(self, welcome: socket.socket, folder: Path, say: Callable[[str], None]) -> None:
        self._welcome = welcome
        self._folder = folder
        self._say = say

    def start(self) -> None:
        """Start the welcome thread."""
        threading.Thread(target=self._welcome_requesters, daemon=True).start()

    def _welcome_requesters(self) -> None:
        serve_by_word = {"TXT": self._serve_text, "IMG": self._serve_image}
        while True:
            try:
                datagram, requester = self._welcome.recvfrom(RECEIVE_MAX)
                word = datagram.decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                self._say(f"welcome thread ended: {error!r}")
                return
            serve = serve_by_word.get(word)
            if serve is not None:
                # Open: a thread for each word, so a repeated word starts a second transfer.
                self._welcome.sendto(ACK, requester)
                threading.Thread(target=serve, args=(requester,), daemon=True).start()

    def _serve_text(self, requester: Address) -> None:
        try:
            text = (self._folder / "my_file.txt").read_bytes()
            with socket.create_connection(requester, SEND_TIMEOUT) as connection:
                sent = connection.send(text)
        except OSError as error:  # no such file, or it knocked before the requester listened
            self._say(f"not served text: {error!r}")
        else:
            self._say(f"served text {sent} of {len(text)} bytes")

    def _serve_image(self, requester: Address) -> None:
        try:
            with Image.open(self._folder / "my_file.jpg") as image:
                if image.mode != "RGB":
                    self._say(f"not served image: it is {image.mode}")
                    return
                image.load()
                outcome = send_image(image, requester)
        except OSError as error:
            outcome = repr(error)
        self._say(f"served image: {outcome}")


def send_image(image: Image.Image, requester: Address) -> str:
    """Send a picture from a new socket, which is bound to no address; return how it ended."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as transfer:
        transfer.settimeout(SILENCE_TIMEOUT)
        transfer.sendto(encode_size(image.width, image.height), requester)
        try:
            answer = transfer.recv(RECEIVE_MAX)
            if answer != ACK_SIZE:
                return f"{answer!r} in place of ACK_SIZE"
            for row in range(image.height):
                transfer.sendto(encode_row(image, row), requester)
            transfer.sendto(FIN, requester)
            return _answer_wanted(transfer, image, requester)
        except TimeoutError:
            return "silence"


def _answer_wanted(transfer: socket.socket, image: Image.Image, requester: Address) -> str:
    """Answer ROW WANTED until COMPLETE; the requester's FIN is ignored and none is sent again."""
    answered = 0
    while (datagram := transfer.recv(RECEIVE_MAX)) != COMPLETE:
        row = decode_wanted(datagram)
        if row is not None and row < image.height:
            transfer.sendto(encode_row(image, row), requester)
            answered += 1
    return f"complete after {answered} rows more"
