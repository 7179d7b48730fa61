"""The one figure of a behavior: what is served, on the newest held-out days, beside the rule.

The newest held-out days are test, ranked by what was trained once more on train and validation
where a model is ("refit"), for that is what is served. The rule is the best simple one of the
behavior, chosen on validation (``bigel.evaluate.simple``). Both rank the same users.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from bigel.evaluate.metrics import ndcg_at
from bigel.evaluate.protocol import Ranked
from bigel.evaluate.resampling import ENDS, resample
from bigel.schema import DISCOVERY, PUBLISHED, REFIT, TEST

SEED = 0  # of the resampling
Lists = Mapping[str, Ranked]


def newest(parts: Collection[str]) -> str:
    """Return which of the measured parts is the newest held-out days, as they are served.

    >>> newest(["valid", "test"]), newest({"valid": 1, "refit": 2, "test": 3})
    ('test', 'refit')
    """
    return REFIT if REFIT in parts else TEST


def headline(
    model: Lists, rule: Lists, metrics: Mapping[str, Any], of_rule: Mapping[str, Any],
    popular: Mapping[str, Any], k: int,
) -> dict[str, Any]:  # fmt: skip
    """Return the headline branch of the metrics.

    Args:
        model: behavior to the model's lists, published view.
        rule: the same of the rule, of the same users.
        metrics: the model's tree, for the discovery view.
        of_rule: the rule's; "chosen" has the name of each behavior's.
        popular: popularity's.
        k: cutoff of the NDCG.

    Returns:
        "on" (the part), "cutoff", and "behaviors": by name "users", "value", "rule", "low" and
        "high" (95 % interval of the difference, paired over users), "rule_name", "popularity",
        "discovery" and "discovery_rule". Figures of no users are NaN.
    """
    on = newest(metrics)
    found = {}
    for name, ours in model.items():
        found[name] = _beside(ours, rule[name], k) | {
            "rule_name": of_rule["chosen"][name]["name"],
            "popularity": popular[on][PUBLISHED][name][f"ndcg@{k}"],
            "discovery": metrics[on][DISCOVERY][name][f"ndcg@{k}"],
            "discovery_rule": of_rule[on][DISCOVERY][name][f"ndcg@{k}"],
        }
    return {"on": on, "cutoff": k, "behaviors": found}


def _beside(ours: Ranked, theirs: Ranked, k: int) -> dict[str, Any]:
    """Return the means of both over the same users, and the interval of their difference."""
    mine_B, rule_B = (ndcg_at(one.hits, one.relevant, k).double().numpy() for one in (ours, theirs))
    if not len(mine_B):
        return {"users": 0} | dict.fromkeys(("value", "rule", "low", "high"), float("nan"))
    drawn = resample([(mine_B - rule_B)[None]], SEED)[0]
    low, high = np.percentile(drawn, ENDS).tolist()
    means = {"value": float(mine_B.mean()), "rule": float(rule_B.mean())}
    return {"users": len(mine_B), **means, "low": low, "high": high}
