"""Fault descriptions, control files and the driver's side of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from meshctl.faults import Fault, FaultControl, FaultControlError, FaultKind, FaultLevel
from meshctl.faults.counts import Counts, counts_path
from meshctl.faults.fault import KINDS_OF
from meshctl.faults.order import Order, parse_order
from meshctl.json_file import write_json


def order_text(**fields: Any) -> str:
    return json.dumps({"generation": 1, "kind": "none", **fields})


@pytest.mark.parametrize(
    "fault",
    [
        Fault(),
        Fault(FaultKind.BLACK_HOLE),
        Fault(FaultKind.DELAY, delay_s=(0, 5)),
        Fault(FaultKind.SLOW, delay_s=(0.1, 0.1), share=0.02),
        Fault(FaultKind.THROTTLE, share=0.5),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_fault_written_is_the_fault_read(tmp_path: Path, fault: Fault) -> None:
    (level,) = [each for each in FaultLevel if fault.kind in KINDS_OF[each]][:1]
    control = FaultControl(tmp_path / "fault.json")

    control.set(fault)

    assert parse_order(control.path.read_text(), level) == Order(1, fault)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "it must be like"),
        ('{"kind": "none"}', "generation None; allowed: a whole number from 1"),
        (order_text(generation=True), "generation True"),
        (order_text(generation=0), "generation 0"),
        (order_text(kind="slow"), "kind 'slow'; allowed at level bytes: none, black_hole, reset"),
        (order_text(kind=["none"]), r"kind \['none'\]"),
        (order_text(kind="delay"), "delay_s is missing"),
        (order_text(kind="delay", delay_s=1), r"delay_s 1; allowed: \[lowest, highest\]"),
        (order_text(kind="delay", delay_s=["1", 2]), r"delay_s \['1', 2\]; allowed"),
        (order_text(kind="delay", delay_s=[2, 1]), "allowed: 0 <= lowest <= highest <= 600"),
        (order_text(kind="delay", delay_s=[0, float("nan")]), "delay_s .0, nan.; allowed"),
        (order_text(kind="reset", delay_s=[0, 1]), "reset takes none; allowed with: delay, slow"),
        (order_text(share=0.5), "none hits everything; allowed with: unavailable, slow"),
        (order_text(share="all"), "share 'all'; allowed: a number"),
        (order_text(share=1.5), "share 1.5; allowed: above 0 and up to 1"),
        (order_text(delay=[0, 1]), "delay: no such field; allowed: generation, kind, delay_s"),
    ],
)
def test_a_bad_control_file_is_refused_by_name_fault_and_limit(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_order(text, FaultLevel.BYTES)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "delay"}, "kind 'delay' is no fault; allowed: none, black_hole"),
        ({"kind": FaultKind.DELAY}, "delay_s is missing"),
        ({"kind": FaultKind.SLOW, "delay_s": (-1, 1)}, "delay_s .-1, 1.; allowed"),
        ({"kind": FaultKind.ERRORS, "share": 0}, "share 0; allowed"),
    ],
)
def test_a_bad_fault_cannot_be_made(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fault(**fields)


def test_a_new_driver_continues_where_the_last_one_ended(tmp_path: Path) -> None:
    path = tmp_path / "fault.json"
    FaultControl(path).clear()

    FaultControl(path).set(Fault(FaultKind.RESET))

    assert parse_order(path.read_text(), FaultLevel.BYTES).generation == 2


def test_a_new_driver_starts_above_what_a_running_proxy_has_applied(tmp_path: Path) -> None:
    path = tmp_path / "fault.json"
    write_json(counts_path(path), {"applied": 7})

    FaultControl(path).clear()

    assert parse_order(path.read_text(), FaultLevel.BYTES).generation == 8


def test_waiting_ends_when_the_proxy_says_so(tmp_path: Path) -> None:
    control = FaultControl(tmp_path / "fault.json")
    control.clear()
    write_json(counts_path(control.path), {"applied": 1})

    control.wait_applied(timeout_s=0)

    assert control.counts() == Counts(applied=1)


def test_waiting_without_a_proxy_is_an_error_that_says_so(tmp_path: Path) -> None:
    control = FaultControl(tmp_path / "fault.json")
    control.clear()

    with pytest.raises(FaultControlError, match=r"did not apply generation 1 within 0 s.*does it"):
        control.wait_applied(timeout_s=0)


def test_waiting_for_a_refused_fault_ends_with_the_reason(tmp_path: Path) -> None:
    control = FaultControl(tmp_path / "fault.json")
    control.clear()
    refusal = {"refused": "kind 'slow'; allowed: none", "refused_generation": 1}
    write_json(counts_path(control.path), refusal)

    with pytest.raises(FaultControlError, match="kind 'slow'; allowed: none"):
        control.wait_applied()


def test_counts_tell_calls_to_the_mesh_from_health_and_retries() -> None:
    counts = Counts(calls={"/recmesh.a/B": 5, "/grpc.health.v1.Health/Watch": 2}, retries=1)

    assert (counts.mesh_calls, counts.first_attempts) == (5, 4)
