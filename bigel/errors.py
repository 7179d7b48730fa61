"""Every error a user can cause, and the exit code that the command line gives it.

    BigelError (ValueError)        exit 1
    ├── ConfigError                exit 2   a wrong key, type, range or option
    │   └── AbsentError            exit 2   a model, version or alias that there is not
    ├── DataError                  exit 3   an input that cannot be read or used
    │   ├── ContractError          exit 3   a critical rule was broken
    │   └── SourceUnreachableError exit 3   the log's store or database does not answer now
    ├── TrainingError              exit 1   a loss that is not finite, say
    │   └── LostRankError          exit 1   a process that trained with others was killed
    └── WorkspaceError             exit 1   a stage output that is damaged or cannot be written
        ├── DiskFullError          exit 1   no room left; the message says where
        └── UnreachableError       exit 1   the tracking store does not answer now

A message names what is wrong, where (file, row, field) and what to do next.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class BigelError(ValueError):
    """Base of all errors that a user can act on.

    ``summary`` holds what a run had finished before, where a run set it. ``transient`` tells that
    the same call may succeed later (a server that does not answer, a locked database).
    """

    exit_code = 1
    transient = False
    summary: dict[str, Any] | None = None


class ConfigError(BigelError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class AbsentError(ConfigError):
    """There is no model, version or alias of the name that was asked for."""


class DataError(BigelError):
    """The input data cannot be read or used."""

    exit_code = 3


class ContractError(DataError):
    """A critical rule of a data contract was broken; ``result`` is the contract's result."""

    result: dict[str, Any] | None = None


class SourceUnreachableError(DataError):
    """The object store or database that holds the log does not answer: it may do so later."""

    transient = True


class TrainingError(BigelError):
    """Training cannot go on."""


class LostRankError(TrainingError):
    """A process that trained with others was killed, or is silent: there is a checkpoint."""

    transient = True


class WorkspaceError(BigelError):
    """The stage store cannot be read or written."""


class DiskFullError(WorkspaceError):
    """There is no room left to write."""


class UnreachableError(WorkspaceError):
    """The tracking store does not answer, or is locked: it may do so later."""

    transient = True


def chain(
    error: BaseException | None, wraps: Callable[[BaseException], bool] = lambda _: True
) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, or during if it ``wraps`` that, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        during = None if error.__suppress_context__ or not wraps(error) else error.__context__
        error = error.__cause__ or during


def nearest(wrong: str, names: Sequence[str]) -> str:
    """Return the end of an error message: the name that was meant, or else all valid ones.

    >>> nearest("purchse", ["click", "purchase"])
    "; did you mean 'purchase'?"
    >>> nearest("xyz", ["click", "purchase"])
    '; valid: click, purchase'
    """
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; valid: {', '.join(names)}"


def hide_credentials(text: str) -> str:
    """Return a text without what may be a user name, a password or a token of an address in it.

    All up to the last @ of an address goes, as a password may hold any character.

    >>> hide_credentials("no answer from https://ann:s3cret@host/api, see http://host/help")
    'no answer from https://host/api, see http://host/help'
    """
    text = re.sub(r"(?<=://)\S*@", "", text)
    return re.sub(r"(?i)(\b[\w-]*(?:password|token|key|secret|sig)[\w-]*=)[^\s&'\"]+", r"\1…", text)
