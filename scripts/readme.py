#!/usr/bin/env python3
"""Run the demo and show it in README.md: six rows of a user's lists, the figures, the report.

    python scripts/readme.py            # needs Chromium; a minute on two cores

The demo's items have no names, so a catalogue of invented ones is written first: items of one taste
(a group that the same users like) are goods of one kind. ``docs/report.json`` keeps what is shown;
tests hold README.md and the picture to it.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from bigel.config import load_config
from bigel.synth import write_log
from bigel.synth.world import CATEGORIES

ROOT = Path(__file__).parents[1]
PAGE, SHOWN, PICTURE = (
    ROOT / name for name in ("README.md", "docs/report.json", "docs/report.png")
)
BEGIN, END = "<!-- by scripts/readme.py -->\n", "<!-- /by scripts/readme.py -->"
SETTINGS = ("run.threads=1", "run.progress=false")
ROWS, HAD = 6, 3
SIZE = 1_000, 1_040  # of the picture: the report's verdict and its plot
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
LOOKS = (
    *("red", "blue", "green", "white", "black", "light", "sturdy", "small", "large", "folding"),
    *("striped", "plain", "soft", "slim", "classic"),
)
GOODS = {
    "tea": "teapot, mug, tea tin, strainer, kettle",
    "running": "running shoe, cap, running vest, bottle belt, headlamp",
    "garden": "hose, rake, watering can, trowel, flower pot",
    "camping": "tent, sleeping bag, camp stove, lantern, rucksack",
    "baking": "cake tin, whisk, rolling pin, mixing bowl, oven glove",
    "painting": "easel, brush set, palette, sketchbook, paint box",
    "cycling": "bicycle bell, saddle, pump, helmet, pannier",
    "music": "guitar strap, metronome, music stand, drum pad, ukulele",
    "office": "desk lamp, stapler, notebook, pen holder, paper tray",
    "swimming": "swim cap, goggles, kickboard, swim bag, towel",
    "pets": "dog lead, cat bed, feeding bowl, chew toy, pet brush",
    "bathroom": "soap dish, bath mat, shower head, mirror, toothbrush mug",
    "tools": "hammer, spirit level, tool box, screwdriver, hand saw",
    "sewing": "needle case, thread box, pin cushion, tape measure, scissors",
    "fishing": "reel, landing net, tackle box, float, fishing stool",
    "toys": "kite, toy train, puzzle, yo-yo, building blocks",
    "football": "football, shin pad, goal net, whistle, boot bag",
    "coffee": "coffee mill, espresso cup, filter holder, milk jug, coffee jar",
    "bedroom": "pillow, duvet, bed lamp, alarm clock, blanket",
    "winter": "scarf, woollen hat, mittens, sledge, ice scraper",
}


def catalogue() -> pl.DataFrame:
    """Return item_id, name and category of the demo's items, in the order of their ids."""
    config = load_config("demo", ["synth.layout=userbehavior", "synth.dirt={}"])
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        write_log(log, config.synth, config.data.behaviors)
        columns = ["user_id", "item_id", "category", "behavior", "timestamp"]
        rows = pl.read_csv(log, has_header=False, new_columns=columns)
    taste = (pl.col("category") - 1) // CATEGORIES
    items = rows.select("item_id", taste.alias("taste")).unique().sort("item_id")
    names = [
        [f"{look} {thing}" for thing, look in product(goods.split(", "), LOOKS)]
        for goods in GOODS.values()
    ]
    number = dict.fromkeys(range(len(names)), 0)
    told = []
    for item, kind in items.iter_rows():
        told.append((item, names[kind][number[kind]], list(GOODS)[kind]))
        number[kind] += 1
    return pl.DataFrame(told, ["item_id", "name", "category"], orient="row")


