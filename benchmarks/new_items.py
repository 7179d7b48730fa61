"""How good lists of new items are, which have the mean state of their category.

A synthetic log ends before its last days. New are the items that nobody had until then and a drawn
share of the others, whose events are taken out of the log that is learned from; the world's tastes
are the categories. Right are the pairs that users of the log first make in the days after. The
first table ranks the new items alone, the second all items. A figure is the mean over the users of
a behavior, and over worlds.

python benchmarks/new_items.py --worlds 3
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from bigel import fit
from bigel.config import Config, load_config
from bigel.lists.bundle import load_bundle
from bigel.lists.new_items import with_new
from bigel.lists.rules import candidates_of, item_rules
from bigel.realized.scoring import PLACE, score
from bigel.schema import BEHAVIOR, DAY, ITEM_ID, ITEMS_FILE, RANK, TIMESTAMP, USER_ID
from bigel.store import Workspace
from bigel.synth import write_log
from bigel.synth.world import CATEGORIES, make_world

K = 10
LOW = 0.05  # quantile of the known items' trends
LIST, KEY = [USER_ID, BEHAVIOR], [USER_ID, BEHAVIOR, ITEM_ID]
CATEGORY, WEIGHT = "category", "weight"
HEADS = (f"NDCG@{K}", f"HR@{K}", "share of new items", "users")
PASSED_ON = ("dim", "layers", "global_layers")  # settings of the model
Row = tuple[str, str, str, float, float, float, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=1)
    parser.add_argument("--days", type=float, default=3.0, help="after the end of the log")
    parser.add_argument("--drawn", type=float, default=0.1, help="share of items taken out")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    rows: list[Row] = []
    for seed in range(args.worlds):
        config = load_config("demo", [*args.settings, f"synth.seed={seed}"])
        with tempfile.TemporaryDirectory() as folder:
            rows += of_world(config, int(args.days * DAY), args.drawn, Path(folder))
    told = pl.DataFrame(rows, orient="row", schema=["ranked", "by", BEHAVIOR, *HEADS])
    means = told.group_by("ranked", "by", BEHAVIOR, maintain_order=True).mean()
    print(f"| ranked | by | behavior | {' | '.join(HEADS)} |")
    print(f"|---|---|---|{'---:|' * len(HEADS)}")
    for *names, ndcg, hits, new, users in means.rows():
        print(f"| {' | '.join(names)} | {ndcg:.4f} | {hits:.4f} | {new:.3f} | {users:,.0f} |")


def of_world(config: Config, seconds: int, drawn: float, place: Path) -> Iterator[Row]:
    """Yield what one world has to say."""
    events, categories = world_of(config, place)
    time, cut = pl.col(TIMESTAMP), int(events[TIMESTAMP].max()) - seconds
    before, after = events.filter(time < cut), events.filter(time >= cut)
    had = before[ITEM_ID].unique().sort()
    taken = had.sample(fraction=drawn, seed=config.synth.seed)
    log = before.filter(~pl.col(ITEM_ID).is_in(taken.implode()))
    new = categories.join(events, on=ITEM_ID, how="semi").join(log, on=ITEM_ID, how="anti")
    pairs = after.select(KEY).unique().join(before, on=KEY, how="anti")
    targets = pairs.join(log, on=USER_ID, how="semi").sort(KEY)
    made = served(log, new, pl.concat([new, categories.join(log, on=ITEM_ID, how="semi")]), config,
                  place)  # fmt: skip
    alone = targets.join(new, on=ITEM_ID, how="semi")
    crossed = alone.select(LIST).unique().sort(LIST).join(new, how="cross")
    crossed = crossed.with_columns(
        chance=np.random.default_rng(config.synth.seed).random(crossed.height)
    )
    under = log.join(categories, on=ITEM_ID)
    rules = {
        "random order": crossed.with_columns(pl.lit(0).alias(WEIGHT)),
        "most popular category": weighed(crossed, under, [BEHAVIOR, CATEGORY]),
        "the user's most frequent category": weighed(crossed, under, [USER_ID, CATEGORY]),
    }
    ranked = {name: ordered(frame) for name, frame in rules.items()}
    ranked["bigel, mean of the category"] = made.pop("only")
    for name, lists in ranked.items():
        yield from figures("new items", name, lists, alone, new, config)
    for name, lists in made.items():
        yield from figures("all items", name, lists, targets, new, config)


def world_of(config: Config, place: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return a world's clean events, and the category of each item."""
    clean = config.synth.model_copy(update={"dirt": type(config.synth.dirt)()})
    write_log(place / "log.parquet", clean, config.data.behaviors)
    source = np.random.SeedSequence(clean.seed).spawn(3)[0]
    taste = (make_world(clean, np.random.default_rng(source)).category - 1) // CATEGORIES
    items = pl.Series(ITEM_ID, np.arange(1, len(taste) + 1))
    return pl.read_parquet(place / "log.parquet"), pl.DataFrame([items, pl.Series(CATEGORY, taste)])


