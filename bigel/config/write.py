"""From a configuration back to TOML."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from bigel.config.tree import Config


def documented_toml(config: Config) -> str:
    """Return the configuration as TOML with each field's meaning above it.

    >>> "# Embedding size D." in documented_toml(Config())
    True
    """
    lines: list[str] = []
    for name, field in type(config).model_fields.items():
        section = getattr(config, name)
        lines += _section_lines(name, section)
        assert field.annotation is not None
    return "\n".join(lines)


def _section_lines(path: str, section: BaseModel) -> list[str]:
    lines = [f"[{path}]"]
    nested: list[str] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            nested += _section_lines(f"{path}.{name}", value)
            continue
        lines.append(f"# {field.description}")
        text = to_toml(value)
        lines.append(f"{name} = {text}" if text is not None else f"# {name} is unset")
    return [*lines, "", *nested]


def to_toml(value: Any) -> str | None:
    """Return a value in TOML's notation; None where it is unset, which TOML cannot say."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return "[" + ", ".join(str(to_toml(part)) for part in value) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f"{to_toml(key)} = {to_toml(part)}" for key, part in value.items())
        return "{ " + inner + " }" if inner else "{}"
    return str(value)


def to_overrides(given: Mapping[str, Any]) -> list[str]:
    """Return settings by section and key in the form of ``load_config``'s overrides.

    >>> to_overrides({"recommend.k": 5, "data.behaviors": ["click", "buy"]})
    ['recommend.k=5', 'data.behaviors=["click", "buy"]']
    """
    return [f"{key}={to_toml(_as_tuples(value))}" for key, value in given.items()]


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def short_toml(config: Config) -> str:
    """Return the configuration as TOML, only what differs from the defaults.

    >>> print(short_toml(Config(model={"dim": 8})), end="")
    [model]
    dim = 8
    """
    return "\n".join(_short_tables("", config, Config())).lstrip("\n")


def _short_tables(path: str, section: BaseModel, default: BaseModel) -> list[str]:
    """Return the text of each table that has a changed field, the outer one first."""
    lines, nested = [], []
    for name in type(section).model_fields:
        value, usual = getattr(section, name), getattr(default, name)
        if isinstance(value, BaseModel):
            nested += _short_tables(f"{path}.{name}" if path else name, value, usual)
        elif value != usual and value is not None:
            lines.append(f"{name} = {to_toml(value)}\n")
    return ([f"[{path}]\n" + "".join(lines)] if lines else []) + nested
