"""The application: lists, similar items, histories, and what answers."""

import functools
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse

from bigel import __version__
from bigel.api import asked as bodies
from bigel.api.champion import Follower, Served
from bigel.api.docs import docs_page
from bigel.errors import nearest
from bigel.lists import serving
from bigel.lists.explain import Explained, explain, passed_over
from bigel.lists.history import history_of
from bigel.lists.similar import similar

MOST_BYTES = 4_000_000  # of a body
HERE, LOCAL = "http://address.invalid", "http://localhost"  # in the page's examples
ADDRESS = re.compile(r"https?://[\w.:/\[\]-]+")  # that a page and a shell take as it is
PASSED_OVER = "recommend.max_per_category"  # a reason why an item is in no list
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
Filter = Annotated[str | None, Query(alias="filter", description="Name of one of items.filters.")]
DESCRIPTION = """Lists per behavior from the registered champion, which is followed through
promotions. Ids are integers or strings, as the log has them; in a path they are read as what they
are."""


def create_app(follower: Follower) -> FastAPI:
    """Return the application of a model that is followed.

    Lists are made by the thread that reads requests (``async``): they take a few milliseconds, and
    a thread of their own would wait for the interpreter about as long.
    """
    app = FastAPI(
        title="bigel", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None
    )
    app.add_middleware(LongBodiesRefused)
    app.exception_handler(RequestValidationError)(_told)

    @functools.cache
    def page() -> str:
        return docs_page(app.openapi(), HERE)

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        here = str(request.base_url).rstrip("/")
        return HTMLResponse(page().replace(HERE, here if ADDRESS.fullmatch(here) else LOCAL))

    @app.get("/health")
    async def health() -> bodies.Health:
        """Tell whether the server answers, and by what."""
        served, trouble = follower.served, follower.trouble
        signals = served.recommender.signals
        times = None if signals is None else signals.times
        return bodies.Health(
            status="stale" if trouble else "ok",
            why=trouble,
            model=served.uri,
            alias=served.alias,
            loaded=_time(served.loaded),
            knows_until=_time(times.until) if times else None,
        )

    @app.get("/version")
    def version() -> bodies.Version:
        """Say what answers, and what it knows."""
        served = follower.served
        return bodies.Version(
            bigel=__version__,
            model=served.uri,
            alias=served.alias,
            behaviors=served.recommender.behaviors,
            users=len(served.recommender.user_ids),
            items=len(served.recommender.item_ids),
            only_popular=served.only_popular,
            filters=served.filters,
            not_listed=served.rules.left_out if served.rules else {},
        )

    @app.post("/lists")
    async def lists(wanted: bodies.ListsAsked) -> bodies.Lists:
        """Return a user's lists; what she did since moves them. An unknown one gets popular items.

        Items that the model does not know are passed over.
        """
        return answer(follower.served, wanted)

    @app.get("/users/{user:path}/lists")
    async def lists_of(
        user: str,
        request: Request,
        behavior: Annotated[list[str] | None, Query(description="Repeatable; none: all.")] = None,
        k: Annotated[int, Query(ge=1, le=bodies.MOST_K)] = 20,
        chosen: Filter = None,
    ) -> bodies.Lists:
        """Return the lists of one user."""
        _refuse_unknown(request, "behavior", "k", "filter")
        served = follower.served
        for name in behavior or ():
            _check_behavior(name, served.recommender.behaviors, ["behavior"], "query")
        _check_filter(chosen, served, "query")
        one = _from_path(served.recommender.user_ids, user, "user")
        asked = bodies.ListsAsked(user_id=one, behaviors=behavior, k=k, filter=chosen)
        return answer(served, asked)

    @app.get("/users/{user:path}/explain")
    def explain_items(
        user: str,
        request: Request,
        item: Annotated[
            list[str], Query(max_length=bodies.MOST_EXPLAINED, description="Repeatable.")
        ],
        behavior: Annotated[str | None, Query(description="None: the target.")] = None,
    ) -> bodies.Reasons:
        """Say why items have their scores for one user: the parts that each was added up from."""
        _refuse_unknown(request, "behavior", "item")
        return explained(follower.served, user, item, behavior)

    @app.get("/users/{user:path}/history")
    def history(user: str) -> bodies.History:
        """Return what the model knows that a user had, by behavior."""
        served = follower.served
        one = _from_path(served.recommender.user_ids, user, "user")
        place = _place(served.recommender.user_ids, one, ["user"], "path")
        if place < 0:
            raise HTTPException(404, f"no user {one!r} in {served.uri}")
        return bodies.History(user_id=one, history=_had(served, place))

    @app.get("/items/{item:path}/similar")
    def similar_to(
        item: str,
        request: Request,
        behavior: Annotated[str | None, Query(description="By one; none: by all.")] = None,
        k: Annotated[int, Query(ge=1, le=bodies.MOST_K)] = 10,
        chosen: Filter = None,
    ) -> bodies.Similar:
        """Return the items most similar to one; none for an item that nobody had yet."""
        _refuse_unknown(request, "behavior", "k", "filter")
        served = follower.served
        _check_filter(chosen, served, "query")
        one, place = _known_item(served, item, "path")
        found = _similar(served, place, behavior, k, served.candidates(None, chosen))
        return bodies.Similar(item_id=one, model=served.uri, items=found)

    return app


