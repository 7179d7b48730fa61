"""The one rule for where lists come from, with the tracking store and without it."""

import logging
from collections.abc import Callable
from typing import Any

from bigel.config import Config
from bigel.errors import UnreachableError
from bigel.lists.recommend import recommend
from bigel.store import Record, Workspace
from bigel.tracking import offline_model
from bigel.tracking.models import STORED, unchanged_champion

LAST_SEEN = "the last champion that was seen"
log = logging.getLogger(__name__)


def make_lists(
    config: Config,
    workspace: Workspace,
    step: Callable[[Any], Any],
    model: str | None = None,
    trained: Record | None = None,
    **asked: Any,
) -> Record:
    """Make lists from the registry's model; where it does not answer, from ``offline_model``.

    Where nothing was trained and the registry's file did not change since it was asked last, it is
    not asked again.

    A model that was named is the only one that answers.

    Args:
        config: as for ``recommend``.
        workspace: as for ``recommend``.
        step: wraps ``recommend`` before it is called, with retries, say.
        model: a reference; None: the champion, or the challenger while there is none.
        trained: what registering made of the model just trained, or of keeping it for later, and
            then the registry is not asked again; None: nothing was trained.
        asked: the users and behaviors, as for ``recommend``.

    Raises:
        UnreachableError: if the registry does not answer, and no other model may.
        BigelError: as ``recommend``.
    """
    if model is None and trained is None and "split" not in asked:
        model = unchanged_champion(config, workspace)
    new = trained.fingerprint if trained else None
    try:
        if trained is None or "waiting" not in trained.counts:
            record: Record = step(recommend)(config, workspace, model=model, **asked)
            return record
        last = offline_model(config, workspace, new)
    except UnreachableError as error:
        last = None if model else offline_model(config, workspace, new)
        if last is None:
            raise
        origin = "the model just trained" if last == f"{STORED}{new}" else LAST_SEEN
        log.warning("%s; lists come from %s", error, origin)
    if trained is not None and last == f"{STORED}{new}" and trained.counts["loses"]:
        log.warning(
            "the model loses to popularity, and no champion was seen: lists are popularity's"
        )
        asked["only_popular"] = True
    record = step(recommend)(config, workspace, model=last, **asked)
    return record
