"""From a preset or a TOML file, and overrides, to a resolved configuration."""

import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bigel.config.tree import Config
from bigel.config.write import to_toml
from bigel.errors import ConfigError, nearest

PRESETS = (
    "demo",
    "jd",
    "taobao",
    "userbehavior",
    "tmall",
    "jdata",
    "retailrocket",
    "rees46",
    "yoochoose",
    "adjacency",
    "recbole",
    "paper",
)


def load_config(source: str = "", overrides: Sequence[str] = ()) -> Config:
    """Resolve a preset name or a TOML file, then ``section.key=value`` overrides.

    Args:
        source: one of ``PRESETS``, the path of a ``.toml`` file, or "" for the defaults.
        overrides: each ``section.key=value``; the value is TOML, or else a plain string.

    Raises:
        ConfigError: on an unknown key, a wrong type or range, or an unreadable file.

    >>> load_config("", ["model.dim=32"]).model.dim
    32
    """
    tree = _read_source(source) if source else {}
    for override in overrides:
        apply_override(tree, override)
    return parse_config(tree, where=source or "defaults")


def parse_config(tree: dict[str, Any], where: str = "configuration") -> Config:
    """Validate a nested dictionary of settings.

    Raises:
        ConfigError: naming each wrong key or value, with the nearest valid name.
    """
    try:
        return Config.model_validate(tree)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from None


def _read_source(source: str) -> dict[str, Any]:
    if source in PRESETS:
        text = resources.files("bigel").joinpath("presets", f"{source}.toml").read_text("utf-8")
        return tomllib.loads(text)
    path = Path(source)
    if path.suffix != ".toml":
        raise ConfigError(
            f"{source!r} is neither a preset ({', '.join(PRESETS)}) nor a .toml file"
            f"{nearest(source, PRESETS)}"
        )
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{source}: no such file; presets are {', '.join(PRESETS)}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{source}: cannot be read as TOML: {error}") from None


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Put one ``section.key=value`` into a nested dictionary of settings.

    Raises:
        ConfigError: if it is not of that form.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or len(parts) < 2:
        raise ConfigError(f"--set {override!r}: write section.key=value, for example model.dim=64")
    node = tree
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override!r}: {part} is not a section")
    node[parts[-1]] = _parse_value(text.strip())


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return (
            f"unknown key {path}{nearest(str(problem['loc'][-1]), _names_at(problem['loc'][:-1]))}"
        )
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "model_type":
        message = (
            f"it is a section: write for example {_example_at(problem['loc'])} (its keys are "
            f"{', '.join(_names_at(problem['loc']))})"
        )
    if problem["type"] == "secret":
        return f"{path}: {message}"
    if problem["type"] == "literal_error":
        choices = [str(c) for c in _choices_at(problem["loc"])]
        message += nearest(str(problem["input"]), choices)
    return f"{path} = {problem['input']!r}: {message}" if path else message


def _section_at(loc: Sequence[Any]) -> type[BaseModel]:
    section: type[BaseModel] = Config
    for part in loc:
        field = section.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        section = annotation
    return section


def _names_at(loc: Sequence[Any]) -> list[str]:
    return list(_section_at(loc).model_fields)


def _example_at(loc: Sequence[Any]) -> str:
    """Return a setting of the section at a place, with its default."""
    name, field = next(iter(_section_at(loc).model_fields.items()))
    place = [*map(str, loc), name]
    if _section_at(place) is field.annotation:
        return _example_at(place)
    return f"{'.'.join(place)} = {to_toml(field.default)}"


def _choices_at(loc: Sequence[Any]) -> tuple[Any, ...]:
    """Return the values allowed at a place, also of a member of a list."""
    names = [part for part in loc if isinstance(part, str)]
    annotation = _section_at(names[:-1]).model_fields[names[-1]].annotation
    for _ in loc[len(names) :]:
        annotation = get_args(annotation)[0]
    return get_args(annotation)
