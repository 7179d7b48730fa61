"""What all sections of the configuration share."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from bigel.errors import ConfigError

Value = TypeVar("Value", int, float)


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused, and true and false are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: ValidationInfo) -> Any:
        values = value if isinstance(value, list | tuple) else [value]
        annotation = cls.model_fields[str(info.field_name)].annotation
        if annotation is not bool and any(isinstance(one, bool) for one in values):
            raise ValueError("true and false stand only where a switch is asked for")
        return value


def as_tuple(value: Any) -> Any:
    """Let one number stand for a tuple of one; for validators that run before."""
    return (value,) if isinstance(value, int | float) else value


def per_behavior(key: str, values: tuple[Value, ...], behaviors: int) -> tuple[Value, ...]:
    """Return one value per behavior, from one for all or one for each.

    Raises:
        ConfigError: if there are neither one nor ``behaviors`` values.

    >>> per_behavior("model.layers", (3,), 2)
    (3, 3)
    """
    if len(values) not in (1, behaviors):
        raise ConfigError(
            f"{key} has {len(values)} values for {behaviors} behaviors; "
            "give one value, or one for each behavior of data.behaviors"
        )
    return values * behaviors if len(values) == 1 else values
