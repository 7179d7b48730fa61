"""A headless Chromium, asked over a pipe: what a page logs, how wide it is, how it can be read."""

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--remote-debugging-pipe"),
)
QUIET = 0.5  # seconds without an event, after which a page is taken to be ready
PATIENCE = 20  # seconds that a page may be busy
ENDS = ("Network.loadingFinished", "Network.loadingFailed")
FOUND = """(() => {
  const seen = (e) => e.getClientRects().length && getComputedStyle(e).visibility !== 'hidden';
  const parts = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((c) => c / 255).map(
      (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const rgb = parts(getComputedStyle(e).backgroundColor);
      if (rgb.length < 4 || rgb[3] > 0.99) return light(rgb);
    }
    return 1;
  };
  const texts = [...document.querySelectorAll('body *')].filter((e) => seen(e)
    && !e.closest('svg') && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  const contrast = texts.map((e) => {
    const [a, b] = [light(parts(getComputedStyle(e).color)), ground(e)];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim().slice(0, 60)];
  });
  const root = document.documentElement;
  return {
    overflow: root.scrollWidth - root.clientWidth,
    ground: ground(document.body),
    faint: contrast.filter(([ratio]) => ratio < 4.5),
    headings: [...document.querySelectorAll('h1,h2,h3,h4')].filter(seen).map((e) => +e.tagName[1]),
    links: [...document.querySelectorAll('a[href]')].map((e) => e.getAttribute('href')),
    anchors: [...document.querySelectorAll('[id]')].map((e) => e.id),
    hidden: [...document.querySelectorAll('body *')].filter((e) => seen(e)
      && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible'
      && getComputedStyle(e).backgroundImage === 'none').map((e) => e.outerHTML.slice(0, 80)),
    bare: [...document.querySelectorAll('table')].filter((e) => !e.querySelector('th')).length,
    title: document.title,
    language: root.lang,
  };
})()"""


@dataclass(frozen=True)
class Shown:
    """What a browser made of a page.

    Args:
        complaints: errors of the console, and what could not be loaded.
        facts: of ``FOUND``.
    """

    complaints: list[str]
    facts: dict[str, Any]


def program() -> str | None:
    """Return the path of a Chromium of this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """Chromium's debugging protocol: JSON with a zero byte behind, over two pipes."""

    def __init__(self, to: int, of: int) -> None:
        self._to, self._of = to, of
        self._numbers = itertools.count(1)
        self._left = b""

    def show(self, address: str, width: int = 1_200, dark: bool = False) -> Shown:
        """Open a page in a new tab, as wide and as dark as said."""
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        tab, events = attached["sessionId"], []
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        for method, given in (
            *((f"{domain}.enable", {}) for domain in ("Page", "Log", "Runtime", "Network")),
            ("Emulation.setDeviceMetricsOverride", size),
            ("Emulation.setEmulatedMedia", {"features": scheme}),
            ("Page.navigate", {"url": address}),
        ):
            self._call(method, given, tab, events)
        while not any(event["method"] == "Page.loadEventFired" for event in events):
            events.append(self._read())
        self._await_quiet(events)
        # what folds away is looked at, too
        unfold = "document.querySelectorAll('details').forEach((e) => { e.open = true })"
        self._call("Runtime.evaluate", {"expression": unfold}, tab, events)
        asked = {"expression": FOUND, "returnByValue": True}
        found = self._call("Runtime.evaluate", asked, tab, events)
        self._call("Target.closeTarget", {"targetId": target})
        complaints = [text for one in events if (text := _complaint(one))]
        return Shown(complaints, found["result"]["value"])

    def _await_quiet(self, events: list[dict[str, Any]]) -> None:
        """Listen on until nothing is under way and nothing was heard for ``QUIET`` seconds."""
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends and (self._hears(QUIET) or _under_way(events)):
            if self._hears(QUIET):
                events.append(self._read())

    def _hears(self, seconds: float) -> bool:
        return b"\0" in self._left or bool(select.select([self._of], [], [], seconds)[0])

    def _call(
        self, method: str, given: dict[str, Any], tab: str = "", events: Any = None
    ) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": given}
        if tab:
            message["sessionId"] = tab
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            if events is not None and "method" in answer:
                events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            more = os.read(self._of, 1 << 16)
            assert more, "the browser ended"
            self._left += more
        raw, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        return message


def _under_way(events: list[dict[str, Any]]) -> bool:
    """Tell whether a request has no end yet."""
    named = [(one.get("method"), one.get("params", {}).get("requestId")) for one in events]
    begun = {name for method, name in named if method == "Network.requestWillBeSent"}
    ended = {name for method, name in named if method in ENDS}
    return bool(begun - ended)


def _complaint(event: dict[str, Any]) -> str:
    method, given = event.get("method"), event.get("params", {})
    if method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
        return str(given["entry"]["text"])
    if method == "Runtime.exceptionThrown":
        return str(given["exceptionDetails"])
    if method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning"):
        return str(given["args"])
    if method == "Network.loadingFailed" and not given.get("canceled"):
        return str(given)
    return ""


@contextlib.contextmanager
def browser(home: Path) -> Iterator[Browser]:
    """Start Chromium with a profile of its own, and end it."""
    name = program()
    assert name is not None
    (its_in, our_out), (our_in, its_out) = os.pipe(), os.pipe()
    # it reads from file 3 and writes to file 4
    given = f' "$@" 3<&{its_in} 4>&{its_out}'
    process = subprocess.Popen(
        ["bash", "-c", f"exec{given}", "bash", name, *OPTIONS, f"--user-data-dir={home}"],
        pass_fds=(its_in, its_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(home)},
    )  # fmt: skip
    os.close(its_in)
    os.close(its_out)
    try:
        yield Browser(our_out, our_in)
    finally:
        os.close(our_out)
        os.close(our_in)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
