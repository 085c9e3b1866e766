"""Looks at a machine for all that sp-edge may need, and says of what is wrong how to mend it there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sp_edge_runtime.doctor.cameras import cameras, gstreamer, opencv, pyav, pygobject
from sp_edge_runtime.doctor.finding import MISSING, Finding, Host
from sp_edge_runtime.doctor.machine import disk, fastest, gpu, jetson, memory, power, python
from sp_edge_runtime.doctor.packages import cuda_bindings, extras, onnxruntime, packages, tensorrt


def examine(host: Host | None = None) -> list[Finding]:
    """All findings, in the order in which a reader wants them."""
    probes: Iterable[Callable[[Host], Iterable[Finding]]] = (
        python,
        jetson,
        packages,
        extras,
        onnxruntime,
        fastest,
        gpu,
        tensorrt,
        cuda_bindings,
        memory,
        disk,
        power,
        pyav,
        opencv,
        gstreamer,
        pygobject,
        cameras,
    )
    seen = host or Host()
    return [finding for probe in probes for finding in probe(seen)]


def is_well(findings: Iterable[Finding]) -> bool:
    """Whether nothing that is needed is missing."""
    return not any(finding.needed and finding.state == MISSING for finding in findings)