def bigel(*words: str) -> str:
    """Return what a command printed."""
    command = [sys.executable, "-m", "bigel", *words]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def shown_of(workspace: Path, verdict: dict[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """Return what README.md shows of a run: its verdict, and the first user's lists.

    Args:
        workspace: of the run.
        verdict: of the run's summary.
        names: of items, by id.
    """
    lists = pl.read_parquet(workspace / "artifacts" / "latest" / "recommendations.parquet")
    user = lists["user_id"].min()
    mine = lists.filter(pl.col("user_id") == user).sort("rank")
    told = json.loads(bigel("show", str(user), "--json", "-", "--workspace", str(workspace)))
    return {
        "command": "python scripts/readme.py",
        "settings": list(SETTINGS),
        "verdict": verdict,
        "user": user,
        "had": {
            line["behavior"]: [
                names[event["item_id"]]
                for event in told["history"]
                if event["behavior"] == line["behavior"]
            ][:HAD]
            for line in verdict["lines"]
        },
        "lists": {
            line["behavior"]: [
                names[item]
                for item in mine.filter(pl.col("behavior") == line["behavior"])["item_id"][:ROWS]
            ]
            for line in verdict["lines"]
        },
    }


def block(shown: Mapping[str, Any]) -> str:
    """Return the part of README.md that a run makes."""
    verdict, behaviors = shown["verdict"], list(shown["lists"])
    metric, rule = verdict["metric"], verdict["rule"]
    last = behaviors[-1]
    rows = [
        "",
        f"Latest {last}s of user {shown['user']} of the demo: {', '.join(shown['had'][last])}.",
        "Her lists for tomorrow, the best item first:",
        "",
        f"| | {' | '.join(behaviors)} |",
        f"|---:|{'---|' * len(behaviors)}",
        *(
            f"| {rank} | {' | '.join(row)} |"
            for rank, row in enumerate(zip(*shown["lists"].values(), strict=True), 1)
        ),
        "",
        f"The report of the same run ({verdict['made'][:10]}, `scripts/readme.py`):",
        "",
        "![The report of the same run: the verdict and one plot](docs/report.png)",
        "",
        f"| {metric} on the newest held-out days | {' | '.join(behaviors)} |",
        f"|---|{'---:|' * len(behaviors)}",
        "| bigel | " + " | ".join(f"{line['value']:.4f}" for line in verdict["lines"]) + " |",
        f"| {rule} | "
        + " | ".join(f"{line['rule']['value']:.4f}" for line in verdict["lines"])
        + " |",
        "| recent popularity | "
        + " | ".join(f"{line['popularity']:.4f}" for line in verdict["lines"])
        + " |",
        "",
        f"The {rule}, chosen on validation: {told_rules(verdict)}.",
        "",
    ]
    return "\n".join(rows) + "\n"


def told_rules(verdict: Mapping[str, Any]) -> str:
    """Return which rule is the best of which behaviors.

    >>> lines = [{"behavior": b, "rule_name": r} for b, r in (("a", "x"), ("b", "y"), ("c", "x"))]
    >>> told_rules({"lines": lines})
    'of a and c "x"; of b "y"'
    """
    names: dict[str, list[str]] = {}
    for line in verdict["lines"]:
        names.setdefault(line["rule_name"], []).append(line["behavior"])
    return "; ".join(f'of {" and ".join(of)} "{name}"' for name, of in names.items())


def with_block(page: str, text: str) -> str:
    """Return README.md with another text between the comments of this script."""
    return re.sub(f"{BEGIN}.*?{END}", lambda _: BEGIN + text + END, page, flags=re.DOTALL)


def draw(report: Path, picture: Path) -> None:
    """Draw the first screen of a report."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        raise SystemExit(f"there is none of {', '.join(CHROMIUM)}")
    with tempfile.TemporaryDirectory() as home:
        options = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *(f"--user-data-dir={home}", f"--window-size={SIZE[0]},{SIZE[1]}"),
            *(f"--screenshot={picture}", report.as_uri()),
        ]
        subprocess.run([program, *options], check=True, capture_output=True)


def main() -> None:
    """Run the demo, write the picture and what it shows, and renew README.md."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        items = catalogue()
        items.write_csv(home / "items.csv")
        settings = (*SETTINGS, f"items.path={home / 'items.csv'}")
        given = [word for one in settings for word in ("--set", one)]
        at = ("--workspace", str(home / "run"), "--json", str(home / "summary.json"))
        bigel("run", "demo", *given, *at)
        summary = json.loads((home / "summary.json").read_text("utf-8"))
        names = dict(items.select("item_id", "name").iter_rows())
        shown = shown_of(home / "run", summary["verdict"], names)
        draw(home / "run" / "artifacts" / "latest" / "report.html", PICTURE)
    shown["picture"] = hashlib.sha256(PICTURE.read_bytes()).hexdigest()
    SHOWN.write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n", "utf-8")
    PAGE.write_text(with_block(PAGE.read_text("utf-8"), block(shown)), "utf-8")


if __name__ == "__main__":
    main()
