"""How good lists of new items are, which have the mean state of their category.

A synthetic log ends before its last days. New are the items that nobody had until then and a drawn
share of the others, whose events are taken out of the log that is learned from; the world's tastes
are the categories. Right are the pairs that users of the log first make in the days after. The
first table ranks the new items alone, the second all items. A figure is the mean over the users of
a behavior, and over worlds.

python benchmarks/new_items.py --seeds 3 4 5
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from bigel import fit
from bigel.config import Config, load_config
from bigel.lists.bundle import load_bundle
from bigel.lists.new_items import NewItems, with_new
from bigel.lists.rules import ItemRules, candidates_of, item_rules
from bigel.lists.serving import Floats, Recommender
from bigel.realized.scoring import PLACE, score
from bigel.schema import BEHAVIOR, DAY, ITEM_ID, ITEMS_FILE, RANK, TIMESTAMP, USER_ID
from bigel.store import Workspace
from bigel.synth import write_log
from bigel.synth.world import CATEGORIES, make_world

K = 10
NEW, ALL = "new items", "all items"
LIST, KEY = [USER_ID, BEHAVIOR], [USER_ID, BEHAVIOR, ITEM_ID]
CATEGORY, WEIGHT = "category", "weight"
HEADS = (f"NDCG@{K}", f"HR@{K}", "share of new items", "users")
PASSED_ON = ("dim", "layers", "global_layers")  # settings of the model
Row = tuple[str, str, str, float, float, float, int]
Offset = Callable[[Floats, Floats], float]
OFFSETS: dict[str, Offset | None] = {
    "mean offset of all (as built)": None,
    "mean offset of the category": lambda peers, every: float(peers.mean()),
    "0.05 quantile of all": lambda peers, every: float(np.quantile(every, 0.05)),
    "0.95 quantile of the category": lambda peers, every: float(np.quantile(peers, 0.95)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--no-times", action="store_true", help="learn from a log without times")
    parser.add_argument("--days", type=float, default=3.0, help="after the end of the log")
    parser.add_argument("--drawn", type=float, default=0.1, help="share of items taken out")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    rows: list[Row] = []
    for seed in args.seeds:
        config = load_config("demo", [*args.settings, f"synth.seed={seed}"])
        with tempfile.TemporaryDirectory() as folder:
            seconds = int(args.days * DAY)
            rows += of_world(config, seconds, args.drawn, args.no_times, Path(folder))
    told = pl.DataFrame(rows, orient="row", schema=["ranked", "by", BEHAVIOR, *HEADS])
    means = told.group_by("ranked", "by", BEHAVIOR, maintain_order=True).mean()
    print(f"| ranked | by | behavior | {' | '.join(HEADS)} |")
    print(f"|---|---|---|{'---:|' * len(HEADS)}")
    for *names, ndcg, hits, new, users in means.rows():
        print(f"| {' | '.join(names)} | {ndcg:.4f} | {hits:.4f} | {new:.3f} | {users:,.0f} |")


def of_world(
    config: Config, seconds: int, drawn: float, no_times: bool, place: Path
) -> Iterator[Row]:
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
    catalogue = pl.concat([new, categories.join(log, on=ITEM_ID, how="semi")])
    alone = targets.join(new, on=ITEM_ID, how="semi")
    crossed = alone.select(LIST).unique().sort(LIST).join(new, how="cross")
    crossed = crossed.with_columns(
        chance=np.random.default_rng(config.synth.seed).random(crossed.height)
    )
    under = log.join(categories, on=ITEM_ID)
    log = log.drop(TIMESTAMP) if no_times else log
    rules = {
        "random order": crossed.with_columns(pl.lit(0).alias(WEIGHT)),
        "most popular category": weighed(crossed, under, [BEHAVIOR, CATEGORY]),
        "the user's most frequent category": weighed(crossed, under, [USER_ID, CATEGORY]),
    }
    for name, frame in rules.items():
        yield from figures(NEW, name, ordered(frame), alone, new, config)
    for ranked, name, lists in served(log, new, catalogue, config, place):
        yield from figures(ranked, name, lists, alone if ranked == NEW else targets, new, config)


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
) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Yield what is ranked, by what offset of new items, and the model's lists of all users."""
    settings = {f"model.{name}": getattr(config.model, name) for name in PASSED_ON}
    settings |= {"train.max_steps": config.train.max_steps, "run.threads": config.run.threads}
    model = fit(log, config.data.behaviors, settings=settings, workspace=place)
    catalogue.sort(ITEM_ID).write_csv(place / "items.csv")
    new[ITEM_ID].to_frame().write_csv(place / "new.txt", include_header=False)
    only = f'recommend.allow="{place}/new.txt"'
    for ranked, on, more in ((ALL, False, ()), (ALL, True, ()), (NEW, True, (only,))):
        asked = [f'items.path="{place}/items.csv"', f"recommend.new_items={on}".lower(), *more]
        rules = item_rules(model.folder / ITEMS_FILE, load_config("", asked), Workspace(place))
        assert rules is not None
        known = load_bundle(model.folder)
        for by, offset in OFFSETS.items() if on else [("", None)]:
            ranks = with_new(known, rules.new)
            if rules.new is not None and offset is not None:
                ranks = replace(ranks, item_trend=trends(known, ranks, rules.new, offset))
            yield ranked, f"on, {by}" if on else "off", lists_of(ranks, rules)


def trends(known: Recommender, ranks: Recommender, new: NewItems, offset: Offset) -> Floats:
    """Return trends that give each new item another offset, made of its category's and of all."""
    trend = ranks.item_trend.copy()
    for k, of_known in enumerate(known.offset):
        there = np.isfinite(of_known)
        for at, category in enumerate(new.category, len(known.item_ids)):
            peers = of_known[there & (new.of_known == category)]
            trend[k, at] = offset(peers, of_known[there]) - ranks.item_bias[k, at]
    return trend


def lists_of(ranks: Recommender, rules: ItemRules) -> pl.DataFrame:
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
    return pl.concat(parts)


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
    """Yield a row per behavior that has users."""
    scored = score(lists.join(targets, on=KEY).rename({RANK: PLACE}), targets, [K])
    asked = lists.join(targets.select(LIST).unique(), on=LIST, how="semi")
    marked = asked.with_columns(pl.col(ITEM_ID).is_in(new[ITEM_ID].implode()).alias("new"))
    for behavior in config.data.behaviors:
        mine, theirs = scored.filter(behavior=behavior), marked.filter(behavior=behavior)
        if mine.is_empty():
            continue
        means = [float(mine[f"{name}@{K}"].mean()) for name in ("ndcg", "hr")]
        yield ranked, by, behavior, *means, float(theirs["new"].mean() or 0), len(mine)


if __name__ == "__main__":
    main()
