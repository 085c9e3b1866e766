"""Writes docs/measurements/benchmarks.md, and the table of speed in README.md, from the JSON files beside the page.

    python benchmarks/tables.py

These wrote the files:

    sp-edge bench ready.spedge --data pictures --json docs/measurements/bench.json
    python benchmarks/peers.py ready.spedge --json docs/measurements/peers.json
    OPENBLAS_NUM_THREADS=1 python benchmarks/stream.py ready.spedge --json docs/measurements/around.json
    OPENBLAS_NUM_THREADS=1 python benchmarks/profiles.py ready.spedge --json docs/measurements/profiles.json

The processor's model and the places of files are taken out of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sp_edge.errors import DataError
from sp_edge.files import read_json, write_bytes, write_json
from sp_edge_runtime.bench.figures import columns
from sp_edge_runtime.bench.provenance import processor_words

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "measurements"
PAGE = FOLDER / "benchmarks.md"
REPORTS = ("bench", "peers", "around")
FILES = (*REPORTS, "profiles")
BEGIN, END = "<!-- speed: written by benchmarks/tables.py -->", "<!-- /speed -->"
MOST_BUSY = 0.1  # share of the processor's time that other work may take when a measurement begins
BESIDE = (
    "**Other work ran on the cores at the same time.** Do not rely on milliseconds. PyTorch's threads wait for one another,\n"
    "and lose much more by other work than ONNX Runtime and OpenVINO do. So their ratios to it look too good."
)

# Why a goal was missed, with figures of `benchmarks/profiles.py` in braces.
_PROTOTYPES = "every prototype is read once a frame, {} for {} classes of 1280 numbers; memory is the limit."
REASONS: Mapping[str, str] = {
    "pipeline around the network, of its time": "{preprocess[filter]} % of the preprocessing is Pillow's antialiased filter.",
    "preprocessing of 1280x720": "{preprocess[filter]} % is Pillow's antialiased filter.",
    "decoding H.264, over OpenCV": (
        "{decode[decoder]} % is the decoder, {decode[colors]} % makes RGB of its frames, in the colors that the file declares."
    ),
    "enrollment of a shot, over the network": (
        "the network takes {enroll[network]} %, Pillow's filter {enroll[filter]} %, the bank's JPEG {enroll[jpeg]} %, and the "
        "metric {enroll[metric]} %."
    ),
    "95th percentile while taught, over that without": "a frame that meets an enrollment shares the cores with it.",
    "matching 10,000 classes, of the network": _PROTOTYPES.format("51 MB", "10,000"),
    "matching 100,000 classes, of the network": _PROTOTYPES.format("512 MB", "100,000"),
    "process start to first label": (
        "of the processor's time, imports take {start_percent[imports]} %, checking and hashing the bundle "
        "{start_percent[hashing]} %, opening the engine {start_percent[engine]} %, the metric and what is known of names "
        "{start_percent[metric]} %, and the first picture {start_percent[network]} %."
    ),
    "memory of a stream": (
        "{memory_mb[imports]} MB are Python and its libraries, {memory_mb[engine]} MB the engine when it is opened, and "
        "{memory_mb[network]} MB more with its first picture."
    ),
    "processor at 30 frames a second, over the network's own": "83 MB a second come through a pipe, and are resized.",
}


def reports() -> dict[str, dict[str, Any]]:
    """The committed files."""
    return {name: read_json(FOLDER / f"{name}.json", DataError) for name in FILES}


def cleaned(report: dict[str, Any]) -> dict[str, Any]:
    """A report that names no machine and no place."""
    told = report["provenance"]
    told["processor"].pop("model", None)
    told["command"] = " ".join(Path(word).name if word.startswith("/") else word for word in told["command"].split())
    return report


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def where(report: Mapping[str, Any]) -> str:
    """The command as a block, and on what it ran."""
    told = report["provenance"]
    versions = told["versions"]
    named = [name for name in ("onnxruntime", "openvino", "torch", "timm") if name in versions]
    packages = ", ".join(f"{name} {versions[name]}" for name in named)
    return f"    {told['command']}\n\n{told['date']}, {processor_words(told['processor'])}.\n{packages}."


def busy(report: Mapping[str, Any]) -> bool:
    """Whether other work ran beside the measurement when it began."""
    return bool((report["provenance"]["busy"] or 0) > MOST_BUSY)


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    return "\n\n".join(_parts(found)) + "\n"


def _parts(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    bench, peers, around = (found[name] for name in REPORTS)
    yield "# How fast is it?"
    yield (
        "`python benchmarks/tables.py` writes this page from [bench.json](bench.json), [peers.json](peers.json) and\n"
        "[around.json](around.json). The network is the ready-made one, EfficientNet-Lite0 at 224 pixels. All is from a CPU.\n"
        "`python benchmarks/gpu.py` is prepared for a GPU. It was not yet run on one."
    )
    if any(map(busy, (bench, peers, around))):
        yield BESIDE
    yield "## Every engine and precision"
    yield where(bench)
    yield markdown(*columns(bench))
    yield (
        "The help of `sp-edge bench` says what the columns are. Engines took turns. These could not be used there:\n\n"
        + "\n".join(f"- {', '.join(names)}: {reason}" for reason, names in bench["missing"].items())
    )
    yield "## Against what a user would do without sp-edge"
    yield where(peers)
    yield (
        "The same network with the same weights, on the same photographs. A ratio is to the first row, round by round: its\n"
        "median, and the quartiles in brackets. Below 1 is faster. First the network alone, with one picture and with eight:"
    )
    networks = peers["networks"]
    cosines = networks["cosine_to_eager"]
    rows = [
        [name, *_taken(one), *_taken(networks["batch_8"].get(name)), f"{cosines[name]:.4f}" if name in cosines else "-"]
        for name, one in networks["batch_1"].items()
    ]
    yield markdown(["way", "one, ms", "ratio", "eight, ms", "ratio", "cosine to eager"], rows)
    yield (
        "ONNX Runtime's threads wait for the next picture by spinning. That is fastest where one picture follows the other at\n"
        "once, as here, and takes both cores where a camera lets them wait. sp-edge stops them after each picture, so its\n"
        "fp32 is slower here than plain ONNX."
    )
    first = networks["compile_first_result_s"]
    if first is not None:
        yield f"torch.compile gave its first result after {first:.0f} s; another batch size would compile again."
    yield "Five classes taught with one picture each, and one picture recognized, from files to the label:"
    yield markdown(["way", "ms", "ratio"], [[_short(name), *_taken(one)] for name, one in peers["few_shots"].items()])
    yield (
        "easyfsl's `PrototypicalNetworks` gets the pictures alone. sp-edge teaches with names, fits the metric, keeps each\n"
        "picture, and can say `unknown`."
    )
    yield "A video of 1280x720, from the file to a label for each frame, milliseconds a frame:"
    yield markdown(["way", "ms", "ratio"], [[_short(name), *_taken(one)] for name, one in peers["video"].items()])
    yield (
        "The first way is a short loop without sp-edge: OpenCV reads, timm's transform and network encode, the nearest cosine\n"
        "decides."
    )
    yield "## Around the network"
    yield where(around)
    for one in around["bundles"]:
        yield f"{_short(one['title'])}:"
        rows = [
            [
                goal["what"],
                *(f"{text} {goal['unit']}".strip() for text in (f"{goal['measured']:.3g}", f"<= {goal['at_most']:g}")),
            ]
            for goal in one["goals"]
        ]
        verdicts = ["met" if goal["met"] else "missed" for goal in one["goals"]]
        yield markdown(["", "measured", "goal", ""], [[*row, verdict] for row, verdict in zip(rows, verdicts, strict=True)])
        missed = [goal["what"] for goal in one["goals"] if not goal["met"] and goal["what"] in REASONS]
        if missed:
            reasons = (f"- **{what[0].upper()}{what[1:]}:** {REASONS[what].format(**found['profiles'])}" for what in missed)
            told = found["profiles"]["provenance"]
            yield f"Why those were missed, by `{told['command']}` on {told['date']}:\n\n" + "\n".join(reasons)


def _short(title: str) -> str:
    """An engine's title without what it says of the golden pictures."""
    return title.partition(" (golden")[0]


