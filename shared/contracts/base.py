"""What all contracts share: frozen, strict about unknown fields, versioned by addition only.

Compatibility: a field may be added with a default; none is renamed, removed or given another meaning. A reader
ignores fields it does not know (``Message``); documents that people write refuse them (``Document``).
"""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationInfo, model_validator

from shared.errors import WrongFieldError


class Message(BaseModel):
    """A message between services: unknown fields are ignored, so that an older reader survives a newer writer."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null", serialize_by_alias=True)


class Document(BaseModel):
    """A document people write: an unknown field is an error, since it is most often a misspelt one; so is ``.inf``."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_by_name=True, serialize_by_alias=True
    )

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, data: object) -> object:
        for name, value in data.items() if isinstance(data, dict) else ():
            if isinstance(value, bool) and (field := cls.model_fields.get(name)) and field.annotation in _NUMBERS:
                raise WrongFieldError(f"{str(value).lower()} stands where a number belongs", name)
        return data


AS_WRITTEN = {"written": True}
"""Context of validating what somebody wrote: more is refused there than of what was told on the bus before."""


def is_written(info: ValidationInfo) -> bool:
    """Whether what is validated was written by somebody, and not told on the bus."""
    return info.context == AS_WRITTEN


_NUMBERS = (int, float, int | None, float | None)


def refuse_dots(name: str, instead: str) -> str:
    """The name, where it can be one token of a subject. ``instead``: what to write for a dot."""
    if "." in name:
        raise ValueError(
            f"{name!r} has a dot, which parts the subjects of the bus; write {name.replace('.', instead)!r}"
        )
    return name


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("needs a time zone, e.g. 2026-01-31T12:00:00Z")
    return value.astimezone(UTC)


Instant = Annotated[datetime, AfterValidator(_aware)]
"""A wall-clock time with zone, normalised to UTC."""

RunId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{2,95}$")]
SystemId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]


def utc_of_us(wall_us: int) -> datetime:
    """Aware UTC time of µs since the Unix epoch."""
    return datetime.fromtimestamp(wall_us / 1e6, tz=UTC)
