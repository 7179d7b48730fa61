"""Signs of life: a line of the log when a stage has said nothing for a while.

Whoever takes long enters ``during`` and says where it is, as often as it likes: ``at`` only keeps
the words. A thread logs the last ones every ``EVERY`` seconds, with the time so far and, where a
share of the work is known, when it is likely to end. Inside each other, the inner one speaks, in a
line that starts with where the outer ones are.

>>> with during("train"):
...     at("step 20 of 80, valid NDCG@5 0.0712", 0.25)
...     print(now(60.0))
train: step 20 of 80, valid NDCG@5 0.0712; 60 s so far
"""

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

EVERY = 20.0  # seconds between two lines; a busy interpreter may add some
MINUTE, HOUR = 60, 3_600
log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Work:
    """Something that takes long, and where it is.

    Args:
        name: what it is called.
        outer: what it is a part of.
        started: by the monotonic clock.
        text: where it is.
        detail: of the innermost loop, until the next ``at``.
        first: time and share of the first call of the phase that is under way.
        last: those of the last call.
        step: share between the last two calls of the phase; 0: not known.
        inside: how many works are under way in this one.
        hushed: whether somebody else shows it.
    """

    name: str
    outer: "_Work | None"
    started: float = field(default_factory=time.monotonic)
    text: str = ""
    detail: str = ""
    first: tuple[float, float] | None = None
    last: tuple[float, float] | None = None
    step: float = 0.0
    inside: int = 0
    hushed: bool = False

    def at(self, text: str, share: float | None) -> None:
        self.text, self.detail = text, ""
        if share is None:
            self.first = self.last = None
            return
        here = time.monotonic(), share
        if self.first is None or self.last is None or share < self.last[1]:
            self.first, self.last = here, None
        self.step = 0.0 if self.last is None else share - self.last[1]
        self.last = here

    def left(self, of_part: float | None = None) -> float | None:
        """Return the seconds that the rest takes at the pace of the phase, None if not known.

        Args:
            of_part: seconds that are left of the part that is under way; None: not known. It is
                taken for a step as large as the last one, and its time counts in the pace.
        """
        if self.first is None or self.last is None or self.last[1] <= self.first[1]:
            return None
        (begun, share), (reached, done) = self.first, self.last
        if of_part is None:
            return (reached - begun) / (done - share) * (1 - done)
        then = min(done + self.step, 1.0)  # when the part is over
        pace = (time.monotonic() + of_part - begun) / (then - share)
        return of_part + pace * (1 - then)

    def words(self, elapsed: float, of_part: float | None = None) -> str:
        """Return where this is, after what it is a part of; ``of_part`` as of ``left``."""
        left = self.left(of_part)
        parts = [", ".join(filter(None, (self.text, self.detail))), f"{lasting(elapsed)} so far"]
        if left is not None:
            end = datetime.now().astimezone() + timedelta(seconds=left)
            parts.append(f"about {lasting(left)} left, until {end:%H:%M}")
        own = f"{self.name}: {'; '.join(filter(None, parts))}"
        if self.outer is None:
            return own
        around = self.outer.words(time.monotonic() - self.outer.started, left)
        return f"{around} | {own}"


_now: contextvars.ContextVar[_Work | None] = contextvars.ContextVar("work", default=None)


@contextlib.contextmanager
def during(name: str) -> Iterator[None]:
    """Log where the block is, every ``EVERY`` seconds, until it ends.

    Args:
        name: what the block is called.
    """
    outer = _now.get()
    work, over = _Work(name, outer), threading.Event()

    def beat() -> None:
        while not over.wait(EVERY):
            if not (work.inside or work.hushed):
                log.info("%s", work.words(time.monotonic() - work.started))

    token = _now.set(work)
    if outer is not None:
        outer.inside += 1
    told_in = contextvars.copy_context()  # a flow's own log goes by the context, too
    threading.Thread(target=told_in.run, args=(beat,), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        if outer is not None:
            outer.inside -= 1
        _now.reset(token)


def at(text: str, share: float | None = None) -> None:
    """Say where the innermost ``during`` is; nothing where there is none.

    Args:
        text: for a person: "step 20 of 80, valid NDCG@5 0.0712".
        share: of the phase that is done, 0 to 1; None: not known. One that falls begins a phase.
    """
    work = _now.get()
    if work is not None:
        work.at(text, share)


def within(detail: str) -> None:
    """Add how far the innermost loop is, until the next ``at``."""
    work = _now.get()
    if work is not None:
        work.detail = detail


@contextlib.contextmanager
def hushed(shown: bool) -> Iterator[None]:
    """Log nothing in the block where somebody else, such as a bar, shows how far it is."""
    work = _now.get()
    if work is None:
        yield
        return
    work.hushed = shown
    try:
        yield
    finally:
        work.hushed = False


def now(elapsed: float) -> str:
    """Return the line of the innermost ``during``, as after so many seconds; "" without one."""
    work = _now.get()
    return "" if work is None else work.words(elapsed)


def lasting(seconds: float) -> str:
    """Return a length of time in words.

    >>> lasting(7.4), lasting(100), lasting(600), lasting(9_000)
    ('7 s', '100 s', '10 min', '2 h 30 min')
    """
    if seconds < 3 * MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if seconds >= 2 * HOUR else f"{minutes} min"
