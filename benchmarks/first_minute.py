"""Times the way from the built wheel in an empty environment to a thing that is recognized on the page, in a real browser.

    python benchmarks/first_minute.py --bundle ready.spedge

The camera is a looped video of the shipped photographs. Each step is printed with its seconds. Those of a person are from the
open page on: type a name, hold the button for a second, and see the next frame recognized. The environment goes at the end.
Without `--bundle`, `sp-edge ready` makes one in the same environment; its extra downloads torch.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from page import write_video
from playwright.sync_api import sync_playwright

from sp_edge.columns import table
from sp_edge.files import write_json

ROOT = Path(__file__).parents[1]
HELD = 1.0  # seconds
NAME = "coffee cup"  # what the video shows first


class Steps:
    """What took how long."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times what follows, and prints it at once."""
        began = time.perf_counter()
        yield
        self.taken[name] = time.perf_counter() - began
        print(f"{self.taken[name]:7.1f} s  {name}", flush=True)


def run(*command: str | Path, cwd: Path) -> None:
    """Runs a command; PYTHONPATH would lead it back to the source tree."""
    subprocess.run(command, cwd=cwd, env=clean_environment(), check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own


def clean_environment() -> dict[str, str]:
    """Without what leads back to the source tree."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def on_the_page(steps: Steps, address: str, chromium: str) -> None:
    """What a person does once the page's address is printed."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        with steps.step("open the page until the picture is there"):
            page.goto(address)
            page.wait_for_function("() => document.getElementById('picture').naturalWidth > 0")
        with steps.step("person: type the name"):
            page.click("#name")
            page.keyboard.type(NAME, delay=150)
        with steps.step("person: hold the button until it is learned"):
            page.hover("#hold")
            page.mouse.down()
            page.wait_for_timeout(1000 * HELD)
            page.mouse.up()
            page.wait_for_selector("#told .undo")
        with steps.step("person: see it recognized"):
            page.wait_for_function("name => document.getElementById('label').textContent === name", arg=NAME)
        browser.close()


def main() -> None:
    """Runs the way once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="take this bundle instead of making the ready-made one")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium", help="the browser's program")
    parser.add_argument("--json", type=Path, help="write the seconds here, too")
    given = parser.parse_args()
    steps = Steps()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_video(folder / "things.mp4")
        with steps.step("build the wheel"):
            run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
        (wheel,) = folder.glob("*.whl")
        with steps.step("make an empty environment"):
            venv.create(folder / "env", with_pip=True)
        programs = folder / "env" / "bin"
        extras = "camera,web" if given.bundle else "camera,ready,web"
        with steps.step(f"pip install sp-edge[{extras}]"):
            run(programs / "python", "-m", "pip", "install", "--quiet", f"{wheel}[{extras}]", cwd=folder)
        bundle = folder / "ready.spedge"
        if given.bundle:
            shutil.copytree(given.bundle, bundle)
        else:
            with steps.step("sp-edge ready"):
                run(programs / "sp-edge", "ready", "--out", bundle, cwd=folder)
        command = [programs / "sp-edge", "serve", bundle, folder / "things.mp4", "--loop", "--port", "0"]
        environment = clean_environment()
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as served:  # noqa: S603
            try:
                with steps.step("sp-edge serve until it prints its address"):
                    address = re.search(r"http://\S+", served.stdout.readline() if served.stdout else "")
                if address is None:
                    raise SystemExit("the page was not served")
                on_the_page(steps, address[0], given.chromium)
            finally:
                served.terminate()
    person = sum(seconds for step, seconds in steps.taken.items() if step.startswith("person"))
    print(table(["", "seconds"], [["a person's time", f"{person:.1f}"], ["all steps", f"{sum(steps.taken.values()):.1f}"]]))
    if given.json:
        write_json(given.json, {"steps": steps.taken, "person": person})


if __name__ == "__main__":
    main()
