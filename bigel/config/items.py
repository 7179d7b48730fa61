"""Settings of the item catalogue, and of the lists that leave the pipeline."""

from pydantic import Field, field_validator, model_validator

from bigel.config.exclusion import POLICIES, Exclude
from bigel.config.section import Section
from bigel.errors import nearest


class ItemColumns(Section):
    """Names that the catalogue gives its columns; one that it does not have says nothing."""

    id: str = Field("item_id", description="Column of the item id, as in the log.")
    name: str = Field("name", description="Column of the name that people read.")
    category: str = Field("category", description="Column of the category.")
    available_from: str = Field(
        "available_from", description="Column of the time from which an item may be listed."
    )
    available_until: str = Field(
        "available_until",
        description="Column of the time from which it may no more; a date counts to its end.",
    )
    in_stock: str = Field(
        "in_stock", description="Column of the stock: true or false, yes or no, or a number."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> "ItemColumns":
        names = list(self.model_dump().values())
        if len(set(names)) != len(names):
            raise ValueError(f"one column stands for two things: {names}")
        return self


def _condition(text: str) -> str:
    """Return a condition in SQL as it is applied.

    Raises:
        ValueError: if it is none.
    """
    import polars as pl  # takes a while, and only a filter needs it

    try:
        pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"no condition in SQL: {error}") from None
    return text.strip()


class ItemsConfig(Section):
    """The item catalogue: what a log does not say of its items."""

    path: str = Field(
        "",
        description=(
            "File of one row per item: .csv, .tsv, .parquet, .ndjson or .jsonl (text also .gz). "
            "Items that it lacks are not listed. Empty: there is none."
        ),
    )
    columns: ItemColumns = Field(
        default_factory=ItemColumns, description="Column names of the catalogue."
    )
    filters: dict[str, str] = Field(
        {},
        description=(
            "Conditions as of recommend.filter by name, of which a request to `bigel api` may ask "
            'for one: { cheap = "price < 100" }.'
        ),
    )

    @field_validator("filters")
    @classmethod
    def _are_conditions(cls, filters: dict[str, str]) -> dict[str, str]:
        found = {}
        for name, text in filters.items():
            if not name.strip():
                raise ValueError("a filter needs a name")
            try:
                found[name] = _condition(text)
            except ValueError as error:
                raise ValueError(f"{name} = {text!r}: {error}") from None
        return found


class RecommendConfig(Section):
    """The lists that leave the pipeline."""

    k: int = Field(20, ge=1, description="Length of each list, at most.")
    exclude: str | dict[str, str] = Field(
        "same",
        description=(
            "Leave out items the user has under the same, any or no ('none') behavior; for some "
            "behaviors by name, { purchase = 'none' }, where the others leave out the same. 'none' "
            "is for customers who buy the same again, and the report then has the view again."
        ),
    )
    allow: str = Field(
        "", description="File of item ids, one per line: only these are listed. Empty: all."
    )
    deny: str = Field("", description="File of item ids, one per line, that are never listed.")
    filter: str = Field(
        "",
        description=(
            'Condition in SQL on the columns of the catalogue, for example "price < 100 AND '
            "category <> 'gift cards'\": items of which it is true are listed. Empty: all."
        ),
    )
    max_per_category: int = Field(
        0, ge=0, description="Items of one category in a list, at most; 0: any number."
    )
    names: bool = Field(
        False, description="Write the catalogue's name of each item beside it, as item_name."
    )
    new_items: bool = Field(
        False,
        description=(
            "List items of the catalogue that the log has not, too, by the mean state of their "
            "category."
        ),
    )

    @field_validator("exclude")
    @classmethod
    def _is_a_policy(cls, exclude: Exclude) -> Exclude:
        policies = {"": exclude} if isinstance(exclude, str) else exclude
        for name, policy in policies.items():
            if policy not in POLICIES:
                raise ValueError(
                    f"{name + ' = ' if name else ''}{policy!r} is none of {', '.join(POLICIES)}"
                    f"{nearest(policy, POLICIES)}"
                )
        return exclude

    @field_validator("filter")
    @classmethod
    def _is_a_condition(cls, text: str) -> str:
        return _condition(text) if text.strip() else ""

    def of_catalogue(self) -> list[str]:
        """Return the settings in use that need a catalogue."""
        names = ("filter", "max_per_category", "names", "new_items")
        return [name for name in names if getattr(self, name)]
