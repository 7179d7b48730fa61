"""Lists of all users are written and checked a part of the users at a time: memory is measured."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

import bigel
from bigel import schema
from bigel.lists.bundle import FORMAT, SEEN_FILE, write_facts

USERS, ITEMS, SEEN, K = 10_000, 2_000, 500, 100
LIMIT = 200  # MB; frames of all pairs or rows take several times as much

# Each is a process of its own, since the peak of a process never falls. The first call of the two
# warms it up.
MEASURED = """
import resource, sys
from pathlib import Path

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

place = Path(sys.argv[1])
do("few")
before = peak()
do("all")
print(peak() - before)
"""
WRITE = f"""
import polars as pl
from bigel.lists import recommend

recommend.USERS_AT_A_TIME = 500

def do(name):
    (place / name).mkdir()
    asked = pl.read_parquet(place / "bundle" / "users.parquet")["user_id"]
    request = recommend.Request(["buy"], {K}, "same")
    chosen = asked[:1_000] if name == "few" else asked
    recommend.write_lists(place / name, place / "bundle", chosen, request)
"""
CHECK = f"""
from bigel.contracts import recommendations as lists
from bigel.store import Record

lists.ROWS_AT_A_TIME = 50_000

def do(name):
    files = {{file: place / name / f"{{file}}.parquet" for file in ("users", "items", "seen")}}
    record = Record("recommend", "f" * 24, str(place / name), False, 0.0)
    tables = lists.recommendations_tables(record, lists.Facts(["buy"], {K}, "same", **files), {{}})
    assert tables.frames["policy"]["violations"].to_list() == [0, 0, 0, 0]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the bundle of a model whose users have five million pairs."""
    folder = tmp_path_factory.mktemp("many")
    bundle = folder / "bundle"
    bundle.mkdir()
    for column, number, name in (
        (schema.USER_ID, USERS, schema.USERS_FILE),
        (schema.ITEM_ID, ITEMS, schema.ITEMS_FILE),
    ):
        ids = [f"{column} of some length {at:08d}" for at in range(number)]
        pl.DataFrame({column: ids, "events": SEEN}).write_parquet(bundle / name)
    shapes = {"user_emb": (1, USERS, 1), "item_emb": (1, ITEMS, 1), "item_bias": (1, ITEMS)}
    ones = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    save_file(ones, bundle / schema.EMBEDDINGS_FILE)
    first = np.random.default_rng(0).integers(0, ITEMS - SEEN, size=(USERS, 1), dtype=np.int32)
    items = (first + np.arange(SEEN, dtype=np.int32)).ravel()
    save_file({"0.crow": np.arange(USERS + 1) * SEEN, "0.col": items}, bundle / SEEN_FILE)
    save_file({"popularity": np.ones((1, ITEMS), np.float32)}, bundle / schema.POPULARITY_FILE)
    facts = {"format": FORMAT, "behaviors": ["buy"], "users": USERS, "items": ITEMS, "dim": 1}
    facts |= {"signals": None}
    write_facts(bundle, facts)
    return folder


def growth(place: Path, program: str) -> float:
    """Return by how much doing all raised the peak of a process that had done a little, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", program + MEASURED, str(place)],
        env=os.environ | {"PYTHONPATH": str(Path(bigel.__file__).parents[1])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_pairs_and_rows_of_all_users_are_never_held_at_once(place: Path) -> None:
    assert growth(place, WRITE) < LIMIT
    files = (schema.RECOMMENDATIONS_FILE, schema.SEEN_PAIRS_FILE)
    heights = [pl.scan_parquet(place / "all" / name).select(pl.len()) for name in files]
    assert [one.collect().item() for one in heights] == [USERS * K, USERS * SEEN]
    assert growth(place, CHECK) < LIMIT
