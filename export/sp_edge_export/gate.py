"""Lets each stage of an export pass or not; of one that does not, a report is left that names the worst layer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sp_edge
from sp_edge.errors import ExportError
from sp_edge.files import write_json
from sp_edge.precisions import limits_of
from sp_edge_export.layers import LayerError, worst
from sp_edge_export.verify import Parity

KIND = "sp-edge export report"
SCHEMA = 1
_log = logging.getLogger(__name__)
SUFFIX = ".failed.json"


def report_of(out: Path) -> Path:
    """Where the report of a failed export to `out` stands."""
    return out.with_name(out.name + SUFFIX)


@dataclass
class Gate:
    """Measured stages. Each has passed, but for such as only stand beside another.

    Attributes:
        out: the bundle that is being made; the report stands beside it.
        max_drop: accuracy, 0 to 1, that a stage may lose against the one before.
        stages: what the manifest records: what was asked, what was measured, and whether it passed.
    """

    out: Path
    max_drop: float
    stages: list[dict[str, Any]] = field(default_factory=list)

    def judge(self, parity: Parity, details: Mapping[str, Any] | None = None) -> ExportError | None:
        """Judges a stage and records it.

        Args:
            parity: against the stage before.
            details: what else is known of the stage, such as what stayed float32.

        Returns:
            Why it does not pass; None where it does.
        """
        _log.info(str(parity))
        failure = parity.failure(self.max_drop)
        limits = limits_of(parity.stage)
        asked = {name: getattr(limits, name) for name in ("cosine_mean", "cosine_min", "plain_cosine_min")}
        judged = {"asked": asked | {"max_drop": self.max_drop}, "passed": failure is None}
        self.stages.append(parity.to_json() | judged | dict(details or {}))
        return failure

    def admit(self, parity: Parity, layers: Callable[[], list[LayerError]], details: Mapping[str, Any] | None = None) -> None:
        """Lets a stage pass.

        Args:
            parity: against the stage before.
            layers: compares the two layer by layer; is asked only where the stage does not pass.
            details: what else is known of the stage, such as what stayed float32.

        Raises:
            ExportError: it does not pass. The report, beside `out`, says all that was measured.
        """
        failure = self.judge(parity, details)
        if failure is None:
            return
        errors = layers()
        culprit = worst(errors)
        report = report_of(self.out)
        content = {
            "kind": KIND,
            "schema": SCHEMA,
            "sp_edge": sp_edge.__version__,
            "failed": {"stage": parity.stage, "what": failure.what, "expected": failure.expected, "got": failure.got},
            "max_drop": self.max_drop,
            "worst_layer": None if culprit is None else culprit.to_json(),
            "stages": self.stages,
            "layers": [error.to_json() for error in errors],
        }
        write_json(report, content)
        named = f"; worst layer: {culprit.layer}, relative error {culprit.error:.3g}" if culprit else ""
        raise ExportError(
            failure.what,
            expected=failure.expected,
            got=failure.got + named,
            next_step=f"{failure.next_step + '; ' if failure.next_step else ''}every figure is in {report}",
        )
