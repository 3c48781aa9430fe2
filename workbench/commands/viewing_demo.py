"""The demo: every step of the bench over ZeroMQ against the emulated device, with the commands that do the same."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from drivers.regular_files import read_json
from workbench.console import terminal
from workbench.errors import RunError
from workbench.lab.runs import RunFolder, write_json

PROFILE = "sim20"
START_DEADLINE_S = 60.0


@contextlib.contextmanager
def emulated_device(profile: str = PROFILE) -> Iterator[str]:
    """Serve the emulated device in a process of its own for the length of the block; gives its URL.

    Raises:
        RunError: it did not start before the deadline.
    """
    command = [sys.executable, "-m", "workbench.cli", "sim", "serve", "--profile", profile, "--zmq", "127.0.0.1:0"]
    # Its standard input is a pipe from here: closed by this program's end, even one that it could not prepare for.
    command += ["--until-stdin-closes"]
    # A process group of its own: Ctrl-C is for the bench, which still has frames to take from the device.
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with subprocess.Popen(command, **streams, **apart) as process:
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        try:
            line = lines.get(timeout=START_DEADLINE_S)
            yield next(word for word in line.split() if word.startswith("zmq://"))
        except (queue.Empty, StopIteration) as error:
            raise RunError(f"the emulated device did not start within {START_DEADLINE_S:g} s: {command}") from error
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _pass_on(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)


def run_demo(folder: Path, *, photographs: Path | None = None, captures: int = 4000, seed: int = 0) -> Path:
    """Run every step; fits and searches already done in ``folder`` with the same settings are not done again.

    Args:
        folder: gets ``raws/``, ``lab/`` and ``report.html``.
        photographs: a folder of photographs, or None for the sample photographs and the lab scenes.
        captures: captures of the collection, and of each search on the device.
        seed: of everything.

    Returns:
        The report.

    Raises:
        RunError: ``folder`` holds a demo with other settings.
    """
    from workbench.commands.collect import collect
    from workbench.commands.fit_proxy import fit_proxy
    from workbench.commands.report import report
    from workbench.commands.sim import expert as write_expert
    from workbench.commands.sim_scenes import scenes
    from workbench.commands.train import train
    from workbench.commands.tune import MethodName, tune
    from workbench.commands.validate import validate

    begin = time.monotonic()
    raws, lab, page = folder / "raws", folder / "lab", folder / "report.html"
    claim(folder, {"photographs": str(photographs), "captures": captures, "seed": seed})
    expert = folder / "expert.toml"
    write_expert(PROFILE, expert)
    step = Steps(lab, begin)
    common = f"--lab {lab} --seed {seed}"
    scene_options: dict[str, Any] = {"lab_scenes": 0, "raws_per_photograph": 4}
    if photographs is None:
        scene_options = {"lab_scenes": 400, "raws_per_scene": 6, "raws_per_photograph": 30}
    shown = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in scene_options.items())
    if photographs:
        shown += f" --photographs {photographs}"
    step(
        "scenes: photographs and lab scenes, seen by a simulated sensor",
        f"sim scenes {raws} {shown} --seed {seed}",
        lambda: scenes(raws, photographs=photographs, seed=seed, **scene_options),
    )
    print(f"\n$ workbench sim serve --profile {PROFILE} --zmq 127.0.0.1:0")
    with emulated_device() as url:
        print(f"the emulated device answers at {url}")
        step(
            "collect: parameter sets over the whole range, each with its own RAW",
            f"collect --device {url} --raws {raws} --captures {captures} {common}",
            lambda: collect([url], captures, raws, lab=lab, seed=seed),
        )
        step(
            "tune: the best fixed parameters on the device, with as many captures",
            f"tune --device {url} --captures {captures} --expert {expert} --name fixed {common}",
            lambda: tune(
                [url], lab=lab, method=MethodName.cmaes, captures=captures, expert=expert, name="fixed", seed=seed
            ),
            run="fixed",
        )
        step(
            "tune --industry: as-shot white balance sets the gains, a table over ISO the rest",
            f"tune --device {url} --industry --captures {captures} --expert {expert} --name industry {common}",
            lambda: tune([url], lab=lab, captures=captures, industry=True, expert=expert, name="industry", seed=seed),
            run="industry",
        )
        step(
            "fit-proxy: a differentiable network learns to imitate the device",
            f"fit-proxy --device {url} --name proxy {common}",
            lambda: fit_proxy(lab=lab, device=url, name="proxy", seed=seed),
            run="proxy",
        )
        for name, metadata in (("with-metadata", True), ("image-only", False)):
            flag = "--metadata" if metadata else "--no-metadata"
            step(
                f"train: the predictor, {name.replace('-', ' ')}, through the frozen proxy",
                f"train {flag} --start {expert} --name {name} {common}",
                lambda name=name, metadata=metadata: train(  # type: ignore[misc]
                    lab=lab, metadata=metadata, start=expert, name=name, seed=seed
                ),
                run=name,
            )
        step(
            "validate: every method's parameters on the device, on test scenes",
            f"validate --device {url} --expert {expert} --test-raws 60 --oracle-captures 240 {common}",
            lambda: validate([url], lab=lab, expert=expert, test_raws=60, oracle_captures=240, seed=seed),
        )
    step("report", f"report --lab {lab} --out {page}", lambda: report(lab=lab, out=page))
    print(f"\ndone in {time.monotonic() - begin:.0f} s; the report: {page.resolve()}")
    return page


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Let a folder belong to a demo of these settings, recorded in ``demo.json``.

    Raises:
        RunError: it holds a demo with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "demo.json"
    try:
        known = read_json(kept) if kept.exists() else settings
    except (OSError, ValueError) as error:
        raise RunError(f"{kept}: cannot be read ({error}); give another --folder") from error
    if known != settings:
        raise RunError(f"{folder}: holds a demo with other settings ({kept}); give another --folder")
    write_json(kept, settings)


class Steps:
    """Announces each step of a demo with the command that does the same, and does it unless its run is finished.

    Args:
        lab: the lab folder.
        begin: :func:`time.monotonic` at the start of the demo.
    """

    def __init__(self, lab: Path, begin: float) -> None:
        self._lab, self._begin = lab, begin

    def __call__(self, what: str, shown: str, work: Callable[[], Any], run: str | None = None) -> None:
        """One step: what it does, the command as typed, the work, and the name of the run that it leaves."""
        terminal.console().print(f"\n[{time.monotonic() - self._begin:4.0f} s] {what}", style="bold", soft_wrap=True)
        print(f"$ workbench {shown}")
        if run and self._finished(run):
            print(f"already done: {self._lab / 'runs' / run}")
        else:
            work()

    def _finished(self, name: str) -> bool:
        path = self._lab / "runs" / name
        return (path / "run.json").is_file() and RunFolder.open(path).finished
