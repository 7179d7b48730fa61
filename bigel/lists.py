"""The one rule for where lists come from, with the tracking store and without it."""

import logging
from collections.abc import Callable
from typing import Any

from bigel.config import Config
from bigel.errors import UnreachableError
from bigel.recommend import recommend
from bigel.tracking import offline_model
from bigel.tracking.champion import STORED
from bigel.workspace import Record, Workspace

log = logging.getLogger(__name__)


def make_lists(
    config: Config,
    workspace: Workspace,
    step: Callable[[Any], Any],
    model: str | None = None,
    trained: str | None = None,
    **asked: Any,
) -> Record:
    """Make lists from the registry's model; where it does not answer, from ``offline_model``.

    A model that was named is the only one that answers.

    Args:
        config: as for ``recommend``.
        workspace: as for ``recommend``.
        step: wraps ``recommend`` before it is called, with retries, say.
        model: a reference; None: the champion, or the challenger while there is none.
        trained: fingerprint of the bundle of the model just trained; None: nothing was trained.
        asked: the users and behaviors, as for ``recommend``.

    Raises:
        UnreachableError: if the registry does not answer, and no other model may.
        BigelError: as ``recommend``.
    """
    try:
        record: Record = step(recommend)(config, workspace, model=model, **asked)
        return record
    except UnreachableError as error:
        last = None if model else offline_model(config, workspace, trained)
        if last is None:
            raise
        new = last == f"{STORED}{trained}"
        origin = "the model just trained" if new else "the last champion that was seen"
        log.warning("%s; lists come from %s", error, origin)
    record = step(recommend)(config, workspace, model=last, **asked)
    return record