def answer(served: Served, wanted: bodies.ListsAsked) -> bodies.Lists:
    """Return the lists that a request asks for.

    Raises:
        HTTPException: 422, naming the field, where an id or a behavior is of the wrong kind.
    """
    known, recommender = served.recommender.behaviors, served.recommender
    behaviors = known if wanted.behaviors is None else wanted.behaviors
    for at, name in enumerate(behaviors):
        _check_behavior(name, known, ["behaviors", at])
    user = -1
    if wanted.user_id is not None:
        user = _place(recommender.user_ids, wanted.user_id, ["user_id"])
    session = serving.session_of([_request(served, wanted)])
    _check_filter(wanted.filter, served)
    candidates = served.candidates(wanted.exclude, wanted.filter)
    names = list(dict.fromkeys(behaviors))
    places = [known.index(name) for name in names]
    found = recommender.recommend_each(
        places, np.array([user]), wanted.k, candidates, session, served.only_popular
    )
    short = [at for at, one in zip(places, found, strict=True) if len(one.item) < wanted.k]
    kept_out = served.left_out(wanted.filter) if short else None
    if kept_out is not None:
        more = passed_over(recommender, short, user, candidates, session, served.only_popular)
        kept_out = kept_out | ({PASSED_OVER: len(more)} if len(more) else {})
    return bodies.Lists(
        user_id=wanted.user_id,
        model=served.uri,
        lists={name: _written(served, of) for name, of in zip(names, found, strict=True)},
        not_listed=kept_out,
    )


def explained(served: Served, user: str, items: list[str], behavior: str | None) -> bodies.Reasons:
    """Return why items have their scores, with ids as a path has them.

    Raises:
        HTTPException: 422 where an id or the behavior is of the wrong kind, 404 where an item is
            unknown.
    """
    recommender = served.recommender
    name = recommender.behaviors[-1] if behavior is None else behavior
    _check_behavior(name, recommender.behaviors, ["behavior"], "query")
    one = _from_path(recommender.user_ids, user, "user")
    asked = _place(recommender.user_ids, one, ["user"], "path")
    known = [_known_item(served, item, "query") for item in dict.fromkeys(items)]
    at = recommender.behaviors.index(name)
    places = np.array([item for _, item in known])
    reasons = explain(recommender, at, asked, places, served.only_popular)
    passed = passed_over(
        recommender, [at], asked, served.candidates(None), only_popular=served.only_popular
    )
    told = [
        _reason(served, item, why, item in passed)
        for item, why in zip(places.tolist(), reasons, strict=True)
    ]
    return bodies.Reasons(user_id=one, model=served.uri, behavior=name, items=told)


def _reason(served: Served, item: int, why: Explained, is_passed_over: bool) -> bodies.Reason:
    behaviors = served.recommender.behaviors
    return bodies.Reason(
        item_id=_id_of(served, item),
        score=why.score if np.isfinite(why.score) else None,
        source="popular" if why.popular else "model",
        parts={part: value for part, value in why.parts.items() if np.isfinite(value)},
        neighbours=[
            bodies.Brought(item_id=_id_of(served, near), value=value, name=served.name_of(near))
            for near, value in why.brought
        ],
        has=[name for name, has in zip(behaviors, why.has, strict=True) if has],
        allowed=served.rules is None or bool(served.rules.allowed[item]),
        passed_over=is_passed_over,
        name=served.name_of(item),
    )


def _id_of(served: Served, item: int) -> bodies.Id:
    found: bodies.Id = served.recommender.item_ids[item : item + 1].tolist()[0]
    return found


def _known_item(served: Served, text: str, source: str) -> tuple[bodies.Id, int]:
    """Return an item's id as the model has it, and its place.

    Raises:
        HTTPException: 404, if the model does not know it.
    """
    index = served.recommender.item_index
    one = _from_path(index, text, "item", source)
    place = _place(index, one, ["item"], source)
    if place < 0:
        raise HTTPException(404, f"no item {one!r} in {served.uri}")
    return one, place


