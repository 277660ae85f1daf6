"""How long the main thread of a page is busy at once, in time of the processor and of the clock.

On a busy machine a frame is late because other programs run. The processor time of the page's main thread does not
count those, so it can be compared between runs. Chromium tells both times of each task over its own debugging
interface (Chrome DevTools Protocol, domain Tracing).
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websocket import WebSocket, create_connection

PATIENCE = 60  # seconds for the browser to hand over what it has noted
NOTED = {"includedCategories": ["toplevel"], "excludedCategories": ["*"]}
TASK = "ThreadControllerImpl::RunTask"
MAIN_THREAD = "CrRendererMain"


class LongestTask:
    """The longest tasks of a page's main thread, in ms; 0 before the end of the measurement."""

    busy = 0.0
    """In time of the processor."""
    wall = 0.0
    """In time of the clock."""


@contextmanager
def traced(debugger: str) -> Iterator[LongestTask]:
    """Measure the tasks of all pages during the block; `debugger` is the host and port of the browser's interface."""
    with urllib.request.urlopen(f"http://{debugger}/json/version") as reply:
        url = json.load(reply)["webSocketDebuggerUrl"]
    connection = create_connection(url, suppress_origin=True, timeout=PATIENCE)
    found = LongestTask()
    try:
        _send(connection, 1, "Tracing.start", traceConfig=NOTED, transferMode="ReportEvents")
        while json.loads(connection.recv()).get("id") != 1:
            pass
        yield found
        _send(connection, 2, "Tracing.end")
        events = _events(connection)
    finally:
        connection.close()
    names = {
        _thread(each): each["args"]["name"] for each in events if each["name"] == "thread_name"
    }
    for each in events:
        if each["name"] == TASK and "tdur" in each and names.get(_thread(each)) == MAIN_THREAD:
            found.busy = max(found.busy, each["tdur"] / 1000)
            found.wall = max(found.wall, each["dur"] / 1000)


def _send(connection: WebSocket, number: int, method: str, **parameters: object) -> None:
    connection.send(json.dumps({"id": number, "method": method, "params": parameters}))


def _events(connection: WebSocket) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while (told := json.loads(connection.recv())).get("method") != "Tracing.tracingComplete":
        if told.get("method") == "Tracing.dataCollected":
            events += told["params"]["value"]
    return events


def _thread(event: dict[str, Any]) -> tuple[int, int]:
    return event["pid"], event["tid"]
