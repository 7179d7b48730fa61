"""What may be asked for, with its limits."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

MOST_K = 1_000
MOST_EVENTS = 1_000  # of a session
MOST_ITEMS = 100_000  # that are left out, or alone may be listed
MOST_EXPLAINED = 100  # items

Id = StrictInt | StrictStr
Ids = Annotated[list[Id], Field(max_length=MOST_ITEMS)]


class Asked(BaseModel):
    """A body, or a part of one; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Event(Asked):
    """Something that the user did since the model was made."""

    item_id: Id
    behavior: str


class ListsAsked(Asked):
    """Whose lists, and of what kind."""

    user_id: Id | None = Field(
        None, description="As the log has it, an integer or a string; null: a visitor without one."
    )
    behaviors: list[str] | None = Field(None, description="Null: all of the model.")
    k: int = Field(20, ge=1, le=MOST_K, description="Length of each list, at most.")
    exclude: Literal["same", "any", "none"] | None = Field(
        None,
        description="Leave out what the user has under the same, any or no behavior; null: as "
        "recommend.exclude says.",
    )
    recent: Annotated[list[Event], Field(max_length=MOST_EVENTS)] | None = Field(
        None, description="What the user did since: it counts as seen, and moves her lists."
    )
    exclude_items: Ids | None = Field(None, description="Items that are left out.")
    only_items: Ids | None = Field(None, description="Items that alone may be listed.")
    filter: str | None = Field(
        None, description="Name of a condition of items.filters that must be true, too."
    )


class Listed(BaseModel):
    """An item of a list."""

    item_id: int | str
    rank: int
    score: float
    name: str | None = Field(None, description="Of the catalogue, where there is one.")


class OneList(BaseModel):
    """A list."""

    source: Literal["model", "popular"]
    items: list[Listed]


class Lists(BaseModel):
    """The lists of one user."""

    user_id: int | str | None
    model: str = Field(description="URI of the version that answered.")
    lists: dict[str, OneList]
    not_listed: dict[str, int] | None = Field(
        None,
        description="Where a list is shorter than k: items that rules keep out of all lists, by "
        "reason, and under recommend.max_per_category those that it passed over in such a list; "
        "the request's own limits are not in it. Null: each is full, or there are no rules.",
    )


class Similar(BaseModel):
    """The items most similar to one."""

    item_id: int | str
    model: str
    items: list[Listed]


class Brought(BaseModel):
    """An item that the user touched, and what it brought to the part "neighbours"."""

    item_id: int | str
    value: float
    name: str | None = None


class Reason(BaseModel):
    """Why an item has its score."""

    item_id: int | str
    score: float | None = Field(
        description="As it is served; null: nobody had the item, so no list has it."
    )
    source: Literal["model", "popular"]
    parts: dict[str, float] = Field(
        description="They add up to the score: graph, views, demand, neighbours and memory, of "
        "these what the model has; or popularity alone."
    )
    neighbours: list[Brought] = Field(description="What brought most first.")
    has: list[str] = Field(description="Behaviors under which the user has the item.")
    allowed: bool = Field(description="Whether the rules let it be listed.")
    passed_over: bool = Field(
        description="Whether recommend.max_per_category keeps it out of this list: so many better "
        "ones of its category may be in it."
    )
    name: str | None = None


class Reasons(BaseModel):
    """Why items have their scores for one user."""

    user_id: int | str
    model: str
    behavior: str
    items: list[Reason]


class Had(BaseModel):
    """An item of a history."""

    item_id: int | str
    at: str | None = Field(None, description="Time of the latest event, where the log has times.")
    name: str | None = None


class History(BaseModel):
    """What the model knows that a user had, by behavior, the latest first."""

    user_id: int | str
    history: dict[str, list[Had]]


class Health(BaseModel):
    """Whether the server answers, and by what."""

    status: Literal["ok", "stale"] = Field(
        description="stale: the registry or a file of rules could not be read at the last look."
    )
    why: str | None = None
    model: str
    alias: str
    loaded: str = Field(description="When the model was loaded.")
    knows_until: str | None = Field(description="End of the log that it knows, with times.")


class Version(BaseModel):
    """What answers."""

    bigel: str
    model: str
    alias: str
    behaviors: list[str]
    users: int
    items: int
    only_popular: bool = Field(description="Popularity answers: no champion, and a losing model.")
    filters: list[str] = Field(description="Names that a request may give as its filter.")
    not_listed: dict[str, int] = Field(description="Items that rules keep out, by reason.")
