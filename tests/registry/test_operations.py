"""docs/operations.md and docs/deploy say what the registry's command line does."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry.api.event_streams import StreamLimits
from p2pshare.registry.api.signals import QUESTIONS_MAX, SignalLimits
from p2pshare.registry.configuration import DEFAULT_LIMITS, WORKERS_MAX
from p2pshare.registry.tap import Options

DOCS = Path(__file__).parents[2] / "docs"
DEPLOY = DOCS / "deploy"


def parse(words: list[str]) -> Any:
    """Read a registry's options; wrong ones end the process."""
    with tempfile.TemporaryDirectory() as folder:
        options: Any = Options()
        options.parent = {"pidfile": "", "logger": None, "nodaemon": True}
        options.parseOptions([*words, "--data", folder])
        return options


class OperationsTests(SynchronousTestCase):
    """docs/operations.md"""

    def setUp(self) -> None:
        self.text = (DOCS / "operations.md").read_text()

    def test_options(self) -> None:
        """The table has each option, and no other."""
        section = self.text.partition("## Options")[2].partition("\n## ")[0]
        told = re.findall(r"^\| `--([a-z-]+)` \|", section, re.M)
        known = {name.replace("_", "-") for name in Options().synonyms if len(name) > 1}
        self.assertEqual(sorted(told), sorted(known - {"help", "version"}))
        self.assertIn(f"1 to {WORKERS_MAX}", section)

    def test_limits(self) -> None:
        """The tables have the rates and the bounds that hold."""
        for what, limit in DEFAULT_LIMITS.items():
            row = rf"^\| `{what}` \|.*\| {limit.per_second:g} \| {limit.burst} \|$"
            self.assertRegex(self.text, re.compile(row, re.M))
        streams, signals = StreamLimits(), SignalLimits()
        for what, value in (
            ("event streams", streams.streams_max),
            ("event streams for one client", streams.streams_per_address_max),
            ("an event stream", streams.life),
            ("streams of signals", signals.streams_max),
            ("streams of signals from one address", signals.streams_per_address_max),
            ("streams of signals of one key", signals.streams_per_key_max),
            ("a stream of signals", signals.life),
            ("bytes of signals that wait for a client", signals.unsent_max),
            (
                "for the machine of a client to acknowledge what a stream of signals sends",
                signals.unacknowledged_max,
            ),
            ("body of a signal", signals.body_max),
            ("signals whose recipient's process has not answered", QUESTIONS_MAX),
        ):
            self.assertIn(f"| {what} | {value:g} |", self.text)

    def test_events(self) -> None:
        """Each event in the table of log lines is in the code."""
        package = DOCS.parent / "p2pshare"
        modules = [*(package / "registry").rglob("*.py"), package / "net" / "child_process.py"]
        code = "".join(module.read_text() for module in modules)
        rows = self.text.partition("| event of a registry |")[2].partition("\n\n")[0]
        events = re.findall(r"`([a-z ]+)", "".join(re.findall(r"^\| (`.*?) \|", rows, re.M)))
        self.assertGreater(len(events), 10)
        for event in events:
            self.assertIn(f'"{event.strip()}', code)

    def test_commands(self) -> None:
        """The command lines are understood."""
        for limit in re.findall(r"`--limit (\S+)`", self.text):
            self.assertIsNotNone(parse(["--limit", limit]))


class DeployTests(SynchronousTestCase):
    """docs/deploy"""

    def test_unit(self) -> None:
        """The unit's command line is understood, and it runs as nobody in particular, who may do little."""
        text = (DEPLOY / "p2pregistry.service").read_text()
        (command,) = re.findall(r"^ExecStart=\S+/twistd (.*)$", text, re.M)
        words = shlex.split(command)
        after = words[words.index("p2pregistry") + 1 :]
        self.assertEqual(after[:2], ["--data", "${STATE_DIRECTORY}"])
        self.assertEqual(parse(after[2:])["workers"], 2)
        for line in (
            "DynamicUser=yes",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "CapabilityBoundingSet=",
        ):
            self.assertIn(f"\n{line}\n", text)

    def test_container(self) -> None:
        """The image's command line is understood, runs as no root, and is looked at."""
        text = (DEPLOY / "Dockerfile").read_text()
        words = [
            word
            for instruction in ("ENTRYPOINT", "CMD")
            for found in re.findall(rf"^{instruction} (\[.*\])$", text, re.M)
            for word in json.loads(found)
        ]
        after = words[words.index("p2pregistry") + 1 :]
        self.assertEqual(after[:2], ["--data", "/data"])
        options = parse(after[2:])
        self.assertEqual((options["listen"], options["log-format"]), (["tcp:8000"], "json"))
        self.assertRegex(text, r"(?m)^USER 10001:10001$")
        self.assertRegex(text, r"HEALTHCHECK [^[]*\[.*127\.0\.0\.1:8000/healthz")

    def test_proxies(self) -> None:
        """The options that stand in a proxy's configuration are understood; streams are not held back there."""
        for name in ("nginx.conf", "Caddyfile"):
            text = (DEPLOY / name).read_text()
            (line,) = re.findall(r"^# +(--listen .*)$", text, re.M)
            options = parse(shlex.split(line))
            self.assertEqual(options["url"], [])  # a registry goes by any URL that leads to it
            self.assertEqual(options["trusted-proxy"], ["127.0.0.1"])
            self.assertIn("127.0.0.1:8000", text)
        self.assertIn("proxy_buffering off;", (DEPLOY / "nginx.conf").read_text())
        self.assertIn("flush_interval -1", (DEPLOY / "Caddyfile").read_text())
