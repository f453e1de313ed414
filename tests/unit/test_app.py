"""The command line as a whole."""

import pytest
from typer.testing import CliRunner

from meshctl.app import COMMANDS, command_line
from meshctl.loopback import keep_loopback_off_proxies


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    result = CliRunner().invoke(command_line([name]), [name, "--help"])

    assert result.exit_code == 0
    assert f"meshctl {name}" in result.stdout


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(command_line([]), ["--help"])

    for name in COMMANDS:
        assert f" {name} " in result.stdout


def test_a_misspelt_command_is_refused_with_a_suggestion() -> None:
    result = CliRunner().invoke(command_line(["statu"]), ["statu"])

    assert result.exit_code == 2
    assert "status" in result.stderr


def test_loopback_joins_the_exceptions_of_an_office_proxy() -> None:
    environment = {"http_proxy": "http://proxy.test:3128", "NO_PROXY": "intranet.test"}

    keep_loopback_off_proxies(environment)

    assert environment["no_proxy"] == "intranet.test,127.0.0.1,localhost"
    assert environment["NO_PROXY"] == "intranet.test,127.0.0.1,localhost"


def test_grpcs_own_exceptions_get_loopback_too() -> None:
    environment = {"no_grpc_proxy": "intranet.test"}

    keep_loopback_off_proxies(environment)

    assert environment["no_grpc_proxy"] == "intranet.test,127.0.0.1,localhost"


def test_no_proxy_at_all_stays_no_proxy_at_all() -> None:
    environment = {"no_proxy": "*"}

    keep_loopback_off_proxies(environment)

    assert environment["no_proxy"] == "*"
