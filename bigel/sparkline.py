"""A small drawing of values over runs, for a cell of a table."""

import math
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT, EDGE = 180, 36, 4  # pixels

Line = Sequence[float | None]


def draw(
    names: Sequence[str],
    lines: Sequence[Line],
    limits: tuple[float | None, float | None] = (None, None),
    refused: Sequence[int] = (),
) -> dict[str, Any]:
    """Return a drawing of values over runs, in pixels.

    Args:
        names: of the runs, the oldest first.
        lines: a value per run each; None where it is not known.
        limits: least and greatest, drawn where they are not None.
        refused: places of the runs that were refused.

    Returns:
        ``lines``, a list of path and end point each; ``limits``, heights; ``refused``, x of each;
        ``first`` and ``last``, the names of the runs at the ends.
    """
    values = (*(value for line in lines for value in line), *limits, 0.0)
    known = [value for value in values if value is not None and math.isfinite(value)]
    low, high = min(known), max(known)

    def x(place: int) -> float:
        return round(EDGE + (WIDTH - 2 * EDGE) * place / max(len(names) - 1, 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (value - low) / (high - low or 1), 1)

    drawn = []
    for line in lines:
        points = [(x(place), y(one)) for place, one in enumerate(line) if one is not None]
        drawn.append({"path": " ".join(f"{a},{b}" for a, b in points), "end": points[-1:]})
    return {
        "lines": drawn,
        "limits": [y(limit) for limit in limits if limit is not None],
        "refused": [x(place) for place in refused],
        "first": names[0],
        "last": names[-1],
    }
