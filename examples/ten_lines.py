# %% [markdown]
# # From a frame to lists, in Python
#
# A script in cells: run it as it is (`python examples/ten_lines.py`), or cell by cell in an editor
# that knows `# %%`. Nothing of Prefect, no server and no registry is needed.

# %% A log: a row per event. Here a synthetic one; yours may come from anywhere.
import tempfile
from pathlib import Path

import polars as pl

from bigel import Recommender, fit
from bigel.config import SynthConfig
from bigel.synth import write_log

scratch = Path(tempfile.mkdtemp())
behaviors = ["click", "cart", "purchase"]
world = SynthConfig(users=300, items=120, events=9_000)
write_log(scratch / "log.parquet", world, tuple(behaviors))
log = pl.read_parquet(scratch / "log.parquet")
print(log.head(3))

# %% Fit. Columns are found by their names, or given: columns={"user": "uid", …}.
model = fit(log, behaviors, settings={"model.dim": 16, "train.max_steps": 30, "run.threads": 1})

# %% Is it any good? The report's figures, beside popularity.
figures = model.evaluate()
print(figures.filter(split="test", view="published", metric="ndcg@10"))

# %% Lists, by the log's own ids. Who is unknown gets what is popular, and the source says so.
users = [model.users[0], model.users[1], "nobody"]
print(model.recommend([str(user) for user in users], "purchase", k=3))

# %% What is like this item?
first = model.recommend(model.users[0], "purchase", k=1)
item = first["item_id"][0]
print(model.similar(item, k=3))

# %% Why is it in her list? The parts add up to the score, to the last bit.
why = model.explain(model.users[0], item, "purchase")
print(why.parts, "from", why.neighbours[:3])
assert sum(why.parts.values()) == why.score == first["score"][0]

# %% Vectors for any index of inner products.
for path in model.export(scratch / "vectors"):
    print(path.name, pl.read_parquet(path).schema)

# %% Keep it. A champion of `bigel run` is read by Recommender.champion("the/workspace").
again = Recommender.load(model.save(scratch / "model"))
assert again.recommend(k=3).equals(model.recommend(k=3))
