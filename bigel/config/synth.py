"""Settings of the synthetic log."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from bigel.config.section import Section
from bigel.errors import ConfigError

Chance = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class DirtConfig(Section):
    """Copies of rows, each kind by its share of the clean rows; all but duplicates are spoiled."""

    duplicate: Share = Field(0.0, description="As they are; ingest merges them.")
    null_user: Share = Field(0.0, description="Without a user.")
    null_item: Share = Field(0.0, description="Without an item.")
    null_behavior: Share = Field(0.0, description="Without a behavior.")
    null_timestamp: Share = Field(0.0, description="Without a time.")
    unknown_behavior: Share = Field(0.0, description="Behavior 'unknown'.")
    ignored_behavior: Share = Field(0.0, description="Behavior 'impression', for data.ignore.")
    early_timestamp: Share = Field(0.0, description="A time before 1970.")
    late_timestamp: Share = Field(0.0, description="A time in the year 2286.")
    control_character: Share = Field(0.0, description="Text only: a bell in the item.")
    unreadable_timestamp: Share = Field(0.0, description="Text only: the time 'soon'.")
    not_utf8: Share = Field(0.0, description="Text only: a byte that is no UTF-8.")
    too_few_fields: Share = Field(0.0, description="CSV only: without its last field.")
    too_many_fields: Share = Field(0.0, description="CSV only: with one field more.")
    repeated_header: Share = Field(0.0, description="CSV with a header only: the header again.")
    broken_quotes: Share = Field(0.0, description="CSV only: a quote that ends inside its field.")
    not_json: Share = Field(0.0, description="NDJSON only: a line cut off.")
    nested_id: Share = Field(0.0, description="NDJSON only: a list for a user.")
    fractional_id: Share = Field(0.0, description="Parquet only: a half added to the user.")

    @property
    def spoiled(self) -> dict[str, float]:
        """Return the shares of the spoiled kinds that have any."""
        return {kind: share for kind, share in self if kind != "duplicate" and share > 0}


class SynthConfig(Section):
    """The synthetic log: taste, long tails, a funnel, sessions, rhythm, arrivals, drift, dirt."""

    users: int = Field(2_000, ge=1, description="Number of users.")
    items: int = Field(1_500, ge=1, description="Number of items.")
    events: int = Field(75_000, ge=1, description="Number of first-behavior events (clicks).")
    tastes: int = Field(20, ge=1, description="Number of latent taste groups.")
    conversion: tuple[Chance, ...] = Field(
        (0.25,),
        min_length=1,
        description=(
            "Mean probability that an event leads to the next behavior; one value serves all "
            "steps of the cascade."
        ),
    )
    start: int = Field(
        1_699_833_600,
        ge=0,
        description="When the log starts, Unix seconds (2023-11-13, a Monday, 00:00 UTC).",
    )
    days: int = Field(30, ge=1, le=20_000, description="Length of the log in days.")
    daily_rhythm: float = Field(
        1.0, ge=0, le=1, description="Strength of the hours of the day (UTC); 0: none."
    )
    weekly_rhythm: float = Field(
        1.0, ge=0, le=1, description="Strength of the days of the week; 0: none."
    )
    drift: float = Field(
        0.1,
        ge=0,
        le=1,
        description=(
            "Share of the items' popularity and of the users' tastes that is another by the last "
            "day; it grows evenly from 0 on the first."
        ),
    )
    item_lifetime: float = Field(
        7.0,
        ge=0,
        description=(
            "Days from an item's launch to its end, median; demand rises over a third of them and "
            "then decays. 0: every item is there for the whole log."
        ),
    )
    evergreen_share: Share = Field(
        0.02, description="Share of a taste's items that are there for the whole log all the same."
    )
    trend_share: float = Field(
        0.15,
        ge=0,
        le=1,
        description=(
            "Share of the sessions that are about the taste then in fashion, whosever they are; "
            "another one every two days or so. 0: no fashion."
        ),
    )
    user_stay: float = Field(
        15.0,
        ge=0,
        description=(
            "Days from a user's arrival to the last visit, median. 0: every user is there for the "
            "whole log."
        ),
    )
    resident_share: Share = Field(
        0.5, description="Share of the users who are there for the whole log all the same."
    )
    dirt: DirtConfig = Field(
        default_factory=DirtConfig, description="Spoiled and doubled copies of rows."
    )
    layout: Literal["plain", "userbehavior"] = Field(
        "plain",
        description=(
            "plain: user_id, item_id, behavior, timestamp. userbehavior: with a category behind "
            "the item, behaviors pv, fav, cart, buy, and in CSV no header."
        ),
    )
    seed: int = Field(0, ge=0, description="Seed of the generator.")

    @field_validator("conversion", mode="before")
    @classmethod
    def _one_for_all(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) else value

    def conversions(self, behaviors: int) -> tuple[float, ...]:
        """Return the conversion of each step of a cascade.

        Raises:
            ConfigError: if neither one value nor one per step was given.
        """
        steps = behaviors - 1
        if len(self.conversion) not in (1, steps):
            raise ConfigError(
                f"synth.conversion has {len(self.conversion)} values for {steps} steps between "
                f"{behaviors} behaviors; give one value, or one for each step"
            )
        return self.conversion * steps if len(self.conversion) == 1 else self.conversion
