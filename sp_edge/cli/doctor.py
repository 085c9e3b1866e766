"""The command that looks at the machine: doctor."""

from __future__ import annotations

from pathlib import Path

import click

from sp_edge.cli.common import Command
from sp_edge.cli.shared import json_option


@click.command(cls=Command)
@json_option("all findings")
@click.pass_context
def doctor(context: click.Context, /, json_file: Path | None) -> None:
    """Say what is missing on this machine, and how to fix it.

    The exit code is 1 if something that sp-edge needs is missing. Everything else is optional.
    """
    from sp_edge.files import write_json
    from sp_edge_runtime.doctor.doctor import examine, is_well

    findings = examine()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        click.echo(f"{finding.state:8}{finding.name:{width}}  {finding.found}")
        if finding.remedy:
            click.echo(f"{'':8}{'':{width}}  -> {finding.remedy}")
    if json_file:
        write_json(json_file, {"ok": is_well(findings), "findings": [finding.to_json() for finding in findings]})
    context.exit(0 if is_well(findings) else 1)
