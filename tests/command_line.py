"""The commands of a group, which imports them when they are asked for."""

from __future__ import annotations

import click


def commands(group: click.Group) -> dict[str, click.Command]:
    """Name -> command, in the group's order."""
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}
