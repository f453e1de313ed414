"""DynamoDB without an account: moto's server as a process of its own, on loopback, in memory.

`python -m meshctl.embedded_dynamodb` serves at `RECMESH_LISTEN` until it is told to end, and
writes the address that it serves at to `RECMESH_ADDRESS_FILE`. `RECMESH_EMBEDDED_SERVICE=s3` has it
serve S3 instead, for the tests of bundle stores.
"""

import ipaddress
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Literal, Self, cast, get_args

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

START_DEADLINE_S = 60.0
"""How long the server may take to answer; about 2 s on two idle cores, on busy ones ten times."""
STOP_DEADLINE_S = 5.0
"""How long it may take to end before it is killed; it has nothing to save."""
DEFAULT_LISTEN = "127.0.0.1:0"
_POLL_S = 0.02

Service = Literal["dynamodb", "s3"]


class EmbeddedDynamodbError(Exception):
    """The embedded DynamoDB did not start; the message says why."""


class EmbeddedDynamodb:
    """The server as a child of this process, for the length of a `with` block.

    It ends with this process, however that ends (on Linux; elsewhere unless this one is killed).
    `log_path` receives what the server prints; None drops it.
    """

    def __init__(
        self,
        *,
        service: Service = "dynamodb",
        deadline_s: float = START_DEADLINE_S,
        log_path: Path | None = None,
    ) -> None:
        self._service = service
        self._deadline_s = deadline_s
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""
        """`host:port`, empty unless it runs."""

    @property
    def endpoint(self) -> str:
        """The URL for a client."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int | None:
        """The server's process id; None unless it runs."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return when it listens; raises EmbeddedDynamodbError."""
        with tempfile.TemporaryDirectory(prefix="recmesh-dynamodb-") as directory:
            address_file = Path(directory) / "address"
            self._process = self._spawn(address_file)
            try:
                self.address = self._wait_for_address(self._process, address_file)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the server and everything it holds. Without effect when it does not run."""
        process, self._process, self.address = self._process, None, ""
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _spawn(self, address_file: Path) -> subprocess.Popen[bytes]:
        # meshctl.child ties the server's life to ours.
        module = ["meshctl.child", str(os.getpid()), "0", "meshctl.embedded_dynamodb"]
        environment = {
            **os.environ,
            "RECMESH_LISTEN": DEFAULT_LISTEN,
            "RECMESH_ADDRESS_FILE": str(address_file),
            "RECMESH_EMBEDDED_SERVICE": self._service,
        }
        with Path(self._log_path or os.devnull).open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-P", "-m", *module],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C is ours to act on
            )

    def _wait_for_address(self, process: subprocess.Popen[bytes], address_file: Path) -> str:
        ends_s = time.monotonic() + self._deadline_s
        while not address_file.exists():
            if process.poll() is not None:
                raise EmbeddedDynamodbError(
                    f"the embedded DynamoDB ended with status {process.returncode} "
                    f"before it served; its output: {self._log_path or 'not kept'}"
                )
            if time.monotonic() > ends_s:
                raise EmbeddedDynamodbError(
                    f"the embedded DynamoDB did not serve within {self._deadline_s:g} s"
                )
            time.sleep(_POLL_S)
        return address_file.read_text(encoding="ascii").strip()


class _QuietHandler(WSGIRequestHandler):
    """Serves without a line of log for each request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def serve(listen: str, address_file: Path | None, service: Service = "dynamodb") -> None:
    """Serve at `listen` (`host:port`, port 0 for any) until SIGTERM or SIGINT.

    Only loopback is allowed, since the server asks nobody for credentials: raises
    EmbeddedDynamodbError for another host, and for an address that cannot be listened at.
    """
    host, port = _parse_listen(listen)
    # The app is made first: once the port is open the first request is answered at once.
    app = create_backend_app(service)
    try:
        server = make_server(host, port, app, threaded=True, request_handler=_QuietHandler)
    except (OSError, SystemExit) as exc:
        raise EmbeddedDynamodbError(f"RECMESH_LISTEN {listen} cannot be used: {exc}") from exc
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    if address_file is not None:
        _write_address(address_file, f"{host}:{server.server_port}")
    server.serve_forever()


def _parse_listen(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
        number = int(port)
    except ValueError as exc:
        raise EmbeddedDynamodbError(f"RECMESH_LISTEN {listen!r} is not IP:PORT") from exc
    if not is_loopback:
        raise EmbeddedDynamodbError(f"RECMESH_LISTEN {listen!r}: only loopback is allowed")
    return host, number


def _parse_service(name: str) -> Service:
    if name not in get_args(Service):
        raise EmbeddedDynamodbError(f"RECMESH_EMBEDDED_SERVICE {name!r} is not dynamodb or s3")
    return cast("Service", name)


def _write_address(path: Path, address: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(address + "\n", encoding="ascii")
    unfinished.replace(path)


def _end(_number: int, _frame: FrameType | None) -> None:
    # At once: there is nothing to save, and handler threads may be in the middle of an answer.
    os._exit(0)


def main() -> None:
    """Serve as the environment says."""
    address_file = os.environ.get("RECMESH_ADDRESS_FILE")
    try:
        serve(
            os.environ.get("RECMESH_LISTEN", DEFAULT_LISTEN),
            Path(address_file) if address_file else None,
            _parse_service(os.environ.get("RECMESH_EMBEDDED_SERVICE", "dynamodb")),
        )
    except EmbeddedDynamodbError as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
