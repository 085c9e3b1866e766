"""The process that tries engines for another one, which `trials.measured` starts."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

from sp_edge.bundle.bundle import Bundle
from sp_edge_runtime.backends.devices import open_on_cpu
from sp_edge_runtime.backends.trials import tried


def main(text: str) -> None:
    """Prints a line of JSON for each form.

    Args:
        text: `bundle`, a path, and `forms`, pairs of device and precision, as JSON.
    """
    job = json.loads(text)
    bundle = Bundle.load(Path(job["bundle"]))
    for trial in tried(bundle, [(device, precision) for device, precision in job["forms"]], partial(open_on_cpu, bundle)):
        print(json.dumps(asdict(trial)), flush=True)
