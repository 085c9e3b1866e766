"""The layers before the prompt, where they stay as they are: each picture goes through them once, not once an episode."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from sp_edge import runs
from sp_edge.arrays import array_file, check_room, is_full
from sp_edge.errors import DataError, SettingsError
from sp_edge.model import PromptedNetwork
from sp_edge.settings.settings import AugmentSettings
from sp_edge.training.augment import augment

if TYPE_CHECKING:  # a ready-made network's export needs no accelerate
    from accelerate import Accelerator

_BATCH = 16
_FILES = ("kept-tokens.npy", "kept-features.npy")


def upper_parameters(network: PromptedNetwork) -> list[nn.Parameter]:
    """The parameters that the layers before the prompt do not use, in their order.

    Raises:
        SettingsError: there are none that an episode could train.
    """
    every = list(network.parameters())
    below = _below(network, every)
    upper = [parameter for parameter, used in zip(every, below, strict=True) if not used]
    text = [] if network.text_prototype is None else list(network.text_prototype.parameters())  # fitted, not trained
    if len(upper) == len(text):
        raise SettingsError(
            "nothing follows the prompt's layer that could be trained",
            expected="model.interaction other than none, or tune.cached_views=0",
            got="tune.cached_views above 0",
            next_step="--set tune.cached_views=0",
        )
    return upper


def _below(network: PromptedNetwork, parameters: list[nn.Parameter]) -> list[bool]:
    """Which parameters move what `begin` gives: those that a gradient of it reaches."""
    training, device = network.training, parameters[0].device
    network.eval()
    try:
        side = network.image_size
        tokens = network.begin(network.normalise(torch.zeros(1, side, side, 3, dtype=torch.uint8, device=device)))
        return [gradient is not None for gradient in torch.autograd.grad(tokens.sum(), parameters, allow_unused=True)]
    finally:
        network.train(training)


@contextmanager
def only_trained(network: PromptedNetwork, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Within the block, gradients reach these parameters of the network alone."""
    kept = {id(parameter) for parameter in parameters}
    others = [parameter for parameter in network.parameters() if id(parameter) not in kept and parameter.requires_grad]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


@dataclass(frozen=True, eq=False)
class Kept:
    """What the layers before the prompt gave of n pictures, each as it is and in V - 1 augmented views.

    Attributes:
        tokens: float16 (n, V, ...) of `network.begin`, mapped from a file that goes with them.
        features: float16 (n, V, D) of `network.finish` without a prompt, likewise; None where training would change them.

    The files lie in the run's folder until `drop_kept`.
    """

    tokens: NDArray[np.float16]
    features: NDArray[np.float16] | None

    @property
    def views(self) -> int:
        """V."""
        return int(self.tokens.shape[1])

    @property
    def queries(self) -> NDArray[np.float16]:
        """What is kept furthest on of pictures without a prompt: the features, or else the tokens."""
        return self.tokens if self.features is None else self.features


