"""The headline figures of the last runs side by side, for the report that a run publishes."""

from collections.abc import Sequence
from typing import Any

from bigel.data.days import as_time
from bigel.sparkline import draw
from bigel.templates import templates_of
from bigel.verdict import Verdict, rate, stamped

RUNS = 10  # shown at most
Run = dict[str, Any]


def with_run(runs: Sequence[Run], verdict: Verdict | None) -> list[Run]:
    """Return the last runs, the oldest first, and this one after them.

    A run that found what the one before it had found (nothing was new) takes its place; a model
    that waited for the registry between them, or does now, has the version that the other knows.

    Args:
        runs: of earlier calls.
        verdict: of the run; None: nothing is known of it.
    """
    if verdict is None or not verdict.made:
        return list(runs)
    figures = {
        line.behavior: {
            "value": line.value,
            "rule": line.rule and line.rule.value,
            "rule_name": line.rule_name,
        }
        for line in verdict.lines
    }
    this: Run = {"made": verdict.made, "model": verdict.model, "metric": verdict.metric}
    this |= {"version": verdict.version, "alias": verdict.alias, "behaviors": figures}
    last = runs[-1] if runs else {}
    same = all(last.get(key) == this[key] for key in ("model", "metric", "behaviors"))
    versions = last.get("version"), verdict.version
    same = same and (None in versions or versions[0] == versions[1])
    if same and verdict.version is None:
        this |= {key: last[key] for key in ("version", "alias")}
    return [*(runs[:-1] if same else runs), this][-RUNS:]


def stamp_trend(page: str, runs: Sequence[Run]) -> str:
    """Return a report with the last runs in their place."""
    return stamped(page, "trend", trend_html(runs)) if runs else page


def trend_html(runs: Sequence[Run]) -> str:
    """Return a table of the last runs, the newest first, with a drawing of each behavior.

    Args:
        runs: of ``with_run``, one at least. Those of another metric or model are left out.
    """
    last = runs[-1]
    shown = [one for one in runs if all(one[key] == last[key] for key in ("model", "metric"))]
    names = [as_time(one["made"]) for one in shown]
    drawings = {
        behavior: draw(
            names,
            [
                [one["behaviors"].get(behavior, {}).get(of) for one in shown]
                for of in ("value", "rule")
            ],
        )
        for behavior in last["behaviors"]
    }
    environment = templates_of("evaluate")
    environment.filters |= {"rate": rate, "when": as_time}
    page = environment.get_template("trend.html.j2")
    return page.render(runs=shown[::-1], metric=last["metric"], drawings=drawings)
