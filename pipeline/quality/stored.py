"""Stored evaluations: read back from the report of the bundle that training evaluated."""

from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from meshkit.bundles import Bundle, BundleError
from pipeline.bundle_report import REPORT_FILE, report_of
from pipeline.quality.curves import steps_taken
from pipeline.quality.evaluation import Evaluation

KEY = "evaluation"
"""Of a report."""
PLAIN: Mapping[type, tuple[type, ...]] = {
    int: (int,),
    float: (float, int),
    str: (str,),
    type(None): (type(None),),
}
"""What JSON may hold where a field has the type."""


def stored_evaluation(bundle: Bundle) -> Evaluation:
    """Return the evaluation in a bundle's report. Raises BundleError when it holds none."""
    report = report_of(bundle)
    if KEY not in report:
        raise BundleError(
            f"{bundle.version} holds no evaluation: train with --evaluate, or evaluate it now, "
            "--against DIR"
        )
    try:
        evaluation = evaluation_of(report[KEY])
        return replace(evaluation, version=bundle.version, steps=steps_taken(report))
    except (ValueError, TypeError) as exc:
        raise BundleError(f"{bundle.path / REPORT_FILE}: {exc}") from exc


def evaluation_of(value: object) -> Evaluation:
    """Return what `Evaluation.to_json` wrote. Raises ValueError naming what is no part of one."""
    evaluation: Evaluation = _read(Evaluation, value, KEY)
    return evaluation


def _read(kind: Any, value: object, where: str) -> Any:
    """Return a JSON value as a value of a field's type."""
    if is_dataclass(kind):
        return _read_fields(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return _read(arguments[1] if value is None else arguments[0], value, where)
    if origin is tuple:
        return tuple(
            _read(arguments[0], each, f"{where}[{place}]")
            for place, each in enumerate(_of(list, value, where))
        )
    if origin is Mapping:
        return {
            name: _read(arguments[1], each, f"{where}.{name}")
            for name, each in _of(dict, value, where).items()
        }
    return _of(PLAIN[kind], value, where)


def _read_fields(kind: Any, value: object, where: str) -> Any:
    given, types = _of(dict, value, where), get_type_hints(kind)
    for fault, names in (("lacks", types.keys() - given), ("has unknown", given.keys() - types)):
        if names:
            raise ValueError(f"{where} {fault} {min(names)!r}")
    return kind(**{name: _read(types[name], given[name], f"{where}.{name}") for name in types})


def _of(allowed: type | tuple[type, ...], value: Any, where: str) -> Any:
    # A bool is an int to Python; no field is one.
    if isinstance(value, bool) or not isinstance(value, allowed):
        fault = f"{where} is {repr(value)[:80]}, which is no part of an evaluation"
        raise ValueError(fault)  # noqa: TRY004 - the file's fault, not our caller's
    return value
