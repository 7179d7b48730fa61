"""A model in Python: lists, similar items, reasons and vectors, by the log's own ids.

``fit`` (``bigel.fitting``) makes one of a log; ``Recommender.load`` reads a bundle folder,
``Recommender.champion`` what MLflow's registry of a workspace has.
"""

import copy
import difflib
import logging
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from bigel import schema
from bigel.config import Config, load_config
from bigel.config.exclusion import POLICIES, Exclude
from bigel.config.write import to_overrides
from bigel.errors import ConfigError, DataError, UnreachableError, nearest
from bigel.lists.bundle import MODEL_FILE, load_bundle
from bigel.lists.new_items import with_new
from bigel.lists.recommend import Request, checked_ids, choose, inner_of, lists_of
from bigel.lists.rules import ItemRules, candidates_of
from bigel.quiet import hush
from bigel.store import Workspace
from bigel.tracking import offline_model, open_model

if TYPE_CHECKING:
    from bigel.lists import serving

Id = int | str
Ids = Id | Iterable[Any]  # one, or many in a list, an array or a column
Settings = Config | str | Path | Mapping[str, Any]  # a preset or TOML file, or by section.key
SIMILAR_ID, SIMILAR_NAME = "similar_id", "similar_name"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explanation:
    """Why an item has its score for a user.

    Args:
        user: as asked for.
        item: the item's id.
        behavior: the score's.
        score: as served; ``sum(parts.values())`` is it exactly. -inf: the item is no candidate.
        source: "model", or "popular" where popularity answers.
        parts: "graph" (BiGEL's embeddings, with what she did lately where the log has times),
            "views" (its views), "demand" (what the item has for everybody: bias, trend, age),
            "neighbours" (items near those she touched), "memory" (what she did to the item under
            other behaviors); or "popularity" alone. What the model lacks is missing.
        neighbours: items that she touched, and what each brought to the part "neighbours".
        has: behaviors under which she has the item; lists leave it out under these.
        allowed: whether the rules let it be listed.
        passed_over: whether ``recommend.max_per_category`` keeps it out of her list: so many better
            ones of its category may be in it.
    """

    user: Id
    item: Id
    behavior: str
    score: float
    source: str
    parts: dict[str, float]
    neighbours: list[tuple[Id, float]]
    has: list[str]
    allowed: bool = True
    passed_over: bool = False


