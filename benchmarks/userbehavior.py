"""The synthetic log of the benchmarks, in the layout of the public UserBehavior log."""

ROWS_PER_EVENT = 1.3323  # of the first behavior
ROWS_PER_USER = 100
STILL = {"item_lifetime": 0, "user_stay": 0, "trend_share": 0}  # nothing arrives or leaves
SOME_DIRT = {"duplicate": 0.002, "null_user": 0.001, "late_timestamp": 0.001}


def toml_of(dirt: dict[str, float]) -> str:
    """Return shares of dirt as a value of synth.dirt."""
    return "{" + ", ".join(f"{kind} = {share}" for kind, share in dirt.items()) + "}"


def items_of(rows: int) -> int:
    """Return how many items a log of so many rows has."""
    return max(rows * 416 // 10_000, 1)


def synth(rows: int, **more: object) -> list[str]:
    """Return the settings of a log of about so many rows over nine days, and more of them."""
    settings = {
        "layout": "userbehavior",
        "events": round(rows / ROWS_PER_EVENT),
        "users": max(rows // ROWS_PER_USER, 1),
        "items": items_of(rows),
        "start": 1_511_539_200,
        "days": 9,
        **STILL,
        "dirt": toml_of(SOME_DIRT),
    }
    return [f"synth.{name}={value}" for name, value in (settings | more).items()]
