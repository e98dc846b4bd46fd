"""A real Chromium without a window, spoken to through its own DevTools protocol, over a pair of pipes."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
           "--no-first-run", "--remote-debugging-pipe")  # fmt: skip


class Browser:
    """One page of the browser, and what it complained of.

    Args:
        commands: the file descriptor that the browser reads from.
        answers: the one that it writes to.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = commands, answers
        self.complaints: list[str] = []  # errors and warnings of the console, and what could not be loaded
        self._session: str | None = None
        self._number, self._buffer, self._loaded = 0, b"", False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Ask the browser for something and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        session = {"sessionId": self._session} if self._session else {}
        os.write(self.commands, json.dumps(message | session).encode() + b"\0")
        number = self._number
        while (answer := self._receive()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url: str, width: int, seconds: float = 60) -> None:
        """Show a page in a window of this width, in pixels, and wait until it has loaded."""
        self.complaints, self._loaded = [], False
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=url)
        end = time.monotonic() + seconds
        while not self._loaded:
            self._receive(end - time.monotonic())

    def ask(self, expression: str) -> Any:
        """The value of an expression of the page's own language."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> Any:
        """The value of an expression, as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.ask(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.25)
        return value

    def _receive(self, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self.answers], [], [], max(seconds, 0))[0], "the browser does not answer"
            part = os.read(self.answers, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, event: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                details = event["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if event["type"] in ("error", "assert"):
                self.complaints.append(" ".join(str(word.get("value")) for word in event["args"]))
            case "Log.entryAdded" if event["entry"]["level"] == "error":
                self.complaints.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")


@contextlib.contextmanager
def started(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, ended afterwards."""
    assert PROGRAM
    ours_out, ours_in = os.pipe(), os.pipe()
    # It reads its file 3 and writes its file 4.
    words = [PROGRAM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    shell = ["bash", "-c", f'exec "$@" 3<&{ours_out[0]} 4>&{ours_in[1]}', "browser", *words]
    with subprocess.Popen(shell, pass_fds=(ours_out[0], ours_in[1]), stderr=subprocess.DEVNULL) as process:
        os.close(ours_out[0])
        os.close(ours_in[1])
        try:
            yield Browser(ours_out[1], ours_in[0])
        finally:
            os.close(ours_out[1])  # it ends when nobody can speak to it any more
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            os.close(ours_in[0])
