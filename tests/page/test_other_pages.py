"""Other web pages against the peer's page, in a real browser that is signed in: of another port, name and site."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.page.page_case import PageTestCase
from tests.page.world import until

ATTACK = """
const [origin, picture, style, done] = arguments, got = {};
const wait = (ms) => new Promise((then) => setTimeout(then, ms));
const tell = (what) => (value) => { got[what] = String(value); };
const asks = [];
const ask = (what, path, options) => asks.push(fetch(origin + path, {credentials: "include", ...options})
  .then((reply) => reply.type === "opaque" ? `opaque ${reply.status}` : reply.text(), () => "failed").then(tell(what)));
ask("simple", "/api/v1/do/stop", {method: "POST", mode: "no-cors", body: "{}"});
ask("json", "/api/v1/do/stop", {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"});
ask("forged", "/api/v1/do/stop", {method: "POST", headers: {"X-CSRF-Token": "x"}, body: "{}"});
ask("put", "/api/v1/draft/a/b", {method: "PUT", body: "x"});
ask("sign out", "/api/v1/session", {method: "DELETE"});
ask("read", "/api/v1/session", {});
ask("stream", "/api/v1/events", {});
for (const [tag, attribute, path] of [
  ["img", "src", picture], ["script", "src", "/api/v1/session"], ["link", "href", style],
  ["script", "src", style.replace("design.css", "app.js")], ["img", "src", picture.replace("preview", "file")],
]) {
  const element = document.createElement(tag);
  if (tag === "link") element.rel = "stylesheet";
  asks.push(new Promise((then) => {
    element.onload = element.onloadeddata = () => then("loaded");
    element.onerror = () => then("failed");
  }).then(tell(tag + path)));
  element[attribute] = origin + path;
  document.body.append(element);
}
const form = document.createElement("form"), frame = document.createElement("iframe");
Object.assign(form, {method: "post", enctype: "text/plain", action: origin + "/api/v1/do/stop", target: "inner"});
frame.name = "inner";
document.body.append(frame, form);
form.submit();
const shown = document.createElement("iframe");
shown.src = origin + "/";
document.body.append(shown);
asks.push(new Promise((then) => {
  const source = new EventSource(origin + "/api/v1/events", {withCredentials: true});
  source.onopen = () => then("open");
  source.onerror = () => { source.close(); then("failed"); };
}).then(tell("source")));
asks.push(new Promise((then) => {
  const socket = new WebSocket(origin.replace("http", "ws") + "/api/v1/events");
  socket.onopen = () => then("open");
  socket.onerror = () => then("failed");
}).then(tell("socket")));
const opened = window.open(origin + "/");
Promise.race([Promise.all(asks), wait(8000)]).then(() => wait(300)).then(() => {
  got.cookie = document.cookie;
  try { got.window = opened.document.title; } catch { got.window = "failed"; }
  opened?.close();
  done(got);
});
"""


PICTURE = "/api/v1/preview/bob/shared/album/turned.jpg?edge=256"


class EvilPage(BaseHTTPRequestHandler):
    """Serves an empty page without any restriction."""

    def do_GET(self) -> None:
        """Reply."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body>")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class OtherPageTests(PageTestCase):
    """A page that somebody else serves on this machine."""

    def setUp(self) -> None:
        super().setUp()
        server = ThreadingHTTPServer(("127.0.0.1", 0), EvilPage)
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        self.evil_port = server.server_port

    def test_other_pages(self) -> None:
        """Threats 101, 102, 103 and 106: another page reads nothing, changes nothing and shows nothing of ours."""
        alice, browser = self.world["alice"], self.browser
        self.open(alice)
        port = urlsplit(alice.page_url()).port
        origin = f"http://127.0.0.1:{port}"
        pid = alice.ask("status")["pid"]
        style = "document.querySelector('link[rel=stylesheet]').getAttribute('href')"
        names = PICTURE, f"/{browser.run(style)}"
        for evil in ("127.0.0.1", "localhost"):  # the same site, at another port; another site
            browser.open(f"http://{evil}:{self.evil_port}/")
            got = browser.run_async(ATTACK, origin, *names)
            self.addCleanup(browser.close_tabs)
            self.assertIn(got.pop("simple"), ("opaque 0", "failed"), evil)
            self.assertEqual(got.pop("cookie"), "")
            self.assertEqual(set(got.values()), {"failed"}, (evil, got))
            self.assertEqual(len(got), 14, got)
            said = " ".join(browser.complaints())
            self.assertRegex(said, "frame-ancestors|X-Frame-Options|Refused to display", evil)
            browser.open(f"{origin}/")
            browser.wait("document.documentElement.dataset.connection", "live")
        browser.open(
            f"http://evil.localhost:{port}/"
        )  # resolves to loopback, as a rebound name does
        self.assertIn("urn:p2pshare:problem:forbidden", browser.text())
        self.assertTrue(until(lambda: alice.ask("status")["pid"] == pid))

    def test_led_here(self) -> None:
        """Threat 107: another page can open ours, but not at a person, who would learn from that who visits it."""
        alice, browser = self.world["alice"], self.browser
        self.open(alice)
        origin = f"http://127.0.0.1:{urlsplit(alice.page_url()).port}"
        bob, live = "/people/bob/files/shared", "document.documentElement.dataset.connection"
        for evil, wanted in (
            ("127.0.0.1", f"#{bob}"),
            ("localhost", f"#open=x&to={bob}"),
            ("localhost", "#/send?to=bob"),
        ):
            browser.open(f"http://{evil}:{self.evil_port}/")
            browser.run("void (location = a[0])", f"{origin}/{wanted}")
            browser.wait(live, "live")
            browser.wait("document.querySelector('.toast')?.innerText.split(' ')[0]", "Another")
            self.assertEqual(browser.run("location.hash"), "#/people", wanted)
        self.show(bob)
        browser.run("void location.reload()")
        browser.wait_until("document.querySelector('.browse [data-row]')")
        browser.open(f"http://localhost:{self.evil_port}/")
        browser.run(
            "void (location = a[0])", alice.page_url(bob)
        )  # such as in a terminal on the web
        browser.wait_until("document.querySelector('.browse [data-row]')")
        self.assertEqual(browser.run("location.hash"), f"#{bob}")
