"""Text in columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def counted(number: int, thing: str) -> str:
    """'1 class', '2 classes': a number of things."""
    return f"{number:,} {thing}{'' if number == 1 else 'es' if thing.endswith('s') else 's'}"


def shortened(texts: Collection[str], most: int = 5, between: str = ", ") -> str:
    """The first of several texts, and how many more there are: 'a, b and 3 more'.

    Args:
        texts: all of them.
        most: how many are shown.
        between: each two of them.
    """
    return between.join(list(texts)[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, text: Collection[str] = ()) -> str:
    """Text in columns.

    Args:
        header: of each column.
        rows: their cells.
        text: headers of the columns that stand to the left, as the first one always does; the others stand to the right.
    """
    cells = [[str(value) for value in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    left = [i == 0 or name in text for i, name in enumerate(header)]
    lines = [
        "  ".join(
            value.ljust(width) if to_left else value.rjust(width)
            for value, width, to_left in zip(row, widths, left, strict=True)
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
