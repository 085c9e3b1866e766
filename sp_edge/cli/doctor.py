"""The command that looks at the machine: doctor."""

from __future__ import annotations

import json

import click

from sp_edge.cli.common import Command


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(context: click.Context, /, as_json: bool) -> None:
    """Look at this machine: what is there, what is missing, and how to mend it.

    Ends with 1 where something is missing without which nothing works; all else is optional.
    """
    from sp_edge_runtime.doctor import examine, is_well

    findings = examine()
    if as_json:
        click.echo(json.dumps({"ok": is_well(findings), "findings": [finding.to_json() for finding in findings]}, indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            click.echo(f"{finding.state:8}{finding.name:{width}}  {finding.found}")
            if finding.remedy:
                click.echo(f"{'':8}{'':{width}}  -> {finding.remedy}")
    context.exit(0 if is_well(findings) else 1)
