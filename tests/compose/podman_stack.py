"""The core profile of docker-compose.yml under podman: up, down, and what its containers say."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "recmesh-compose-test"
SERVERS = ("candidates-ann", "candidates-similar", "candidates-trending", "ranker", "gateway")
POLL_S = 0.5

T = TypeVar("T")


class StackError(Exception):
    """The stack does not do what it should; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack; `port` is the gateway's on loopback."""

    compose: str
    port: int

    def container(self, service: str) -> str:
        """Return the id of a service's container, running or not."""
        filters = (
            f"label=com.docker.compose.project={PROJECT}",
            f"label=com.docker.compose.service={service}",
        )
        options = [option for each in filters for option in ("--filter", each)]
        found = podman("ps", "--all", "--quiet", *options).split()
        if len(found) != 1:
            raise StackError(f"{service} has {len(found)} containers, not one")
        return found[0]

    def state(self, service: str) -> dict[str, Any]:
        """Return podman's record of a service's container."""
        record: dict[str, Any] = json.loads(podman("inspect", self.container(service)))[0]
        return record

    def start(self, *services: str) -> None:
        """Create and start services, without regard to what they depend on."""
        self.command("up", "--detach", "--no-build", "--no-deps", *services)

    def is_prepared(self) -> bool | None:
        """Return True when init has done its work, None before; raises StackError if it failed."""
        state = self.state("init")["State"]
        if state["Status"] != "exited":
            return None
        if state["ExitCode"] != 0:
            raise StackError(f"init ended with status {state['ExitCode']}")
        return True

    def is_healthy(self, service: str) -> bool:
        """Run the container's own health check, which podman does by itself only under systemd."""
        command = ["podman", "healthcheck", "run", self.container(service)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def run(self, service: str, code: str) -> str:
        """Run Python in a service's container and return what it prints."""
        return podman("exec", self.container(service), "python", "-c", code)

    def log(self, service: str) -> str:
        """Return what a service wrote to standard output and error."""
        command = ["podman", "logs", self.container(service)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        return run.stdout + run.stderr

    def crash(self, service: str) -> None:
        """Kill a container's process from outside: for podman it ended by itself."""
        os.kill(self.state(service)["State"]["Pid"], signal.SIGKILL)

    def command(self, *arguments: str) -> None:
        """Run podman-compose on this stack; raises StackError with what it printed."""
        environment = {**os.environ, "RECMESH_PORT": str(self.port)}
        options = ["--project-name", PROJECT, "--env-file", "deploy/compose/core.env"]
        # A build may need the registries that this machine reaches.
        options.append("--podman-build-args=--network=host")
        run = subprocess.run(
            [self.compose, *options, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if run.returncode:
            raise StackError(f"podman-compose {' '.join(arguments)} failed:\n{run.stdout[-4000:]}")


@contextmanager
def core_stack(compose: str) -> Iterator[Stack]:
    """Build and start the core profile; take everything down at the end, volumes too."""
    stack = Stack(compose, free_port())
    try:
        say("building the images")
        stack.command("build")
        # Podman 4 starts nothing whose dependency has ended, as init has, so the order is ours.
        say("starting DynamoDB and init, which trains on the synthetic world")
        stack.start("dynamodb", "init")
        wait_for("init has published a bundle", stack.is_prepared, within_s=300)
        say("starting the servers")
        stack.start(*SERVERS)
        yield stack
    except BaseException:
        _show_logs(stack)
        raise
    finally:
        say("taking everything down")
        stack.command("down", "--volumes", "--timeout", "15")


def podman(*arguments: str) -> str:
    """Run podman and return what it prints; raises StackError."""
    command = ["podman", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise StackError(f"podman {' '.join(arguments)}: {run.stderr.strip()[-2000:]}")
    return run.stdout


def wait_for(what: str, ask: Callable[[], T | None], *, within_s: float) -> T:
    """Return the first answer of `ask` that is not None; raises StackError when none came."""
    started_s = time.monotonic()
    while time.monotonic() < started_s + within_s:
        answer = ask()
        if answer is not None:
            say(f"{what}, after {time.monotonic() - started_s:.1f} s")
            return answer
        time.sleep(POLL_S)
    raise StackError(f"not within {within_s:g} s: {what}")


def say(text: str) -> None:
    """Print a line at once."""
    print(f"compose-test: {text}", flush=True)


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _show_logs(stack: Stack, services: Sequence[str] = ("init", *SERVERS)) -> None:
    for service in services:
        try:
            text = stack.log(service)[-1500:]
        except StackError as error:
            text = str(error)
        print(f"--- {service}\n{text}", file=sys.stderr)
