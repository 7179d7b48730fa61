"""What all sections of the configuration share."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from bigel.errors import ConfigError

Value = TypeVar("Value", int, float)
Number = TypeVar("Number")


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused, and true, false, inf and nan are no
    numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool(cls, value: Any, info: ValidationInfo) -> Any:
        values = value if isinstance(value, list | tuple) else [value]
        annotation = cls.model_fields[str(info.field_name)].annotation
        if annotation is not bool and any(isinstance(one, bool) for one in values):
            raise ValueError("true and false stand only where a switch is asked for")
        return value


def _as_tuple(value: Any) -> Any:
    """Let one number stand for a tuple of one."""
    return (value,) if isinstance(value, int | float) else value


# A setting with one value per behavior, or one for all; ``per_behavior`` reads it.
OneOrEach = Annotated[tuple[Number, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


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
