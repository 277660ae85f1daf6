"""A headless Chromium, if one is installed."""

from __future__ import annotations

import atexit
import base64
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""Where screenshots are kept, for people to look at."""
PATIENCE = 60.0  # seconds for a page to become as expected, on a busy machine
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--hide-scrollbars", "--no-proxy-server",
    # One process draws all pages. Otherwise each page that is opened costs up to two new ones.
    "--renderer-process-limit=1", "--disable-site-isolation-trials", "--in-process-gpu",
    "--disable-features=SpareRendererForSitePerProcess,BackForwardCache",
)  # fmt: skip


def why_none() -> str:
    """The reason why no browser is available for the tests; empty if one is."""
    if _browser() is None:
        return "no browser is installed: the tests of the page want Chromium (Debian: chromium)"
    if shutil.which("chromedriver") is None:
        return "no chromedriver is installed, which the tests of the page want (Debian: chromium-driver)"
    return ""


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Browser:
    """One browser, which opens one page after the other. All calls block: keep them off the reactor's thread."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(
            prefix="p2p-browser-", ignore_cleanup_errors=True
        )
        options = ChromeOptions()
        options.binary_location = _browser() or ""
        for flag in (*FLAGS, f"--user-data-dir={self._profile.name}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._hastening: str | None = None
        self._language = ""
        driver = Service(executable_path=shutil.which("chromedriver"))
        self._chrome = Chrome(options=options, service=driver)

    @property
    def debugger(self) -> str:
        """The host and port of the browser's own debugging interface."""
        return str(self._chrome.capabilities["goog:chromeOptions"]["debuggerAddress"])

    def quit(self) -> None:
        """Close the browser and remove its files."""
        self._chrome.quit()
        self._profile.cleanup()

    def look_as(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """Emulate a screen of this many pixels, in a light or dark colour scheme."""
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._command(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    @property
    def language(self) -> str:
        """The language that pages are told the user prefers."""
        return self._language

    @language.setter
    def language(self, language: str) -> None:
        if language != self._language:
            self._language = language
            agent = self.run("navigator.userAgent")
            self._command(
                "Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=language
            )

    def forget_all(self) -> None:
        """Forget cookies and everything else that pages have stored, and leave the page."""
        self._chrome.get("about:blank")
        self._command("Network.clearBrowserCookies")
        self._command("Storage.clearDataForOrigin", origin="*", storageTypes="all")

    def forget_cache(self) -> None:
        """Forget the files that pages have loaded."""
        self._command("Network.clearBrowserCache")

    def run_async(self, script: str, *arguments: object) -> Any:
        """Run statements whose last argument is a function, and return what they call it with."""
        return self._chrome.execute_async_script(script, *arguments)

    def new_tab(self) -> None:
        """Open one more tab, and work in it from now on."""
        self._chrome.switch_to.new_window("tab")

    def use_tab(self, number: int) -> None:
        """Work in another tab from now on; the first one is 0."""
        self._chrome.switch_to.window(self._chrome.window_handles[number])

    def close_tabs(self) -> None:
        """Close all tabs but the first one, and work in that."""
        for tab in self._chrome.window_handles[1:]:
            self._chrome.switch_to.window(tab)
            self._chrome.close()
        self.use_tab(0)

    def refuse(self, *patterns: str) -> None:
        """Let all later requests for addresses that match a pattern fail; without one, none."""
        self._command("Network.enable")
        self._command("Network.setBlockedURLs", urls=list(patterns))

    def violations(self, axe: str) -> list[str]:
        """Return a line for each element that breaks a rule of axe-core, whose source is `axe`."""
        if not self.run("Boolean(window.axe)"):
            self._chrome.execute_script(axe)
        script = """const done = arguments[arguments.length - 1];
            // The files of styles are for a rule alone that is off.
            axe.run(document, {resultTypes: ["violations"], preload: {assets: ["media"]}}).then(
                found => done(found.violations.flatMap(rule => rule.nodes.map(
                    node => `${rule.id}: ${node.target} ${node.failureSummary}`))),
                error => done([String(error)]));"""
        found: list[str] = self.run_async(script)
        return found

    def _command(self, name: str, **parameters: Any) -> None:
        self._chrome.execute_cdp_cmd(name, parameters)

    def hasten(self, factor: float) -> None:
        """Make the timers of all later pages run faster by this factor."""
        if self._hastening is not None:
            self._command("Page.removeScriptToEvaluateOnNewDocument", identifier=self._hastening)
        script = f"""for (const name of ["setTimeout", "setInterval"]) {{
            const plain = window[name];
            window[name] = (run, ms) => plain(run, ms / {factor});
        }}
        const now = Date.now, begin = now();
        Date.now = () => begin + (now() - begin) * {factor};"""
        words = {"source": script}
        found = self._chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", words)
        self._hastening = found["identifier"]

    def begin_with(self, script: str) -> None:
        """Run statements at the beginning of all later pages."""
        self._command("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, url: str) -> None:
        """Open a page, and clear the console messages of the page before."""
        self._chrome.get_log("browser")
        self._chrome.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        """Return the value of a JavaScript expression; `a` is the array of arguments."""
        return self._chrome.execute_script(f"const a = arguments; return ({script});", *arguments)

    def wait(self, script: str, expected: object) -> None:
        """Wait until an expression has a value."""
        deadline, pause = time.monotonic() + PATIENCE, 0.02
        while (found := self.run(script)) != expected:
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{script} is {found!r}, not {expected!r}; {self.complaints()}"
                )
            time.sleep(pause)
            pause = min(1.5 * pause, 0.1)  # each look costs the time of three processes

    def wait_until(self, script: str) -> None:
        """Wait until an expression is true in JavaScript's sense."""
        self.wait(f"Boolean({script})", True)

    def drop(self, selector: str, files: dict[str, bytes], text: str = "") -> None:
        """Drop files, by their names, or a text on an element."""
        encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
        script = """const [selector, files, text] = arguments, data = new DataTransfer();
            for (const [name, content] of Object.entries(files)) {
              const bytes = Uint8Array.from(atob(content), each => each.charCodeAt(0));
              data.items.add(new File([bytes], name));
            }
            if (text) data.setData("text/plain", text);
            const target = document.querySelector(selector);
            for (const type of ["dragenter", "dragover", "drop"]) {
              target.dispatchEvent(new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: data}));
            }"""
        self._chrome.execute_script(script, selector, encoded, text)

    def drag_in(self, selector: str, *paths: Path) -> None:
        """Drag files and folders of this machine onto an element, as a file browser would."""
        box = self.run(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 8}
        data = {"items": [], "files": [*map(str, paths)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self._command("Input.dispatchDragEvent", type=kind, data=data, **at)

    def paste(self, text: str, picture: bytes = b"") -> None:
        """Paste a text, or a picture, while no field has the focus."""
        script = """const data = new DataTransfer(), [text, picture] = arguments;
            if (text) data.setData("text/plain", text);
            if (picture) {
              const bytes = Uint8Array.from(atob(picture), each => each.charCodeAt(0));
              data.items.add(new File([bytes], "image.png", {type: "image/png"}));
            }
            document.body.dispatchEvent(
              new ClipboardEvent("paste", {bubbles: true, cancelable: true, clipboardData: data}));"""
        self._chrome.execute_script(script, text, base64.b64encode(picture).decode())

    def slow_uploads(self, rate: int | None) -> None:
        """Let the page send only so many bytes per second; None for as many as it can."""
        self._command("Network.enable")
        self._command(
            "Network.emulateNetworkConditions",
            offline=False,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1 if rate is None else rate,
        )

    def fill(self, selector: str, text: str) -> None:
        """Replace the text of an input element by typing."""
        element = self._chrome.find_element("css selector", selector)
        element.click()
        element.send_keys(f"\ue009a\ue000{text}")  # Ctrl-A

    def click_text(self, selector: str, text: str) -> None:
        """Click on the element that has this text among those that a selector finds."""
        found = self._chrome.find_elements("css selector", selector)
        next(each for each in found if text in each.text).click()

    def text(self, selector: str = "body") -> str:
        """Return the visible text of an element."""
        found: str = self._chrome.find_element("css selector", selector).text
        return found

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files of this machine in an input element, as its dialog would."""
        self._chrome.find_element("css selector", selector).send_keys("\n".join(map(str, paths)))

    def keys(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is; hold those of `Keys` that are modifiers."""
        ActionChains(self._chrome).send_keys(*keys).perform()

    def click_with(self, modifier: str, selector: str) -> None:
        """Click on an element while a key is held, such as `Keys.SHIFT`."""
        element = self._chrome.find_element("css selector", selector)
        ActionChains(self._chrome).key_down(modifier).click(element).key_up(modifier).perform()

    def press_with(self, modifier: str, *keys: str) -> None:
        """Press keys while another one is held, such as `Keys.SHIFT`."""
        ActionChains(self._chrome).key_down(modifier).send_keys(*keys).key_up(modifier).perform()

    def trust_any_certificate(self, is_trusted: bool) -> None:
        """Accept certificates of pages that nobody has signed, or reject them again."""
        self._command("Security.setIgnoreCertificateErrors", ignore=is_trusted)

    def keep_downloads(self, folder: Path) -> None:
        """Save all later downloads into a folder."""
        self._command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def type(self, selector: str, keys: str) -> None:
        """Append text to an input element by typing it."""
        self._chrome.find_element("css selector", selector).send_keys(keys)

    def press(self, keys: str) -> None:
        """Press keys in the element that has the focus."""
        self._chrome.switch_to.active_element.send_keys(keys)

    def click(self, selector: str) -> None:
        """Click on an element with the mouse."""
        self._chrome.find_element("css selector", selector).click()

    def touch(self, selector: str, hold: float = 0.0, across: int = 0) -> None:
        """Touch the middle of an element with a finger for some seconds, or move it across by some pixels."""
        box = "a.getBoundingClientRect()"
        x, y = self.run(
            f"((a) => [{box}.x + {box}.width / 2, {box}.y + {box}.height / 2])(document.querySelector(a[0]))",
            selector,
        )
        self._touch("touchStart", x, y)
        time.sleep(hold)
        for part in range(1, 5) if across else ():
            self._touch("touchMove", x + across * part / 4, y)
        self._touch("touchEnd")

    def _touch(self, kind: str, *place: float) -> None:
        points = [dict(zip("xy", place, strict=True))] if place else []
        self._command("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def complaints(self) -> list[str]:
        """Return the console messages since the page was opened."""
        return [entry["message"] for entry in self._chrome.get_log("browser")]

    def keep(self, name: str) -> Path:
        """Take a screenshot of the visible part of the page."""
        self.wait("document.getAnimations().length", 0)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self._chrome.save_screenshot(str(path))
        return path


@cache
def the_browser() -> Browser:
    """Return the browser that all tests of a process share, because a start takes seconds."""
    browser = Browser()
    atexit.register(browser.quit)
    return browser
