"""Settings are read once, and every bad one is named."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest

from meshkit.config import ConfigError, explained_exit, read_environment, setting


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def parse_pair(text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals:
        raise ValueError("has no '='")
    return left, right


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    listen: str = "127.0.0.1:0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    shared: Shared
    name: str
    count: int = setting(default=4, at_least=1, at_most=64)
    drain_s: float = setting(default=5.0, at_least=0)
    is_open: bool = False
    directory: Path | None = None
    clock: Literal["wall", "fixed"] = "wall"
    colour: Colour = Colour.RED
    pair: tuple[str, str] = setting(default=("a", "b"), parse=parse_pair, allowed="left=right")


def test_every_supported_type_is_read_from_its_variable() -> None:
    environ = {
        "RECMESH_NAME": "one",
        "RECMESH_COUNT": "64",
        "RECMESH_DRAIN_S": "0.5",
        "RECMESH_IS_OPEN": "true",
        "RECMESH_DIRECTORY": "/var/data",
        "RECMESH_CLOCK": "fixed",
        "RECMESH_COLOUR": "blue",
        "RECMESH_PAIR": "x=y",
        "RECMESH_LISTEN": "0.0.0.0:80",
    }

    settings = read_environment(Settings, environ)

    assert settings == Settings(
        shared=Shared(listen="0.0.0.0:80"),
        name="one",
        count=64,
        drain_s=0.5,
        is_open=True,
        directory=Path("/var/data"),
        clock="fixed",
        colour=Colour.BLUE,
        pair=("x", "y"),
    )


def test_unset_and_empty_variables_leave_the_defaults() -> None:
    settings = read_environment(Settings, {"RECMESH_NAME": "one", "RECMESH_COUNT": ""})

    assert settings == Settings(shared=Shared(), name="one")


def test_variables_that_no_field_asks_for_are_no_error() -> None:
    settings = read_environment(Shared, {"RECMESH_SOMETHING_ELSE": "1"})

    assert settings == Shared()


def test_another_prefix_reads_other_variables() -> None:
    settings = read_environment(Shared, {"OTHER_LISTEN": "x", "RECMESH_LISTEN": "y"}, "OTHER_")

    assert settings.listen == "x"


@pytest.mark.parametrize(
    ("variable", "value", "fault", "allowed"),
    [
        ("COUNT", "0", "less than 1", "a whole number from 1 up to 64"),
        ("COUNT", "65", "more than 64", "a whole number from 1 up to 64"),
        ("COUNT", "4.5", "not a whole number", "a whole number from 1 up to 64"),
        ("DRAIN_S", "nan", "not a finite number", "a number from 0"),
        ("DRAIN_S", "inf", "not a finite number", "a number from 0"),
        ("DRAIN_S", "soon", "not a number", "a number from 0"),
        ("DRAIN_S", "-1", "less than 0", "a number from 0"),
        ("IS_OPEN", "yes", "neither true nor false", "true, false"),
        ("CLOCK", "sundial", "not one of the choices", "wall, fixed"),
        ("COLOUR", "RED", "not one of the choices", "red, blue"),
        ("PAIR", "x", "has no '='", "left=right"),
    ],
)
def test_a_bad_value_is_named_with_its_variable_and_what_is_allowed(
    variable: str, value: str, fault: str, allowed: str
) -> None:
    environ = {"RECMESH_NAME": "one", f"RECMESH_{variable}": value}

    with pytest.raises(ConfigError) as caught:
        read_environment(Settings, environ)

    assert str(caught.value) == f"RECMESH_{variable}={value!r}: {fault}; allowed: {allowed}"


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read_environment(Settings, {"RECMESH_COUNT": "many"})

    first, second = str(caught.value).splitlines()
    assert first == "RECMESH_NAME is not set; allowed: any text"
    assert second.startswith("RECMESH_COUNT='many'")


def test_a_setting_without_default_is_required() -> None:
    @dataclass(frozen=True, slots=True)
    class Required:
        port: int = setting(at_least=1)

    with pytest.raises(ConfigError, match="RECMESH_PORT is not set; allowed: a whole number from"):
        read_environment(Required, {})


def test_a_type_without_parser_is_the_programmers_error() -> None:
    @dataclass(frozen=True, slots=True)
    class Odd:
        parts: list[str]

    with pytest.raises(TypeError, match=r"parts: no parser for list\[str\]"):
        read_environment(Odd, {"RECMESH_PARTS": "a,b"})


def test_a_config_error_ends_the_process_with_its_message() -> None:
    with pytest.raises(SystemExit) as caught, explained_exit():
        raise ConfigError("RECMESH_X is not set")

    assert caught.value.code == "error: RECMESH_X is not set"