def _request(served: Served, wanted: bodies.ListsAsked) -> serving.Request:
    known, items = served.recommender.behaviors, served.recommender.item_index
    recent = set()
    for at, event in enumerate(wanted.recent or ()):
        _check_behavior(event.behavior, known, ["recent", at, "behavior"])
        item = _place(items, event.item_id, ["recent", at, "item_id"])
        if item >= 0:
            recent.add((known.index(event.behavior), item))

    def places(ids: list[bodies.Id], field: str) -> set[int]:
        return {_place(items, one, [field, at]) for at, one in enumerate(ids)}

    hidden = places(wanted.exclude_items or [], "exclude_items") - {-1}
    only = None if wanted.only_items is None else places(wanted.only_items, "only_items")
    return serving.Request(-1, known[0], wanted.k, recent, hidden, only)


def _written(served: Served, found: serving.Lists) -> bodies.OneList:
    listed = _listed(served, found.item, found.rank, found.score)
    return bodies.OneList(source="popular" if found.popular[0] else "model", items=listed)


def _listed(
    served: Served, item: serving.Ints, rank: serving.Ints, score: serving.Floats
) -> list[bodies.Listed]:
    ids = served.recommender.item_ids[item].tolist()
    rows = zip(ids, rank.tolist(), score.tolist(), item.tolist(), strict=True)
    return [
        bodies.Listed(item_id=one, rank=at, score=value, name=served.name_of(inner))
        for one, at, value, inner in rows
    ]


def _similar(
    served: Served, item: int, behavior: str | None, k: int, candidates: serving.Candidates
) -> list[bodies.Listed]:
    known = served.recommender.behaviors
    if behavior is not None:
        _check_behavior(behavior, known, ["behavior"], source="query")
    at = None if behavior is None else known.index(behavior)
    _, rank, found, score = similar(served.recommender, np.array([item]), k, at, candidates)
    return _listed(served, found, rank, score)


def _check_behavior(
    name: str, known: list[str], where: list[str | int], source: str = "body"
) -> None:
    if name not in known:
        raise _wrong(where, f"{name!r} is not one of {known}{nearest(name, known)}", source)


def _check_filter(name: str | None, served: Served, source: str = "body") -> None:
    if name is None or name in served.filters:
        return
    known = f"one of {', '.join(served.filters)}{nearest(name, served.filters)}"
    if not served.filters:
        known = "known: the settings name none in items.filters"
    raise _wrong(["filter"], f"{name!r} is not {known}", source)


def _had(served: Served, user: int) -> dict[str, list[bodies.Had]]:
    recommender = served.recommender
    return {
        name: [
            bodies.Had(
                item_id=_id_of(served, item),
                at=None if at is None else _time(at),
                name=served.name_of(item),
            )
            for item, at in had
        ]
        for name, had in zip(recommender.behaviors, history_of(recommender, user), strict=True)
    }


def _place(index: Any, value: bodies.Id, where: list[str | int], source: str = "body") -> int:
    """Return the place of an id, -1 for an unknown one; an id of the other kind is refused."""
    is_good, kind = serving.id_rule(index)
    if not is_good(value):
        said = f"{value!r}: the model's ids are of another kind; give {kind}"
        raise _wrong(where, said, source)
    return serving.place_of(index, value)


def _from_path(index: Any, text: str, name: str, source: str = "path") -> bodies.Id:
    """Read an id in a path, or its query, as what the model's ids are."""
    if serving.id_rule(index)[1] == serving.STRING:
        return text
    if not WHOLE.fullmatch(text):
        raise _wrong([name], f"{text!r}: the model's ids are integers", source)
    return int(text)


def _wrong(where: list[str | int], said: str, source: str = "body") -> HTTPException:
    """Return an error of the form that FastAPI gives its own."""
    return HTTPException(422, [{"type": "value_error", "loc": [source, *where], "msg": said}])


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


async def _told(request: Request, error: Exception) -> JSONResponse:
    """Answer a bad request without what was given: NaN, say, is no JSON."""
    assert isinstance(error, RequestValidationError)
    kept = ("type", "loc", "msg")
    problems = [{name: one[name] for name in kept} for one in error.errors()]
    return JSONResponse({"detail": problems}, status_code=422)


def _refuse_unknown(asked: Request, *known: str) -> None:
    """Refuse a parameter of a path's query that means nothing."""
    for name in asked.query_params:
        if name not in known:
            raise _wrong([name], f"no parameter {name!r}{nearest(name, known)}", "query")


class LongBodiesRefused:
    """Refuses a body that is longer than any sensible one: by its bytes, whatever headers say.

    It speaks ASGI: the decorator for middlewares costs each request a task of its own.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        """Stand around an application."""
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, with a limit on what is read of it."""
        read = 0

        async def limited() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MOST_BYTES:
                raise HTTPException(413, f"the body is longer than {MOST_BYTES:,} bytes")
            return message

        await self._app(scope, limited if scope["type"] == "http" else receive, send)
