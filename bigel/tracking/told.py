"""What a version is told to be: its verdict, kept with it, and shown wherever MLflow shows it.

The verdict is a tag of the version (JSON). Its description and the note of its run say the same in
words; the description ends with a request that the served model answers.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bigel.store import Workspace
from bigel.tracking.gate import CHALLENGER, CHAMPION, alias_of
from bigel.tracking.registry import (
    DATA_TAG,
    WHY_TAG,
    Registered,
    Version,
    number_of,
)
from bigel.tracking.store import NOTE_TAG, home_of
from bigel.verdict import Verdict

VERDICT_TAG = "bigel.verdict"  # JSON: the verdict on a version when it was last judged
REQUEST = "### A request"
NEXT_RUN = "the next run, or the hourly one, makes lists from it"
LOOKED_AT = 50  # versions among which the best refused one is looked for
LONGEST_NOTE = 8_000  # characters of a run's tag
LONGEST = 5_000  # characters of a description, which a database may refuse to exceed


def verdict_of(model: Registered, version: Version) -> Verdict | None:
    """Return the verdict on a version, with the alias and the reason that it has now.

    None of a version that was registered by an older bigel.
    """
    kept = version.tags.get(VERDICT_TAG)
    if kept is None:
        return None
    found = Verdict.from_dict(json.loads(kept))
    alias, why = alias_of(version.aliases), version.tags.get(WHY_TAG, found.why)
    steps = next_steps(version, alias, number_of(model.champion))
    return replace(found, version=version.number, alias=alias, why=why, todo=steps)


def present_verdict(name: str, number: int, workspace: Workspace) -> Verdict | None:
    """Return the verdict on a registered version as it is now; None where there is none.

    Raises:
        UnreachableError: if MLflow's store does not answer.
        WorkspaceError: if it cannot be used.
    """
    home = home_of(workspace)
    if not home.exists():
        return None
    with home.explained():
        model = Registered(home.connect(), name)
        version = model.at(number)
        return None if version is None else verdict_of(model, version)


def keep_verdict(
    model: Registered, number: int, verdict: Verdict, example: Mapping[str, Any]
) -> Verdict:
    """Keep the verdict on a version that was just judged; return it as it is shown.

    Args:
        model: the registered model.
        number: of the version.
        verdict: of the gate.
        example: a request that the version answers.
    """
    version = model.version(number)
    model.tag(version, VERDICT_TAG, json.dumps(_short(verdict.to_dict())))
    return tell(model, number, request_text(version.uri, example)) or verdict


def tell(model: Registered, number: int, request: str = "") -> Verdict | None:
    """Write description and note of a version anew, by its tags and aliases.

    Args:
        model: the registered model.
        number: of the version.
        request: text of the request; "": the one that stands there.
    """
    version = model.version(number)
    verdict = verdict_of(model, version)
    if verdict is None:
        return None
    client = model.client
    known = client.get_model_version(model.name, str(number)).description or ""
    request = request or known.partition(REQUEST)[2]
    text, asked = verdict.markdown(LONGEST), f"\n\n{REQUEST}{request}" if request else ""
    text += asked if len(text) + len(asked) <= LONGEST else ""
    client.update_model_version(model.name, str(number), text)
    if model.run_of(version) is not None:
        client.set_tag(version.run_id, NOTE_TAG, verdict.markdown(LONGEST_NOTE))
    return verdict


def tell_moved(model: Registered, held: Mapping[str, int], *numbers: int) -> None:
    """Tell every version anew that has an alias, or had one before aliases moved.

    Args:
        model: the registered model.
        held: alias to version as it was before.
        numbers: of versions that are told in any case.
    """
    for number in sorted({*numbers, *held.values(), *model.aliases.values()}):
        if model.at(number) is not None:
            tell(model, number)


def best_refused(model: Registered, data: str | None, last: int = LOOKED_AT) -> Verdict | None:
    """Return the verdict with the highest mean figure of versions that the gate refused.

    Args:
        model: the registered model.
        data: fingerprint of the data: figures of other data cannot be compared.
        last: how many versions are looked at, the newest.
    """
    refused = [
        version
        for version in map(model.version, (one.number for one in model.newest(last)))
        if version.tags.get(DATA_TAG) == data and version.decision.get("alias") != CHAMPION
    ]
    found = [verdict for one in refused if (verdict := verdict_of(model, one)) is not None]
    known = [verdict for verdict in found if verdict.mean is not None]
    return max(known, key=lambda verdict: verdict.mean or 0.0, default=None)


def better_refused(model: Registered, number: int) -> dict[str, Any] | None:
    """Return version and mean of the best refused version that is above this one, if there is."""
    version = model.version(number)
    mine, best = verdict_of(model, version), best_refused(model, version.tags.get(DATA_TAG))
    if mine is None or best is None or best.version == number:
        return None
    if mine.mean is None or best.mean is None or best.mean <= mine.mean:
        return None
    return {"version": best.version, "metric": best.metric, "mean": best.mean, "ours": mine.mean}


def request_text(uri: str, example: Mapping[str, Any]) -> str:
    """Return how to serve a version and what to ask it, as Markdown below ``REQUEST``."""
    body = json.dumps({"dataframe_records": [dict(example)]}, ensure_ascii=False, default=str)
    quoted = body.replace("'", "'\\''")
    return (
        f"\n\n```bash\nPATH=.venv/bin:$PATH mlflow models serve -m {uri} -p 5001 "
        "--env-manager local\n"
        "curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\\n"
        f"  -d '{quoted}'\n```\n"
    )


def next_steps(version: Version, alias: str, champion: int | None) -> tuple[str, ...]:
    """Return what to do about a version, a sentence each."""
    number = version.number
    if alias == CHAMPION:
        served = "its lists are served" if version.decision.get("by") == "gate" else NEXT_RUN
        if version.decision.get("from_version") in (None, number):
            return (served,)
        return (f"{served}; to take it back: bigel rollback --why TEXT",)
    by_hand = f"to crown version {number} all the same: bigel promote {number} --why TEXT"
    if alias == CHALLENGER and champion is None:
        if version.loses:
            return (
                "no version is champion, so lists are popularity's; bigel backtest FILE says what "
                "bigel is worth on this log, bigel tune FILE searches better settings",
                by_hand,
            )
        return ("no version is champion, so this one makes the lists", by_hand)
    if champion is None or not alias:  # who has no alias is not told anew when the champion changes
        return (by_hand,)
    return (f"version {champion} stays champion and makes the lists", by_hand)


def _short(value: Any) -> Any:
    """Return JSON values with six digits after the point: a tag has no room for more."""
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_short(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value
