"""Runs the demo's steps in order, each through the functions that the commands call, and keeps the time."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sp_edge import runs
from sp_edge.columns import table
from sp_edge.data import scenes, sets
from sp_edge.data.episodes import EpisodeSampler
from sp_edge.data.pictures import PictureSet
from sp_edge.demo.clock import Clock
from sp_edge.demo.photographs import show_photographs
from sp_edge.demo.report import AttentionPicture, EpisodePictures, Story, TaughtClass, write_report
from sp_edge.demo.strip import attention_strip, place_strip
from sp_edge.demo.video import Shot, write_video
from sp_edge.demo.watch import FPS, film, watch
from sp_edge.errors import SettingsError
from sp_edge.files import write_json
from sp_edge.matching.decide import cosine, prototype
from sp_edge.model.attention import attention_map, dependence_map
from sp_edge.pictures import load_image
from sp_edge.settings.settings import EvalSettings, Settings
from sp_edge.text import prompt_table
from sp_edge.training.checkpoint import Checkpoint, versions
from sp_edge.training.evaluate import WITH, WITHOUT, class_prompts, encode, evaluate
from sp_edge.training.run import train
from sp_edge_export.export import ExportOptions, export
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.streams.result import FrameResult

_log = logging.getLogger(__name__)
TAUGHT = 5
VIDEO = "stream.webm"
RESULTS = "results.jsonl"
ROWS = {"pretrained": "pre-trained only", "tuned": "tuned without prompts", "sp": "tuned with prompts (SP)"}
QUICK = ("data.per_class=4", "data.test_per_class=20", "pretrain.steps=60", "tune.steps=60")


def run_demo(out: Path, *, quick: bool = False) -> dict[str, Any]:
    """Runs everything and writes it below `out`.

    Returns:
        The content of `out`/summary.json.

    Raises:
        SettingsError: `out` is there and holds something else than an earlier demo.
    """
    if out.exists() and any(out.iterdir()) and not (out / "runs").is_dir():
        raise SettingsError(f"{out} is not empty and no earlier demo", expected="a new folder", next_step="--out FOLDER")
    (out / "runs").mkdir(parents=True, exist_ok=True)
    clock = Clock()
    pictures, shown = show_photographs(out / "photographs", clock, frames=12 if quick else 50)

    settings = Settings.load("scenes", QUICK if quick else ())
    plain = dataclasses.replace(settings, model=dataclasses.replace(settings.model, interaction="none"))

    with clock("data"):
        load = cache(partial(sets.load_split, settings, progress=True))
        base, novel = load("train"), load("test")
    with clock("prompts"):
        classes = sets.class_names(settings)
        every = [name for names in classes.values() for name in names]
        prompts = prompt_table(every, settings.text, base=classes["train"])
    with clock("train with prompts"):
        sp = train(settings, runs.new_run(out / "runs"), load=load, prompts=prompts)
    run = runs.newest(runs.CHECKPOINT, SettingsError, out / "runs").parent
    with clock("train without prompts"):
        tuned = train(plain, runs.new_run(out / "runs"), init=run / runs.PRETRAINED, load=load, prompts=prompts)
    networks = {"pretrained": Checkpoint.load(run / runs.PRETRAINED), "tuned": tuned, "sp": sp}
    with clock("evaluate"):
        accuracy = measure(networks, novel, episodes=100 if quick else 600)
    with clock("export"):
        bundle = export(sp, run / runs.BUNDLE, ExportOptions())
    with Recognizer.load(bundle.path) as recognizer:
        with clock("enroll"):
            taught = teach(recognizer, novel, out / "taught", run / runs.BANK)
        with clock("stream"):
            frames, watched = show(recognizer, novel.class_names, out, frames=12 if quick else 50)
    summary = {
        "photographs": shown,
        "accuracy": accuracy,
        "parity": {"stages": [dict(stage) for stage in bundle.manifest.stages]},
        "stream": watched,
        "seconds": clock.seconds,
        "settings": sp.settings.to_json(),
        "prompts": {"strength": sp.network.strength, "text_share": sp.network.text_share},
        "versions": versions(),
        "machine": {"processor": _processor(), "cores": os.cpu_count() or 1},
        "base_classes": len(sp.classes["train"]),
        "novel_classes": len(sp.classes["test"]),
        "base_pictures": len(base),
        "steps": {"pretrain": settings.pretrain.steps, "tune": settings.tune.steps},
        "checkpoint": str(run / runs.CHECKPOINT),
        "bundle": str(bundle.path),
        "bank": str(run / runs.BANK),
        "video": str(out / VIDEO),
        "results": str(out / RESULTS),
    }
    with clock("report"):
        story = Story(
            summary=summary,
            photographs=pictures,
            episode=episode_pictures(sp, tuned, novel),
            attention=attention_pictures(sp, novel),
            film=film(frames, 8),
            video=out / VIDEO,
            classes=taught,
        )
        write_report(out / "report.html", story)
        Image.fromarray(attention_strip(story.attention)).save(out / "attention.png")
        Image.fromarray(place_strip(pictures)).save(out / "places.png")
    write_json(out / "summary.json", summary)
    return summary


def measure(networks: dict[str, Checkpoint], novel: PictureSet, *, episodes: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Accuracy of every network on the novel classes: network -> shots -> group -> mean, interval, episodes."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    rows = []
    for name, checkpoint in networks.items():
        prompts = class_prompts(checkpoint.network, novel, checkpoint.prompts) if name == "sp" else None
        measured = evaluate(checkpoint.network, novel, prompts, EvalSettings(episodes=episodes))
        row = WITH if name == "sp" else WITHOUT
        rows.append([ROWS[name], *map(str, measured.rows()[row].values())])
        found[name] = measured.to_json()["rows"][row]
    header = ["", *(f"{shots}, {group}" for shots, groups in found["sp"].items() for group in groups)]
    _log.info(f"{len(novel.class_names)} novel classes, 5-way, {episodes} episodes, % with 95 % interval")
    _log.info(table(header, rows))
    return found


def teach(recognizer: Recognizer, novel: PictureSet, folder: Path, bank: Path) -> list[TaughtClass]:
    """Teaches five novel classes, each from one cluttered picture, which is first written to a file as a user has it."""
    folder.mkdir(exist_ok=True)
    cluttered = novel.only("clutter")
    taught = []
    for label in _some(len(novel.class_names), TAUGHT):
        name = novel.class_names[label]
        file = folder / f"{name}.png"
        Image.fromarray(cluttered.images[cluttered.labels == label][0]).save(file)
        image = load_image(file)
        recognizer.enroll(name, [image])
        taught.append(TaughtClass(name, image))
        _log.info(f"taught '{name}' from {file}")
    recognizer.save(bank)
    return taught


def show(recognizer: Recognizer, names: Sequence[str], out: Path, *, frames: int) -> tuple[list[FrameResult], dict[str, Any]]:
    """Draws a video in which the taught objects pass among others, and recognizes every frame of the file."""
    looks = {c.name: c for c in scenes.split_classes()["test"]}
    others = [name for name in names if name not in recognizer.bank.names]
    strangers = [others[i] for i in _some(len(others), 3)]
    order = [
        *recognizer.bank.names[:2],
        strangers[0],
        *recognizer.bank.names[2:4],
        strangers[1],
        recognizer.bank.names[4],
        strangers[2],
    ]
    truth = write_video(out / "camera.mp4", [Shot(looks[name], frames) for name in order], fps=FPS)
    return watch(recognizer, out / "camera.mp4", truth, out / RESULTS, out / VIDEO)


def episode_pictures(sp: Checkpoint, tuned: Checkpoint, novel: PictureSet) -> EpisodePictures:
    """One 5-way 1-shot episode in clutter, with what SP and the network without prompts made of its queries."""
    cluttered = novel.only("clutter")
    episode = EpisodeSampler(cluttered.labels, n_way=5, n_shot=1, n_query=2, seed=0).episode(0)
    support, query = episode.support[:, 0], episode.query.ravel()
    rows = np.concatenate([support, query])
    small = PictureSet(cluttered.images[rows], cluttered.labels[rows], novel.class_names, {})

    def predict(checkpoint: Checkpoint) -> list[int]:
        features = encode(checkpoint.network, small.images, class_prompts(checkpoint.network, small, sp.prompts))
        prototypes = np.stack([prototype(features.support[way : way + 1]) for way in range(5)])
        return [int(way) for way in cosine(features.query[5:], prototypes).argmax(axis=1)]

    return EpisodePictures(
        names=[novel.class_names[c] for c in episode.classes],
        support=small.images[:5],
        queries=small.images[5:],
        truth=[way for way in range(5) for _ in range(2)],
        with_prompts=predict(sp),
        without_prompts=predict(tuned),
    )


def attention_pictures(sp: Checkpoint, novel: PictureSet, count: int = 4) -> list[AttentionPicture]:
    """Where the network looks in cluttered support pictures of novel classes, without the prompt and with it."""
    cluttered = novel.only("clutter")
    pictures = []
    for label in _some(len(novel.class_names), count):
        image = cluttered.images[cluttered.labels == label][1]
        name = novel.class_names[label]
        prompt = sp.prompts.vector(name)
        plain, prompted = (dependence_map(sp.network, image, p) for p in (None, prompt))
        pictures.append(AttentionPicture(name, image, plain, prompted, attention_map(sp.network, image, prompt)))
    return pictures


def _some(count: int, wanted: int) -> list[int]:
    """Indices below `count`, drawn once and for all."""
    return [int(i) for i in np.random.default_rng(0).permutation(count)[:wanted]]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
