"""The original registry: HTTP/1.0, one connection at a time, every name kept for ever.

The original keeps its names in Redis; a dictionary does here. It answers three targets, which its
clients send without a leading slash, and nothing else. ``python -m tests.originals.registry PORT``
runs it on 127.0.0.1 and prints its address (port 0 takes a free one).
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import unquote

HOST = "127.0.0.1"


class Registry(HTTPServer):
    """The server and its names; each is mapped to the JSON text that is the answer for it."""

    def __init__(self, port: int = 0) -> None:
        self.users: dict[str, str] = {}
        super().__init__((HOST, port), Request)


class Request(BaseHTTPRequestHandler):
    """One request, which is also the whole connection: the protocol version stays HTTP/1.0."""

    server: Registry

    def do_GET(self) -> None:
        if self.path == "list":
            self._answer(200, json.dumps(list(self.server.users)))
        elif self.path.startswith("user/"):
            user = self.server.users.get(unquote(self.path.removeprefix("user/")))
            self._answer(400 if user is None else 200, user or "")
        else:
            self._answer(400)  # Open: the facts say only that such targets are not served.

    def do_POST(self) -> None:
        # Open: any other body ends in a traceback here, and in a connection closed.
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "name" or body["name"] in self.server.users:
            self._answer(400)
            return
        self.server.users[body["name"]] = json.dumps({"ip": body["ip"], "port": body["port"]})
        self._answer(200)

    def _answer(self, status: int, body: str = "") -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: what the clients print is the record of a run."""


def main() -> None:
    """Serve on the port of the command line until the process is ended."""
    with Registry(int(sys.argv[1])) as registry:
        sys.stdout.write(f"listening {HOST}:{registry.server_port}\n")
        sys.stdout.flush()
        registry.serve_forever()


if __name__ == "__main__":
    main()