def served(
    log: pl.DataFrame, new: pl.DataFrame, catalogue: pl.DataFrame, config: Config, place: Path
) -> dict[str, pl.DataFrame]:
    """Return a model's lists of all users: off, on, on with a low trend, and of new ones only."""
    settings = {f"model.{name}": getattr(config.model, name) for name in PASSED_ON}
    settings |= {"train.max_steps": config.train.max_steps, "run.threads": config.run.threads}
    model = fit(log, config.data.behaviors, settings=settings, workspace=place)
    catalogue.sort(ITEM_ID).write_csv(place / "items.csv")
    new[ITEM_ID].to_frame().write_csv(place / "new.txt", include_header=False)
    asked = [f'items.path="{place}/items.csv"', "recommend.new_items=true"]
    found = {}
    for name, low, more in (
        ("off", False, ["recommend.new_items=false"]),
        ("on", False, []),
        (f"on, with the {LOW} quantile of trends", True, []),
        ("only", False, [f'recommend.allow="{place}/new.txt"']),
    ):
        ruled = load_config("", [*asked, *more])
        rules = item_rules(model.folder / ITEMS_FILE, ruled, Workspace(place))
        known = load_bundle(model.folder)
        assert rules is not None
        ranks = with_new(known, rules.new)
        if low:
            trend = ranks.item_trend.copy()
            for of_k, of_known in zip(trend, known.item_trend, strict=True):
                of_k[len(known.item_ids) :] = np.quantile(of_known[np.isfinite(of_known)], LOW)
            ranks = replace(ranks, item_trend=trend)
        candidates = candidates_of(rules, "same", ranks.behaviors)
        parts = []
        for k, behavior in enumerate(ranks.behaviors):
            lists = ranks.recommend(k, np.arange(len(ranks.user_ids)), K, candidates)
            columns = {
                USER_ID: ranks.user_ids.to_numpy()[lists.row],
                BEHAVIOR: [behavior] * len(lists.row),
                ITEM_ID: ranks.item_ids[lists.item],
                RANK: lists.rank,
            }
            parts.append(pl.DataFrame(columns))
        found[name] = pl.concat(parts)
    return found


def weighed(crossed: pl.DataFrame, events: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Return pairs with the number of events that are alike, as their weight."""
    counts = events.group_by(by).len(WEIGHT)
    return crossed.join(counts, on=by, how="left").with_columns(pl.col(WEIGHT).fill_null(0))


def ordered(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return lists by weight, ties by chance."""
    rows = pairs.sort([*LIST, WEIGHT, "chance"], descending=[False, False, True, True])
    rank = pl.int_range(1, pl.len() + 1).over(LIST).alias(RANK)
    return rows.with_columns(rank).filter(pl.col(RANK) <= K).select(*KEY, RANK)


def figures(
    ranked: str, by: str, lists: pl.DataFrame, targets: pl.DataFrame, new: pl.DataFrame,
    config: Config,
) -> Iterator[Row]:  # fmt: skip
    """Yield a row per behavior."""
    scored = score(lists.join(targets, on=KEY).rename({RANK: PLACE}), targets, [K])
    asked = lists.join(targets.select(LIST).unique(), on=LIST, how="semi")
    marked = asked.with_columns(pl.col(ITEM_ID).is_in(new[ITEM_ID].implode()).alias("new"))
    for behavior in config.data.behaviors:
        mine, theirs = scored.filter(behavior=behavior), marked.filter(behavior=behavior)
        means = [float(mine[f"{name}@{K}"].mean()) for name in ("ndcg", "hr")]
        yield ranked, by, behavior, *means, float(theirs["new"].mean() or 0), len(mine)


if __name__ == "__main__":
    main()
