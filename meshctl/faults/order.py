"""The control file: what to inject from now on, as its driver writes and the proxy reads it.

It is a JSON object: `{"generation": 3, "kind": "delay", "delay_s": [0, 5]}`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshctl.faults.fault import KINDS_OF, NO_FAULT, Fault, FaultKind, FaultLevel


@dataclass(frozen=True, slots=True)
class Order:
    """One state of a control file; a higher `generation` is newer, 0 is that of no file."""

    generation: int = 0
    fault: Fault = NO_FAULT


NO_ORDER = Order()


def parse_order(text: str, level: FaultLevel) -> Order:
    """Read a control file for a proxy of `level`.

    Raises ValueError naming the field, its fault and what is allowed.
    """
    fields = _parse_object(text)
    unknown = fields.keys() - {"generation", "kind", "delay_s", "share"}
    if unknown:
        raise ValueError(
            f"{', '.join(sorted(unknown))}: no such field; "
            "allowed: generation, kind, delay_s, share"
        )
    generation = fields.get("generation")
    if type(generation) is not int or generation < 1:
        raise ValueError(f"generation {generation!r}; allowed: a whole number from 1")
    kind = fields.get("kind")
    allowed = KINDS_OF[level]
    if kind not in list(allowed):
        raise ValueError(f"kind {kind!r}; allowed at level {level}: {', '.join(allowed)}")
    return Order(
        generation,
        Fault(FaultKind(kind), _parse_delay(fields.get("delay_s")), _parse_share(fields)),
    )


def generation_in(text: str) -> int:
    """Return the generation that a control file claims, good or bad; 0 when it claims none."""
    try:
        generation = _parse_object(text).get("generation")
    except ValueError:
        return 0
    return generation if type(generation) is int else 0


def _parse_object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as exc:  # the latter: brackets nested by the thousand
        raise ValueError(f"it is not JSON: {exc}") from exc
    if not isinstance(fields, dict):
        raise ValueError('it must be like {"generation": 1, "kind": "none"}')  # noqa: TRY004 - the file's fault
    return fields


def _parse_delay(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):  # noqa: PLR2004 - low and high
        raise ValueError(f"delay_s {value!r}; allowed: [lowest, highest] in seconds")
    return float(value[0]), float(value[1])


def _parse_share(fields: Mapping[str, Any]) -> float:
    share = fields.get("share", 1.0)
    if not _is_number(share):
        raise ValueError(f"share {share!r}; allowed: a number above 0 and up to 1")
    return float(share)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
