"""Settings from environment variables: one frozen dataclass, read once, every bad value named.

A field `drain_s` is read from `<prefix>DRAIN_S` as its type says: str, int, float, bool, Path,
an Enum by value, a Literal, or one of these `| None`. `setting(...)` adds a parser or a range.
A field whose type is a dataclass is read from the same variables, so that parts are shared.
"""

import enum
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

PREFIX = "RECMESH_"

T = TypeVar("T")


class ConfigError(Exception):
    """A setting that the process cannot start with; the message says which, why, and what may be.

    Several faults stand on a line each.
    """


@dataclass(frozen=True, slots=True)
class _Rule:
    parse: Callable[[str], Any]
    allowed: str
    at_least: float | None = None
    at_most: float | None = None


def setting(
    *,
    default: Any = MISSING,
    parse: Callable[[str], Any] | None = None,
    allowed: str | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    """Declare a dataclass field with how its variable is read.

    `parse` turns the text into the value and raises ValueError on a bad one; without it the
    field's type decides. `allowed` says in words what is accepted. `at_least` and `at_most` are
    inclusive. Without `default` the variable is required.
    """
    metadata = {"parse": parse, "allowed": allowed, "at_least": at_least, "at_most": at_most}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def read_environment(cls: type[T], environ: Mapping[str, str], prefix: str = PREFIX) -> T:
    """Fill the dataclass `cls` from `environ`; an empty variable counts as unset.

    Raises `ConfigError` with every missing or bad variable. Variables that no field asks for are
    no error: processes with different settings share one environment.
    """
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    faults: list[str] = []
    for each in fields(cls):  # type: ignore[arg-type]  # a type variable cannot say "dataclass"
        try:
            value = _read_field(each, hints[each.name], environ, prefix)
        except ConfigError as error:
            faults.append(str(error))
        else:
            if value is not MISSING:
                values[each.name] = value
    if faults:
        raise ConfigError("\n".join(faults))
    return cls(**values)


@contextmanager
def explained_exit(*also: type[Exception]) -> Iterator[None]:
    """End the process with status 1 and the message, not a traceback.

    Catches `ConfigError` and what the caller names beside it.
    """
    explained: tuple[type[Exception], ...] = (ConfigError, *also)
    try:
        yield
    except explained as error:
        raise SystemExit(f"error: {error}") from None


def _read_field(each: Field[Any], hint: Any, environ: Mapping[str, str], prefix: str) -> Any:
    """Return the field's value, or MISSING to leave it to the field's own default."""
    if isinstance(hint, type) and is_dataclass(hint):
        return read_environment(hint, environ, prefix)
    variable = prefix + each.name.upper()
    rule = _rule_of(each, hint)
    text = environ.get(variable, "")
    if text:
        return _read_value(variable, text, rule)
    if each.default is MISSING and each.default_factory is MISSING:
        raise ConfigError(f"{variable} is not set; allowed: {rule.allowed}")
    return MISSING


def _read_value(variable: str, text: str, rule: _Rule) -> Any:
    try:
        value = rule.parse(text)
        _check_range(value, rule)
    except ValueError as error:
        raise ConfigError(f"{variable}={text!r}: {error}; allowed: {rule.allowed}") from error
    return value


def _check_range(value: Any, rule: _Rule) -> None:
    if rule.at_least is not None and value < rule.at_least:
        raise ValueError(f"less than {rule.at_least}")
    if rule.at_most is not None and value > rule.at_most:
        raise ValueError(f"more than {rule.at_most}")


def _rule_of(each: Field[Any], hint: Any) -> _Rule:
    """Join what `setting(...)` declared with what the type says."""
    declared = each.metadata
    at_least, at_most = declared.get("at_least"), declared.get("at_most")
    if declared.get("parse") is not None:
        parse, allowed = declared["parse"], "see the documentation of the setting"
    else:
        parse, allowed = _parser_of(each.name, hint)
    allowed = declared.get("allowed") or allowed + _range_in_words(at_least, at_most)
    return _Rule(parse, allowed, at_least, at_most)


def _range_in_words(at_least: float | None, at_most: float | None) -> str:
    lower = "" if at_least is None else f" from {at_least}"
    upper = "" if at_most is None else f" up to {at_most}"
    return lower + upper


def _parser_of(name: str, hint: Any) -> tuple[Callable[[str], Any], str]:
    hint = _without_none(hint)
    if typing.get_origin(hint) is typing.Literal:
        return _choice({str(each): each for each in typing.get_args(hint)})
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _choice({str(each.value): each for each in hint})
    if hint in _PARSERS:
        return _PARSERS[hint]
    raise TypeError(f"{name}: no parser for {hint!r}; give one with setting(parse=...)")


def _without_none(hint: Any) -> Any:
    """Return X for `X | None`, anything else as it is."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    others = [each for each in typing.get_args(hint) if each is not types.NoneType]
    return others[0] if len(others) == 1 else hint


def _choice(values: Mapping[str, Any]) -> tuple[Callable[[str], Any], str]:
    def parse(text: str) -> Any:
        if text not in values:
            raise ValueError("not one of the choices")
        return values[text]

    return parse, ", ".join(values)


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("not a whole number") from None


def _parse_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _parse_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text == "true"


_PARSERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "any text"),
    int: (_parse_int, "a whole number"),
    float: (_parse_float, "a number"),
    bool: (_parse_bool, "true, false"),
    Path: (Path, "a path"),
}
