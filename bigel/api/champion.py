"""The model that answers: the champion, followed through promotions without a pause."""

import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bigel.config import Config
from bigel.config.exclusion import Exclude
from bigel.errors import DataError
from bigel.latest import read_latest
from bigel.lists.bundle import load_bundle
from bigel.lists.current import current_rules
from bigel.lists.new_items import NewItems, with_new
from bigel.lists.rules import ItemRules, candidates_of
from bigel.lists.serving import Candidates, Recommender
from bigel.store import Workspace
from bigel.tracking import home_of, open_model
from bigel.tracking.models import Answering, answering

MINUTE = 60  # seconds
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Served:
    """A loaded model, never changed: a request is answered by the one that it began with.

    Args:
        recommender: its bundle and, where the rules say so, new items.
        key: what it was loaded of; another key, another model.
        ruled: what the rules were made of, the minute among it.
        uri: of the registered version.
        alias: "champion", "challenger" or "".
        only_popular: popularity answers, as in batch.
        rules: what may be listed; None: every item.
        loaded: Unix seconds.
        exclude: what lists leave out where a request says nothing of it.
    """

    recommender: Recommender
    key: tuple[Any, ...]
    ruled: tuple[Any, ...]
    uri: str
    alias: str
    only_popular: bool
    rules: ItemRules | None
    loaded: float
    exclude: Exclude = "same"

    @property
    def filters(self) -> list[str]:
        """Names of the filters of which a request may choose one."""
        return [] if self.rules is None else list(self.rules.filters)

    def candidates(self, asked: str | None, chosen: str | None = None) -> Candidates:
        """Return which items may be in a list.

        Args:
            asked: what of a user's items is left out; None: by the settings' policy.
            chosen: one of ``filters``; None: none.
        """
        policy = self.exclude if asked is None else asked
        return candidates_of(self.rules, policy, self.recommender.behaviors, chosen)

    def left_out(self, chosen: str | None = None) -> dict[str, int] | None:
        """Return how many items may not be listed, by reason; None where there are no rules.

        Args:
            chosen: as of ``candidates``; what it alone keeps out has its name as the reason.
        """
        rules = self.rules
        if rules is None or chosen is None:
            return None if rules is None else rules.left_out
        more = int((rules.allowed & ~rules.filters[chosen]).sum())
        return rules.left_out | ({f"items.filters.{chosen}": more} if more else {})

    def name_of(self, item: int) -> str | None:
        """Return what the catalogue calls an inner item; None where it says nothing."""
        names = None if self.rules is None else self.rules.names
        return None if names is None else names[item]


class Follower:
    """Holds the model that answers now, and looks from time to time whether it is another.

    A new one is loaded beside the old one, which answers until then. What cannot be read leaves
    the old one in its place, with ``trouble``. A file of rules counts once two looks found it
    alike, so that one that is being written is left alone. Looks tell files apart by size and time
    of change: a catalogue replaced by one with both the same counts only when the minute turns.
    """

    def __init__(
        self, config: Config, workspace: Workspace, model: str | None = None, every: float = 10.0
    ) -> None:
        """Load the model.

        Args:
            config: ``tracking.model_name``, and the rules of ``items`` and ``recommend``.
            workspace: holds the registry, unless the environment says otherwise.
            model: an alias or a version; None: the champion, or the challenger while there is none.
            every: seconds between two looks.

        Raises:
            BigelError: as ``open_model``.
        """
        self._config, self._workspace, self._model = config, workspace, model
        self.every = every
        self.trouble: str | None = None
        self._asked: tuple[Any, Answering] | None = None  # the registry's state, what it said
        self._files_before = self._ruled()[0]
        self.served = self._load(self._key())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Load another model if another one should answer."""
        try:
            key, ruled = self._key(), self._ruled()
            if key != self.served.key:
                self.served = self._load(key)
                log.info("%s answers", self.served.uri)
            elif ruled != self.served.ruled and ruled[0] == self._files_before:
                rules = self._rules(self._known)
                ranks = self._under(rules)
                self.served = replace(self.served, recommender=ranks, rules=rules, ruled=ruled)
            self._files_before, self.trouble = ruled[0], None
        except Exception as error:  # whatever it is, the next look may find it mended
            if str(error) != self.trouble:
                log.warning("%s goes on to answer: %s", self.served.uri, error)
            self.trouble = str(error) or type(error).__name__

    def _follow(self) -> None:
        while not self._stop.wait(self.every):
            self.look()

    def _key(self) -> tuple[Any, ...]:
        """Return what decides which model answers, and by which rules, without loading any."""
        state = home_of(self._workspace).state()
        if state is None or self._asked is None or self._asked[0] != state:
            self._asked = state, answering(self._model, self._config, self._workspace)
        found = self._asked[1]
        return found, _bundle_of(found, self._workspace)

    def _ruled(self) -> tuple[Any, ...]:
        """Return what decides which items may be listed; the minute, too, where it matters."""
        config = self._config
        named = (config.items.path, config.recommend.allow, config.recommend.deny)
        files = [Path(name) for name in named if name]
        minute = int(time.time() // MINUTE) if config.items.path else 0
        return tuple(map(_state, files)), minute

    def _load(self, key: tuple[Any, ...]) -> Served:
        found: Answering = key[0]
        ruled, known = self._ruled(), self._recommender(*key)
        rules = self._rules(known)
        recommender = with_new(known, _new(rules))
        recommender.warm_up()
        self._known = known
        now = time.time()
        of = (found.uri, found.alias, found.loses, rules, now, self._config.recommend.exclude)
        return Served(recommender, key, ruled, *of)

    def _recommender(self, found: Answering, fresh: Path | None) -> Recommender:
        """Load the bundle of the last lists or, where it cannot be read, the registered one."""
        if fresh is not None:
            try:
                return load_bundle(fresh)
            except DataError as error:
                log.warning("%s answers as it was registered: %s", found.uri, error)
        with open_model(found.uri, self._config, self._workspace) as model:
            return load_bundle(model.folder)

    def _under(self, rules: ItemRules | None) -> Recommender:
        """Return what ranks under other rules of the same model."""
        new, before = _new(rules), _new(self.served.rules)
        if (new and new.identity) == (before and before.identity):
            return self.served.recommender
        found = with_new(self._known, new)
        found.warm_up()
        return found

    def _rules(self, recommender: Recommender) -> ItemRules | None:
        return current_rules(recommender.item_ids, self._config, self._workspace)


def _bundle_of(found: Answering, workspace: Workspace) -> Path | None:
    """Return the bundle that the last published lists were made of, if it is of this version.

    It knows all that the log had then; the registered one what it had when it was trained.
    """
    try:
        said = read_latest(workspace)["lists"]
        place = workspace.artifacts / "stages" / said["bundle"]
    except (KeyError, TypeError):
        return None
    return place if said.get("uri") == found.uri and place.is_dir() else None


def _new(rules: ItemRules | None) -> NewItems | None:
    return None if rules is None else rules.new


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