def keep(
    network: PromptedNetwork,
    images: NDArray[np.uint8],
    augmentation: AugmentSettings,
    *,
    views: int,
    seed: int,
    folder: Path,
    accelerator: Accelerator,
) -> Kept:
    """Takes pictures through the layers before the prompt, in eval mode. The first process does so, and all map its files.

    Args:
        images: uint8 (n, H, W, 3) RGB.
        seed: the same one gives the same views.
        folder: of the run, where the files are written.

    Raises:
        DataError: there is no room for the files, or a value is beyond float16.
        SettingsError: a process does not see the first one's files.
    """
    files = [folder / name for name in _FILES]
    if accelerator.is_main_process:
        drop_kept(folder)
        training = network.training
        network.to(accelerator.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        try:
            _fill(network, images, augmentation, views, seed, files)
        finally:
            network.train(training)
    accelerator.wait_for_everyone()
    try:
        return Kept(npy.open_memmap(files[0], mode="r"), npy.open_memmap(files[1], mode="r") if files[1].exists() else None)
    except FileNotFoundError as cause:
        raise SettingsError(
            f"the processes do not see the same {folder}", expected="one folder for all of them", got=str(cause)
        ) from cause


def drop_kept(folder: Path) -> None:
    """Removes what `keep` wrote into a run's folder, or a process that was killed meanwhile."""
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
        _part(folder / name).unlink(missing_ok=True)


def _part(file: Path) -> Path:
    return file.with_name(f".{file.name}.part")


def _fill(
    network: PromptedNetwork,
    images: NDArray[np.uint8],
    augmentation: AugmentSettings,
    views: int,
    seed: int,
    files: list[Path],
) -> None:
    """Writes both files, or the first alone; raises as `keep`."""
    with torch.inference_mode():
        first = _begun(network, images, augmentation, views, seed, 0)
    plain = network.finish(torch.from_numpy(first[0]).float().to(next(network.parameters()).device))
    given = [first] if plain.requires_grad else [first, _finished(network, first)]  # else nothing that is trained is in it
    shapes = [(len(images), *part.shape[1:]) for part in given]
    needed = 2 * sum(math.prod(shape) for shape in shapes)
    try:
        check_room(files[0].parent, needed)
        with ExitStack() as open_files:
            writers = [
                open_files.enter_context(array_file(file, _part(file), shape, np.float16))
                for file, shape in zip(files, shapes, strict=False)
            ]
            for start in tqdm(range(0, len(images), _BATCH), desc="lower layers", disable=None, mininterval=1.0):
                with torch.inference_mode():
                    begun = first if start == 0 else _begun(network, images, augmentation, views, seed, start)
                    parts = [begun] if len(writers) == 1 else [begun, _finished(network, begun)]
                for write, part in zip(writers, parts, strict=True):
                    write(part)
    except OSError as cause:
        full = is_full(cause)
        raise DataError(
            f"what the layers before the prompt give cannot be kept in {files[0].parent}",
            expected=f"room for {needed / 1e9:.2f} GB" if full else "a folder that can be written to",
            got=str(cause),
            next_step=_elsewhere(files[0].parent, max(0, views - 1)) if full else "",
        ) from cause


def _elsewhere(run: Path, views: int) -> str:
    """How to go on with another number of views, which is another run."""
    pretrained = run / runs.PRETRAINED
    start = f"--init {pretrained} " if pretrained.exists() else ""
    return f"train into another folder with {start}--set tune.cached_views={views}"


def _begun(
    network: PromptedNetwork, images: NDArray[np.uint8], augmentation: AugmentSettings, views: int, seed: int, start: int
) -> NDArray[np.float16]:
    """float16 (b, V, ...) of the pictures from `start` on."""
    batch = torch.from_numpy(np.array(images[start : start + _BATCH])).to(next(network.parameters()).device)
    chances = [np.random.default_rng([seed, 5, view, start]) for view in range(1, views)]
    seen = [batch, *(augment(batch, augmentation, chance) for chance in chances)]
    tokens = torch.stack([network.begin(network.normalise(pictures)) for pictures in seen], dim=1)
    half = tokens.half()
    if not bool(half.isfinite().all()):
        raise DataError(
            "the layers before the prompt give what float16 cannot hold",
            expected="numbers up to 65504",
            got="larger ones, or none",
            next_step="train into another folder with --set tune.cached_views=0",
        )
    return half.cpu().numpy()


def _finished(network: PromptedNetwork, begun: NDArray[np.float16]) -> NDArray[np.float16]:
    """float16 (b, V, D) of float16 (b, V, ...)."""
    tokens = torch.from_numpy(begun).flatten(0, 1).float().to(next(network.parameters()).device)
    with torch.inference_mode():
        features = network.finish(tokens).half().cpu().numpy()
    return features.reshape(*begun.shape[:2], -1)
