"""``command:``: any ISP that is a program. A recipe says how it is called; ``docs/recipes.md`` how a recipe is written.

Every frame is a process of its own in a temporary folder of its own, without a shell. The program sees little of the
caller's environment, and its home is inside that folder, so that nobody's settings change the output.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import hashlib
import itertools
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from drivers import stopping
from drivers.device import DEFAULT_DEADLINE_S, Capture, Device, DeviceInfo, Failure
from drivers.errors import DeviceError, DeviceUnreachableError, FrameError
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet
from drivers.programs import program_outputs, recipes
from drivers.programs.processes import Processes, ProgramError, last_words, tail
from drivers.programs.recipes import Recipe
from drivers.raw.dng import dng_bytes
from drivers.regular_files import read_regular

# What a program may need to start at all; everything else of the caller's environment stays outside.
_PASSED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "PATHEXT", "COMSPEC")
_HOMES = ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
_TEMPORARY = ("TMPDIR", "TMP", "TEMP")
_OUTPUT_BYTES = 64 * 2**20  # largest output file, and 16 bytes for each pixel of the RAW more
_FOLDER_BYTES = 4 * _OUTPUT_BYTES  # all that a program may write, and 64 bytes for each pixel of the RAW more
_DNG_BYTES = 128 * 1024  # RawTherapee takes no file below 100,000 bytes for a RAW


def open_device(url: str, deadline_s: float = DEFAULT_DEADLINE_S) -> Device:
    """The device of ``command:rawtherapee`` (a shipped recipe) or ``command:path/to/recipe.toml``.

    Raises:
        DeviceError: no such recipe, or something in it is wrong.
    """
    return CommandDevice(url, recipes.load(url.partition(":")[2]), deadline_s)


class CommandDevice(Device):
    """A program as a device; as many frames at once as there are cores.

    The recipe's time limit holds for a frame, ``deadline_s`` for the question for the version and where the recipe
    has none. What reached the settings file and the arguments is in force: every frame is a new process.
    """

    def __init__(self, url: str, recipe: Recipe, deadline_s: float = DEFAULT_DEADLINE_S):
        self.url = url
        self.deadline_s = deadline_s
        self.recipe = recipe
        self._info: DeviceInfo | None = None
        self._frames = itertools.count(1)
        self._calls: set[Processes] = set()

    def info(self) -> DeviceInfo:
        """Who the device is; its firmware is the program's version and the recipe's hash.

        Raises:
            DeviceUnreachableError: the program is missing, or its version did not come before the deadline.
            DeviceError: the program's version cannot be read.
        """
        if self._info is None:
            self._info = DeviceInfo(
                model=self.recipe.model,
                firmware=f"{self._version()} recipe {self.recipe.hash[:12]}",
                serial="",
                boot_id=uuid.uuid4().hex,
                space=self.recipe.space,
                max_in_flight=os.cpu_count() or 1,
            )
        return self._info

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        """Process one RAW.

        Raises:
            DeviceUnreachableError: the program is missing.
            FrameFailedError: the program failed or was ended at its time limit, or its output is missing, unreadable or
                of another size.
        """
        return self.single(raw, parameters)

    def process_many(self, jobs: Iterable[tuple[RawFrame, ParameterSet]]) -> Iterator[Capture | Failure]:
        """Captures in the order of the jobs, ``max_in_flight`` processes at once.

        A frame whose program fails, is ended at its time limit, or leaves no picture of the RAW is a failure in its
        place: ``failed``, or ``output`` where there is one that does not fit.
        """
        workers = self.info().max_in_flight
        pending: collections.deque[Future[Capture | Failure]] = collections.deque()
        with self._processes() as processes:
            pool = ThreadPoolExecutor(workers, thread_name_prefix="command")
            try:
                for raw, parameters in jobs:
                    info = self._checked(parameters)
                    pending.append(pool.submit(self._result, raw, parameters, info, processes))
                    if len(pending) == workers:
                        yield _waited(pending.popleft())
                while pending:
                    yield _waited(pending.popleft())
            finally:
                processes.stop()
                pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """End the processes that still run."""
        for processes in list(self._calls):
            processes.stop()

    @contextlib.contextmanager
    def _processes(self) -> Iterator[Processes]:
        processes = Processes()
        self._calls.add(processes)
        try:
            yield processes
        finally:
            processes.stop()
            self._calls.discard(processes)

    def _checked(self, parameters: ParameterSet) -> DeviceInfo:
        info = self.info()
        if parameters.space.hash != info.space.hash:
            raise DeviceError(
                f"{self.url}: parameters of {parameters.space.name} that are not this recipe's; ask its info()"
            )
        return info

    def _named(self, raw: RawFrame) -> str:
        return f"{self.url}: RAW {raw.hash[:12]} ({raw.width}×{raw.height})"

    def _result(
        self, raw: RawFrame, parameters: ParameterSet, info: DeviceInfo, processes: Processes
    ) -> Capture | Failure:
        if failure := info.refused(raw, parameters):
            return failure
        try:
            return self._frame(raw, parameters, info, processes)
        except ProgramError as error:
            reason = str(error).removeprefix(f"{self._named(raw)}: ")
            return Failure(raw.hash, parameters, error.code, reason, info.boot_id)

    def _frame(self, raw: RawFrame, parameters: ParameterSet, info: DeviceInfo, processes: Processes) -> Capture:
        start = time.monotonic()
        what = self._named(raw)
        recipe = self.recipe
        with _folder(what) as folder:
            files = {k: folder / v for k, v in recipe.files.items()}
            try:
                files["raw"].write_bytes(_raw_bytes(raw, recipe))
                if recipe.settings is not None:
                    files["settings"].write_text(recipe.settings_text(raw, parameters), encoding="utf-8", newline="\n")
            except FrameError as error:  # what the frame says cannot be written as a DNG
                raise ProgramError(f"{what}: {error}", "bad_raw") from error
            except OSError as error:
                raise DeviceError(f"{what}: cannot write to {folder}: {error.strerror}; make room there") from error
            command = recipe.arguments(raw, parameters, folder)
            limit_s = self.deadline_s if self.deadline_from_url else recipe.time_limit_s or self.deadline_s
            began = time.monotonic()
            most = _FOLDER_BYTES + 64 * raw.width * raw.height
            line = [self._program(), *command[1:]]
            code = processes.run(line, folder, self._environment(folder), limit_s, most, what)
            seconds = time.monotonic() - began
            if code != 0:
                raise ProgramError(f"{what}: {recipe.program} ended with exit code {code}: {last_words(folder)}")
            rgb = self._output(files["output"], raw, what, folder)
        return Capture(
            raw_hash=raw.hash,
            parameters=parameters,
            parameters_in_force=parameters.by_name,
            rgb=rgb,
            boot_id=info.boot_id,
            frame=next(self._frames),
            device_s=seconds,
            total_s=time.monotonic() - start,
        )

    def _output(self, path: Path, raw: RawFrame, what: str, folder: Path) -> RgbFrame:
        kind, limit = self.recipe.output.kind, _OUTPUT_BYTES + 16 * raw.width * raw.height
        try:
            data = read_regular(path, limit)
        except FileNotFoundError:
            raise ProgramError(
                f"{what}: {self.recipe.program} wrote no {path.name} (exit code 0): {last_words(folder)}; "
                "check output.file in the recipe"
            ) from None
        except OSError as error:
            raise ProgramError(f"{what}: {path.name} cannot be read: {error.strerror}", "output") from None
        name = f"{what}: {path.name} ({len(data)} bytes)"
        if not data.startswith(program_outputs.STARTS[kind]):
            raise ProgramError(f"{name} does not start as {kind} does; check output.kind in the recipe", "output")
        try:
            width, height = program_outputs.size_of(data, kind)
            padding = self._padding(raw, width, height, f"{what}: {path.name}")
            pixels = program_outputs.pixels_of(data, kind)
        except FrameError as error:
            raise ProgramError(f"{name} does not decode as {kind}: {error}; {last_words(folder)}", "output") from None
        # Encoded anew where it is not a JPEG: programs write the time and their name into the file.
        if kind == "jpeg" and padding is None:
            return RgbFrame(data, "image/jpeg")
        return RgbFrame.from_pixels(pixels if padding is None else np.pad(pixels, padding, mode="edge"))

    def _padding(self, raw: RawFrame, width: int, height: int, what: str) -> list[tuple[int, int]] | None:
        """What is missing at each edge where the recipe says that a program cuts its borders off; None: nothing."""
        rows, columns = raw.height - height, raw.width - width
        if rows == columns == 0:
            return None
        if self.recipe.output.size != "pad" or rows < 0 or columns < 0 or not (width and height):
            raise ProgramError(
                f"{what} is {width}×{height}, the RAW is {raw.width}×{raw.height}: switch cropping "
                'and scaling off in the recipe, or let output.size = "pad" repeat the edges of a smaller output',
                "output",
            )
        return [(rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0)]

    def _program(self) -> str:
        program = self.recipe.program
        found = shutil.which(program)
        if found is None or not Path(found).is_file():
            raise DeviceUnreachableError(
                f"{self.url}: there is no program {program!r}: install it, or put its full path into the recipe"
            )
        return str(Path(found).absolute())

    def _version(self) -> str:
        program, command = self._program(), self.recipe.version_command()
        if self.recipe.version is None:
            with Path(program).open("rb") as stream:
                return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()[:16]
        what = f"{self.url}: {command[0]} asked for its version"
        found = shutil.which(command[0])
        if found is None:
            raise DeviceUnreachableError(f"{self.url}: there is no program {command[0]!r}, which tells the version")
        with self._processes() as processes, _folder(what) as folder:
            # Many programs end with an error where they only print their usage.
            try:
                line = [found, *command[1:]]
                processes.run(line, folder, self._environment(folder), self.deadline_s, _FOLDER_BYTES, what)
            except ProgramError as error:
                raise DeviceUnreachableError(str(error)) from error
            said = tail(folder / "stdout", 65536) + "\n" + tail(folder / "stderr", 65536)
            words = last_words(folder)
        try:
            version = self.recipe.version_in(said)
        except TimeoutError:
            raise DeviceError(f"{what}: version.pattern {self.recipe.version.pattern!r} takes too long") from None
        if not version:
            raise DeviceError(f"{what} said nothing that matches {self.recipe.version.pattern!r}: {words}")
        return version[:100]

    def _environment(self, folder: Path) -> dict[str, str]:
        passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
        homes = dict.fromkeys(_HOMES, str(folder / "home")) | dict.fromkeys(_TEMPORARY, str(folder / "tmp"))
        # Several frames are processed at once, so each process keeps to one core unless the recipe says otherwise.
        return {**passed, **homes, "LC_ALL": "C", "OMP_NUM_THREADS": "1", **self.recipe.environment}


def _waited(future: Future[Capture | Failure]) -> Capture | Failure:
    """The future's result; its process has a deadline of its own."""
    stopping.check()
    while not concurrent.futures.wait([future], stopping.SLICE_S).done:
        stopping.check()
    return future.result()


@contextlib.contextmanager
def _folder(what: str) -> Iterator[Path]:
    try:
        temporary = tempfile.TemporaryDirectory(prefix="isp-command-", ignore_cleanup_errors=True)
    except OSError as error:
        raise DeviceError(f"{what}: no temporary folder: {error.strerror}; make room or set TMPDIR") from error
    with temporary as name:
        folder = Path(name).resolve()
        (folder / "home").mkdir()
        (folder / "tmp").mkdir()
        yield folder


def _raw_bytes(raw: RawFrame, recipe: Recipe) -> bytes:
    if recipe.raw == "u16":
        return raw.mosaic.astype("<u2").tobytes()
    return dng_bytes(raw).ljust(_DNG_BYTES, b"\0")
