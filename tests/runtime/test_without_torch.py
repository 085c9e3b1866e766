"""The runtime works where none of training's packages is installed."""

import subprocess
import sys
from pathlib import Path

from without_training import BLOCK

PROGRAM = (
    BLOCK
    + """
import pkgutil
from pathlib import Path

import sp_edge_runtime
modules = [m.name for m in pkgutil.walk_packages(sp_edge_runtime.__path__, "sp_edge_runtime.")]
for name in modules:
    importlib.import_module(name)
assert "cv2" not in sys.modules, "OpenCV is for cameras alone"
assert "av" not in sys.modules, "PyAV is for videos and network streams alone"

from sp_edge.pictures import load_image
from sp_edge_runtime.recognizer import Recognizer

bundle, pictures = sys.argv[1:]
with Recognizer.load(bundle, device="cpu") as recognizer:
    for path in sorted(Path(pictures).glob("*.png")):
        recognizer.enroll(path.stem.split()[1], [load_image(path)])
    print([result.prediction.label for result in recognizer.stream(pictures)])
print(sorted(modules))
"""
)


def test_every_module_imports_and_the_toy_bundle_recognizes(toy_bundle: Path, toy_pictures: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(toy_bundle), str(toy_pictures)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    labels, modules = ran.stdout.splitlines()
    assert labels == "['red', 'green', 'blue']"
    root = Path(__file__).parents[2] / "runtime"
    files = [path.relative_to(root).with_suffix("") for path in (root / "sp_edge_runtime").rglob("*.py")]
    names = [".".join(file.parts).removesuffix(".__init__") for file in files]
    assert modules == str(sorted(set(names) - {"sp_edge_runtime"}))
