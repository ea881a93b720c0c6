"""A headless Chromium that a test drives over a pipe, by the DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, PROGRAMS)), None)
MISSING = None if PROGRAM else f"none of {', '.join(PROGRAMS)} is installed"
PATIENCE = 90  # seconds until a test gives up
OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
# Chromium reads commands from descriptor 3 and writes to 4.
START = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Chromium:
    """A browser. Each page has cookies of its own."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = os.fdopen(commands, "wb", 0), os.fdopen(answers, "rb", 0)
        self._buffer, self._number = b"", 0
        self._pages: dict[str, Page] = {}

    def page(self) -> Page:
        """Open a page without cookies."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        return self._pages[session]

    def call(self, method: str, session: str | None = None, /, **params: Any) -> Any:
        """Send a command, and return its result. Raises a RuntimeError for an error."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self._commands.write(json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            if message.get("sessionId") in self._pages:
                self._pages[message["sessionId"]].notice(message["method"], message["params"])

    def _next(self) -> Any:
        while b"\0" not in self._buffer:
            read = self._answers.read(1 << 16)
            if not read:
                raise RuntimeError("Chromium has ended")
            self._buffer += read
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def close(self) -> None:
        """Close the pipes: Chromium ends."""
        self._commands.close()
        self._answers.close()


class Page:
    """A page. complaints: errors and warnings of the console, and what the policy has forbidden."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session
        self.complaints: list[str] = []

    def notice(self, method: str, params: Any) -> None:
        """Keep a complaint."""
        if method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(params["args"]))

    def call(self, method: str, **params: Any) -> Any:
        """Send a command about this page."""
        return self._browser.call(method, self._session, **params)

    def go(self, url: str) -> None:
        """Open an address, and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState == 'complete' && location.href != 'about:blank'")

    def ask(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")

    @property
    def text(self) -> str:
        """The visible text."""
        return str(self.ask("document.body.innerText"))

    def wait(self, script: str) -> Any:
        """Wait until an expression is true, also across the loading of another page, and return its value."""
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(RuntimeError):  # between two pages
                if value := self.ask(script):
                    return value
            if time.monotonic() > end:
                raise AssertionError(f"never true: {script}; the page: {self.text}")
            time.sleep(0.05)

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key, such as Tab or Enter."""
        codes = {"Tab": 9, "Enter": 13}
        more = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=codes[key], **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=codes[key])

    def log_in(self, address: str, username: str, password: str) -> None:
        """Log in by the keyboard alone."""
        self.go(address)
        self.wait("document.activeElement.id == 'username'")
        self.type(username)
        self.press("Tab")
        self.type(password)
        self.ask("window.isOld = true")
        self.press("Enter")
        self.wait("!window.isOld && document.readyState == 'complete'")

    def screen(self, width: int, height: int, *, dark: bool = False, whole: bool = False) -> bytes:
        """Return a picture (PNG) in a window of some size. whole: with what is below the window."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        return base64.b64decode(data)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Chromium]:
    """Give a browser, whose profile is in a folder."""
    command_in, command_out = os.pipe()
    answer_in, answer_out = os.pipe()
    own = [PROGRAM or "", *OPTIONS, f"--user-data-dir={folder}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(command_in), str(answer_out), *own],
        pass_fds=(command_in, answer_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(command_in)
    os.close(answer_out)
    try:
        with contextlib.closing(Chromium(command_out, answer_in)) as browser:
            yield browser
            with contextlib.suppress(RuntimeError):
                browser.call("Browser.close")
    finally:
        _end(process, lambda number: os.killpg(process.pid, number))


def _end(process: subprocess.Popen[bytes], send: Callable[[int], None]) -> None:
    """Wait for the end of a browser and its processes; kill them if that takes long."""
    import signal

    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            send(signal.SIGKILL)
        process.wait()