class Recommender:
    """A trained model that answers by external ids.

    It obeys rules for items where it was given settings: by ``fit`` those of the fit, else by
    ``load``, ``champion``, ``registered`` or ``with_rules``.

    Args:
        served: the loaded bundle.
        folder: of the bundle.
        figures: what ``evaluate`` returns; None: not known.
        only_popular: popularity answers for everybody, as for a challenger that loses to it.
        alias: "champion" or "challenger" of a registered model, else "".
    """

    def __init__(
        self,
        served: "serving.Recommender",
        folder: Path,
        figures: pl.DataFrame | None = None,
        only_popular: bool = False,
        alias: str = "",
    ) -> None:
        self.alias = alias
        self._known = self._served = served  # without and with what rules add
        self.folder = folder
        self._figures, self._only_popular = figures, only_popular
        self._config = Config()
        self._rules: ItemRules | None = None
        self.users = pl.Series(schema.USER_ID, served.user_ids.to_numpy())
        self.items = pl.Series(schema.ITEM_ID, served.item_ids)

    @classmethod
    def load(cls, folder: str | Path, settings: Settings | None = None) -> Self:
        """Read a bundle: what ``save`` wrote, or the artifacts of a registered model.

        Args:
            folder: of the bundle.
            settings: whose rules lists obey, as for ``with_rules``; None: a bundle holds no
                catalogue, so every item may be listed.

        Raises:
            DataError: if the folder is no bundle, is damaged or of another format.
            BigelError: as ``with_rules``.
        """
        place = Path(folder)
        if not (place / MODEL_FILE).is_file():
            raise DataError(
                f"{place}: no {MODEL_FILE} there, so it is no bundle; give the folder that "
                "Recommender.save wrote, or artifacts/bundle of a registered model"
            )
        hush()
        found = cls(load_bundle(place), place)
        return found if settings is None else found.with_rules(settings)

    @classmethod
    def champion(
        cls,
        workspace: str | Path = ".",
        name: str | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """Read the champion; while there is none the challenger, with a warning, as in batch.

        It answers as it was registered, with the log of that day. While the registry does not
        answer, the last champion that the workspace saw does, with a warning.

        Args:
            workspace: folder of ``bigel run``; MLFLOW_TRACKING_URI comes before it.
            name: of the registered model; None: "bigel", or the only one registered (while the
                registry does not answer, the only one whose champion was seen).
            settings: whose rules lists obey, as for ``with_rules``; None: none. Where they say
                ``tracking.model_name``, that is the name.

        Raises:
            ConfigError: if nothing is registered.
            DataError: if its bundle cannot be read.
            WorkspaceError: if MLflow's store cannot be used.
        """
        config, place = _named(name, settings), Workspace(workspace)
        try:
            return cls._opened(None, config, place, settings)
        except UnreachableError as error:
            last = offline_model(config, place, None)
            if last is None:
                raise
            log.warning("%s; the last champion that was seen here answers", error)
            return cls._opened(last, config, place, settings)

    @classmethod
    def registered(
        cls,
        reference: str,
        workspace: str | Path = ".",
        name: str | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """Read a registered version.

        Args:
            reference: an alias such as "challenger", a version number, or models:/NAME/3.
            workspace: as for ``champion``.
            name: as for ``champion``.
            settings: as for ``champion``.

        Raises:
            BigelError: as ``champion``.
        """
        config, place = _named(name, settings), Workspace(workspace)
        return cls._opened(reference, config, place, settings)

    @classmethod
    def _opened(
        cls,
        reference: str | None,
        config: Config,
        workspace: Workspace,
        settings: Settings | None,
    ) -> Self:
        with open_model(reference, config, workspace) as found:
            served = load_bundle(found.folder)
            made = cls(served, found.folder, only_popular=found.loses, alias=found.alias)
            return made if settings is None else made.with_rules(settings, workspace.root)

    def with_rules(self, settings: Settings, workspace: str | Path | None = None) -> Self:
        """Return the same model, whose lists obey the rules of settings, read at this moment.

        That is what ``items`` and ``recommend`` say: catalogue, stock and dates by the clock,
        filter, allow, deny, max_per_category, names, new_items (``items`` then has them, too), and
        k and exclude where a call gives none.
        Call it again when the catalogue has changed, or an hour has passed.

        Args:
            settings: a preset or TOML file as of ``bigel run``, or by section and key, for example
                {"items.path": "items.csv", "recommend.filter": "price < 100"}.
            workspace: where the catalogue is kept as it was read; None: nowhere.

        Raises:
            ConfigError: on a wrong setting.
            ContractError: if the catalogue breaks its contract.
            DataError: if it cannot be read, or no item may be listed.
        """
        from bigel.lists.current import current_rules  # the contracts take a while

        made = copy.copy(self)
        made._config = _resolved(settings, self.behaviors)
        with tempfile.TemporaryDirectory() as scratch:
            place = Workspace(scratch if workspace is None else workspace)
            made._rules = current_rules(self._known.item_ids, made._config, place)
        made._served = with_new(self._known, made._rules.new if made._rules else None)
        made.items = pl.Series(schema.ITEM_ID, made._served.item_ids)
        return made

    @property
    def behaviors(self) -> list[str]:
        """The cascade, the target last."""
        return self._served.behaviors

    def evaluate(self) -> pl.DataFrame:
        """Return the report's figures: split, view, behavior, metric, model, popularity, users.

        All items are ranked for each user who has held-out items; "published" leaves out what she
        had under the same behavior, "discovery" under any. A figure without users is null.

        Raises:
            ConfigError: if it was not fitted here.
        """
        if self._figures is None:
            raise ConfigError(
                "this model was read, not fitted, and a bundle holds no figures: see the run in "
                "MLflow or `bigel models`, or use fit(…).evaluate()"
            )
        return self._figures

    def recommend(
        self,
        users: Ids | None = None,
        behavior: str | None = None,
        k: int | None = None,
        exclude: Exclude | None = None,
    ) -> pl.DataFrame:
        """Return top-k lists: user_id, behavior, rank (from 1), item_id, score, source.

        A user unknown gets the behavior's popular items, with source = "popular". A list is
        shorter than k where fewer items are left. With ``recommend.names`` of the rules also
        item_name.

        Args:
            users: an id or ids, each answered once; None: every user of the model.
            behavior: of the lists; None: all of them.
            k: length of a list; None: ``recommend.k`` of the settings, 20 without any.
            exclude: leave out what the user has under the "same", "any" or no ("none") behavior; a
                mapping says so by behavior; None: ``recommend.exclude`` of the settings, "same"
                without any.

        Raises:
            ConfigError: if the behavior is unknown (naming the nearest), or k or exclude is wrong.
            DataError: if an id is null, or neither an integer nor text.
        """
        settings = self._config.recommend
        length = settings.k if k is None else _length(k)
        exclude = settings.exclude if exclude is None else exclude
        for policy in [exclude] if isinstance(exclude, str) else exclude.values():
            if policy not in POLICIES:
                raise ConfigError(f"exclude = {policy!r}{nearest(policy, POLICIES)}")
        chosen = choose(self.behaviors, None if behavior is None else [behavior])
        asked = self.users if users is None else _ids(users, self.users, "users")
        request = Request(chosen, length, exclude, self._only_popular, self._rules)
        inner = inner_of(asked, self.users)
        rank = self._served.recommend_each
        return lists_of(rank, self.behaviors, self.items, asked, inner, request)[0]

    def similar(
        self,
        items: Ids | None = None,
        k: int = 10,
        behavior: str | None = None,
    ) -> pl.DataFrame:
        """Return the items nearest to some: item_id, rank (from 1), similar_id, score.

        The rules hold for similar_id; with ``recommend.names`` of the rules also similar_name.

        Args:
            items: an id or ids, each answered once; None: all that have similar ones.
            k: at most so many for each.
            behavior: by the states of this behavior; None: of all of them.

        Raises:
            ConfigError: if the behavior is unknown (naming the nearest), or k is wrong.
            DataError: if an item is unknown (naming the nearest).
        """
        from bigel.lists.similar import similar  # brings MLflow along

        length = _length(k)
        at = self._place(behavior) if behavior is not None else None
        if items is None:
            asked, inner = self.items, np.arange(len(self.items))
        else:
            asked = _ids(items, self.items, "items")
            inner = self._known_items(asked)
        candidates = candidates_of(self._rules, "none", self.behaviors)
        row, rank, item, score = similar(self._served, inner, length, at, candidates)
        columns = {
            schema.ITEM_ID: self.items.gather(inner[row]),
            schema.RANK: pl.Series(rank, dtype=pl.Int32),
            SIMILAR_ID: self.items.gather(item),
            schema.SCORE: score,
        }
        if self._rules and self._rules.names is not None:
            columns[SIMILAR_NAME] = self._rules.names.gather(item)
        return pl.DataFrame(columns)

    def explain(self, user: Id, item: Id, behavior: str | None = None) -> Explanation:
        """Return the parts of a score, as served for this user by herself.

        Args:
            user: an id; one unknown is answered by popularity.
            item: an id of the model.
            behavior: of the score; None: the target.

        Raises:
            ConfigError: if the behavior is unknown, naming the nearest.
            DataError: if the item is unknown, naming the nearest, an id is null, or there are
                several.
        """
        from bigel.lists.explain import explain, passed_over  # brings MLflow along

        at = self._place(behavior or self.behaviors[-1])
        asked = int(inner_of(_one_id(user, self.users, "user"), self.users)[0])
        inner = self._known_items(_one_id(item, self.items, "item"))
        (found,) = explain(self._served, at, asked, inner, self._only_popular)
        candidates = candidates_of(self._rules, self._config.recommend.exclude, self.behaviors)
        passed = passed_over(self._served, [at], asked, candidates, only_popular=self._only_popular)
        return Explanation(
            user,
            self.items[int(inner[0])],
            self.behaviors[at],
            found.score,
            "popular" if found.popular else "model",
            found.parts,
            [(self.items[one], value) for one, value in found.brought],
            [name for name, has in zip(self.behaviors, found.has, strict=True) if has],
            self._rules is None or bool(self._rules.allowed[inner[0]]),
            int(inner[0]) in passed,
        )

    def history(self, user: Id) -> pl.DataFrame:
        """Return what the model knows that a user had: behavior, item_id, at (null without times).

        The latest comes first; a user unknown has nothing. With ``recommend.names`` of the rules
        also item_name.

        Raises:
            DataError: if the id is null, or there are several.
        """
        from bigel.lists.history import history_of  # brings MLflow along

        inner = int(inner_of(_one_id(user, self.users, "user"), self.users)[0])
        had = history_of(self._served, inner) if inner >= 0 else [[] for _ in self.behaviors]
        rows = [
            (name, item, at)
            for name, own in zip(self.behaviors, had, strict=True)
            for item, at in own
        ]
        names, items, times = zip(*rows, strict=True) if rows else ((), (), ())
        columns = {
            schema.BEHAVIOR: pl.Series(names, dtype=pl.String),
            schema.ITEM_ID: self.items.gather(place := pl.Series(items, dtype=pl.Int64)),
            "at": pl.from_epoch(pl.Series(times, dtype=pl.Int64), "s"),
        }
        if self._rules and self._rules.names is not None:
            columns[schema.ITEM_NAME] = self._rules.names.gather(place)
        return pl.DataFrame(columns)

    def export(self, folder: str | Path) -> list[Path]:
        """Write vectors for an index of inner products, see ``bigel.lists.vectors``.

        Returns:
            users.parquet (user_id, behavior, embedding) and items.parquet (item_id, …).
        """
        from bigel.lists.vectors import write_vectors

        return write_vectors(self._served, self.users, self.items, Path(folder))

    def save(self, folder: str | Path) -> Path:
        """Copy the bundle into a new folder, for ``load``.

        Raises:
            ConfigError: if the folder is there already.
            DataError: if the bundle is gone, as one that was downloaded.
        """
        place = Path(folder)
        if place.exists():
            raise ConfigError(f"{place} is there already; name a new folder")
        if not self.folder.is_dir():
            raise DataError(f"the bundle {self.folder} is gone; read or fit the model again")
        shutil.copytree(self.folder, place)
        return place

    def _place(self, behavior: str) -> int:
        return self.behaviors.index(choose(self.behaviors, [behavior])[0])

    def _known_items(self, asked: pl.Series) -> "np.ndarray[Any, np.dtype[np.int64]]":
        inner = inner_of(asked, self.items)
        if (unknown := np.flatnonzero(inner < 0)).size:
            wrong = str(asked[int(unknown[0])])
            close = difflib.get_close_matches(wrong, map(str, self.items), n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise DataError(f"item {wrong!r} is not one of the model's {len(self.items):,}{hint}")
        return inner


def _ids(given: Any, known: pl.Series, what: str) -> pl.Series:
    """Return ids as ``checked_ids``, from one, many or a column."""
    if given is None or isinstance(given, str | bytes | bytearray | int | np.integer):
        given = [given]
    try:
        ids = pl.Series(what, given if isinstance(given, pl.Series) else list(given))
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{what}: {error}; give ids that are all integers or all text") from None
    if ids.dtype in (pl.Categorical, pl.Enum):
        ids = ids.cast(pl.String)
    return checked_ids(ids.alias(known.name), known, what)


def _named(name: str | None, settings: Settings | None) -> Config:
    """Return what finds a registered model: a name or, without one, what settings say of it."""
    if isinstance(settings, Mapping):
        settings = {key: value for key, value in settings.items() if key.startswith("tracking.")}
    config = Config() if settings is None else _resolved(settings)
    if name is None:
        return config
    tracking = config.tracking.model_copy(update={"model_name": name})
    return config.model_copy(update={"tracking": tracking})


def _resolved(settings: Settings, behaviors: list[str] | None = None) -> Config:
    """Return settings; where they are given by key, of a model's behaviors."""
    if isinstance(settings, Config):
        return settings
    if isinstance(settings, str | Path):
        return load_config(str(settings))
    of_model = {} if behaviors is None else {"data.behaviors": behaviors}
    return load_config("", to_overrides(of_model | dict(settings)))


def _one_id(given: Any, known: pl.Series, what: str) -> pl.Series:
    ids = _ids(given, known, what)
    if len(ids) > 1:
        raise DataError(f"{what}: {len(ids)} ids; give one, and ask for each by itself")
    return ids


def _length(k: Any) -> int:
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise ConfigError(f"k = {k!r}; give an integer from 1")
    return int(k)