def _taken(one: Mapping[str, Any] | None) -> tuple[str, str]:
    if one is None:
        return "-", "-"
    ratio = one["ratio"]
    return f"{one['ms']['median']:.1f}", f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def readme(found: Mapping[str, Mapping[str, Any]]) -> str:
    """README's table of speed, between its two marks; it waits for a quiet machine, since it claims something."""
    peers = found["peers"]
    if busy(peers):
        return "[How fast it is](docs/measurements/benchmarks.md), against what you would do without it."
    cores = peers["provenance"]["processor"]["cores"]
    networks = peers["networks"]["batch_1"]
    fastest = min((name for name in networks if name.startswith("sp-edge")), key=lambda name: networks[name]["ms"]["median"])
    rows = []
    for what, part, (base, way) in (
        ("the network, one picture", networks, ("timm, eager", fastest)),
        ("5 classes taught, one picture recognized", peers["few_shots"], tuple(peers["few_shots"])),
        ("a frame of a video, 1280x720", peers["video"], tuple(peers["video"])),
    ):
        theirs, ours = part[base], part[way]
        taken = [f"{one['ms']['median']:.0f}" for one in (theirs, ours)]
        rows.append([what, base, taken[0], _short(way).removeprefix("sp-edge, "), taken[1], f"{ours['ratio']['median']:.2f}"])
    on = f"milliseconds on {cores} CPU core{'s' * (cores != 1)}"
    measured = "[How it was measured, and what other engines take](docs/measurements/benchmarks.md)."
    return f"{markdown([on, 'without sp-edge', '', 'sp-edge', '', 'ratio'], rows)}\n\n{measured}"


def with_speed(text: str, speed: str) -> str:
    """README with its table of speed."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{speed}\n\n{END}{tail}"


def main() -> None:
    for name in FILES:
        write_json(FOLDER / f"{name}.json", cleaned(read_json(FOLDER / f"{name}.json", DataError)))
    found = reports()
    write_bytes(PAGE, page(found).encode())
    file = ROOT / "README.md"
    write_bytes(file, with_speed(file.read_text("utf-8"), readme(found)).encode())


if __name__ == "__main__":
    main()
