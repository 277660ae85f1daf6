"""The original client: registers, serves a folder, fetches from others; prints a line per event.

``python -m tests.originals.client --registry HOST:PORT --name NAME --share DIR [--ip 127.0.0.1]
[--get PEER I|T]… [--out DIR] [--png] [--serve-seconds S]``. Exit code 0 only if every ``--get``
worked. Fetched files are named after the IP address of their peer, so two peers at one address
overwrite each other's files.
"""

import argparse
import http.client
import json
import sys
import threading
import time
from pathlib import Path

from tests.originals.datagrams import Address, bind_somewhere
from tests.originals.fetching import FetchError, fetch_image, fetch_text
from tests.originals.sharing import Sharer

HTTP_TIMEOUT = 5.0  # seconds


class RegistryClient:
    """The registry through one HTTPConnection object, which connects again when it was closed.

    Targets have no leading slash. Bodies of replies to POST, and of 400 replies, are left unread;
    so a reply that does not end its connection makes the next request raise
    `http.client.CannotSendRequest`.
    """

    def __init__(self, host: str, port: int) -> None:
        self._http = http.client.HTTPConnection(host, port, timeout=HTTP_TIMEOUT)

    def register(self, name: str, welcome: Address) -> bool:
        """Say whether the name was free and is ours now."""
        ip, port = welcome
        body = json.dumps({"name": name, "ip": ip, "port": port})
        self._http.request("POST", "name", body)
        return self._http.getresponse().status == 200

    def users(self) -> list[str]:
        """Return every registered name."""
        self._http.request("GET", "list")
        names: list[str] = json.loads(self._http.getresponse().read())
        return names

    def welcome_of(self, name: str) -> Address | None:
        """Return the welcome address of a user, or None for an unknown one."""
        self._http.request("GET", f"user/{name}")
        response = self._http.getresponse()
        if response.status == 400:
            return None
        user = json.loads(response.read())
        return user["ip"], user["port"]


def say(event: str) -> None:
    """Print one event."""
    sys.stdout.write(event + "\n")
    sys.stdout.flush()


def get(welcome: Address, peer: str, kind: str, options: argparse.Namespace) -> None:
    """Fetch one file and save it under the peer's IP address.

    Raises:
        FetchError: the original gives up.
    """
    started = time.monotonic()
    saved = options.out / welcome[0]
    if kind == "T":
        text = fetch_text(options.ip, welcome)
        Path(f"{saved}.txt").write_bytes(text)
        what = f"text {peer} {len(text)} bytes"
    else:
        image = fetch_image(options.ip, welcome)
        image.save(f"{saved}.jpg")
        what = f"image {peer} {image.width}x{image.height}"
        if options.png:
            image.save(f"{saved}.png")
    say(f"got {what} in {time.monotonic() - started:.2f} s")


def get_all(registry: RegistryClient, options: argparse.Namespace) -> bool:
    """Try every file asked for; say whether all came."""
    failed = 0
    for peer, kind in options.get:
        started = time.monotonic()
        file = f"{'text' if kind == 'T' else 'image'} {peer}"
        try:
            welcome = registry.welcome_of(peer)
            if welcome is None:
                raise FetchError("unknown user")
            get(welcome, peer, kind, options)
        except FetchError as error:
            failed += 1
            say(f"failed {file} after {time.monotonic() - started:.2f} s: {error}")
    return not failed


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="client", description=__doc__.splitlines()[0])
    parser.add_argument("--registry", required=True, metavar="HOST:PORT")
    parser.add_argument("--name", required=True)
    parser.add_argument("--share", required=True, type=Path, metavar="DIR")
    parser.add_argument("--ip", default="127.0.0.1", help="own address, registered and bound to")
    parser.add_argument("--get", nargs=2, action="append", default=[], metavar=("PEER", "I|T"))
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR")
    parser.add_argument(
        "--png", action="store_true", help="save pictures as PNG too, which the original cannot"
    )
    parser.add_argument(
        "--serve-seconds",
        type=float,
        metavar="S",
        help="serve on for so long; else, with --get no longer, without until Ctrl+C",
    )
    options = parser.parse_args(arguments)
    if any(kind not in ("I", "T") for _, kind in options.get):
        parser.error("--get takes a name and I or T")
    return options


def main(arguments: list[str]) -> int:
    """Run the client and return its exit code."""
    options = parse(arguments)
    host, port = options.registry.rsplit(":", 1)
    registry = RegistryClient(host, int(port))
    welcome = bind_somewhere(options.ip)
    if not registry.register(options.name, welcome.getsockname()):
        say(f"failed name {options.name} is taken")
        return 1
    Sharer(welcome, options.share, say).start()
    say(f"serving {options.name} on port {welcome.getsockname()[1]}")
    say(f"users {' '.join(registry.users())}")
    got_all = get_all(registry, options)
    serve_seconds = 0.0 if options.get and options.serve_seconds is None else options.serve_seconds
    try:
        threading.Event().wait(serve_seconds)
    except KeyboardInterrupt:
        say("stopped")
    return 0 if got_all else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
