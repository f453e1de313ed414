"""Network addresses as text: `host:port`, an IPv6 host in brackets."""

import ipaddress

MAX_PORT = 65_535
ALLOWED = f"host:port, a port from 0 to {MAX_PORT}, an IPv6 host in brackets"


def split_address(address: str) -> tuple[str, int]:
    """Return host, without brackets, and port of `address`; ValueError says what is wrong."""
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{address!r} is not {ALLOWED}")
    if not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise ValueError(f"{address!r} has no port from 0 to {MAX_PORT}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{address!r} needs its IPv6 host in brackets")
    return host.removeprefix("[").removesuffix("]"), int(port)


def parse_address(text: str) -> str:
    """Return `text` when it is an address, for use with `meshkit.config.setting`."""
    split_address(text)
    return text


def with_port(address: str, port: int) -> str:
    """Return `address` with `port` in place of its own."""
    return f"{address.rpartition(':')[0]}:{port}"


def is_numeric(address: str) -> bool:
    """Tell whether the host of `address` is an IP address, and so one server and no name."""
    try:
        ipaddress.ip_address(split_address(address)[0])
    except ValueError:
        return False
    return True
