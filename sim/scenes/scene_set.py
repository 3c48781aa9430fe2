"""A folder of simulated RAWs with their references: what the bench has instead of a camera and a lab."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from drivers.atomic_files import write_bytes, write_text
from drivers.cfa import tile_side
from drivers.errors import FrameError
from drivers.folder_lock import alone_in
from drivers.frames import MAX_BURST, RawFrame
from drivers.given_pictures import read_header
from drivers.raw.raw_files import load_raw, save_npz
from drivers.regular_files import read_json
from sim.camera.metering import Camera
from sim.camera.sensor import DEFAULT_SENSOR_SEED, Sensor
from sim.scenes.at_once import AtOnce, Scene, fitting
from sim.scenes.lab_scenes import lab_scene
from sim.scenes.photographs import Photograph, SceneError, crop, folder_photographs, read_photograph, sample_photographs

MANIFEST = "scene_set.json"
_MANIFEST_BYTES = 256 << 20
# Raise it when the same arguments would give other pixels.
_VERSION = 1
_LAB_SEEDS_PER_SET = 100_000
# Bytes of memory for each pixel of a RAW while it is made, of a photograph and of a lab scene.
_RAW_BYTES, _FRAME_BYTES, PHOTOGRAPH_BYTES, _LAB_BYTES = 20, 6, 12, 60
LARGEST_LAB_SIDE = 4096
"""Pixels: drawing one takes 0.9 GB and half a minute of a slow core. Of larger frames it is enlarged."""
# Standard deviation of the lens and its anti-alias filter, pixels: about 64 % contrast at half the Nyquist frequency.
# A photograph scaled down is sharper at its pixels than any Bayer sensor's lens draws; no demosaicking could return it.
SOFTNESS = 0.6

Progress = Callable[[int, int], None]


class References(Protocol):
    """What makes the references where they are not the clean photographs."""

    @property
    def record(self) -> dict[str, Any]:
        """What the manifest keeps, as JSON: ``device``, ``settings`` (a digest) and more; another one, other pixels."""

    def render_many(self, raws: Iterable[RawFrame]) -> Iterator[np.ndarray | None]:
        """The reference of each RAW in order, ``uint8 [H, W, 3]`` sRGB of its size, None of one that failed.

        RAWs are drawn as they are taken. Where some failed it raises at the end, so that the others are there.
        """


@dataclass(frozen=True)
class _Scene:
    name: str
    split: str
    raws: int
    pictures: Callable[[], list[np.ndarray]]

    def file(self, number: int) -> str:
        return f"{self.name}_{number:03d}.npz"


@dataclass(frozen=True)
class _Studio:
    """Takes the RAWs of scenes into a folder."""

    folder: Path
    camera: Camera
    size: tuple[int, int]
    seed: int
    frames: int
    each: bool

    def reference(self, scene: _Scene, number: int) -> Path:
        return (self.folder / scene.file(number)).with_suffix(".reference.png")

    def raws(self, plan: Iterable[_Scene], pool: AtOnce, *, rendered: bool) -> Iterator[tuple[Path, RawFrame | None]]:
        """Where the reference of each RAW belongs, and the RAW where it is still to be rendered.

        RAWs that are not there are taken; with ``rendered`` unset the clean photographs become references.
        """
        plan = list(plan)
        lacking = [self._lacking(scene, rendered) for scene in plan]
        taken = pool.results(
            Scene(scene.pictures, [partial(self._take, scene, number, rendered) for number in sorted(numbers)])
            for scene, numbers in zip(plan, lacking, strict=True)
            if numbers
        )
        for scene, numbers in zip(plan, lacking, strict=True):
            for number in range(scene.raws):
                if number in numbers:
                    next(taken)
                path, reference = self.folder / scene.file(number), self.reference(scene, number)
                if rendered and not reference.exists():
                    yield reference, replace(load_raw(path), source=path.name)
                else:
                    yield reference, None

    def _lacking(self, scene: _Scene, rendered: bool) -> set[int]:
        """Which RAWs are to be taken."""

        def there(number: int) -> bool:
            return (self.folder / scene.file(number)).exists() and (rendered or self.reference(scene, number).exists())

        return {number for number in range(scene.raws) if not there(number)}

    def _take(self, scene: _Scene, number: int, rendered: bool, pictures: list[np.ndarray]) -> None:
        path = self.folder / scene.file(number)
        burst, frame = divmod(number, self.frames) if self.each else (number, self.frames - 1)
        rng = np.random.default_rng([0x5CE4E, self.seed, _number(scene.name), burst])
        picture = through_lens(crop(pictures[burst % len(pictures)], self.size, rng))
        raw = self.camera.shoot(picture, rng, name=path.name, frames=self.frames).raw
        if self.each:
            raw = raw.until(frame + 1)
        if not rendered:
            write_png(self.reference(scene, number), picture)
        # The RAW comes second: where it is, its reference is, or a device still makes it.
        save_npz(path, raw)


def make_scene_set(
    folder: Path,
    *,
    photographs: Path | None = None,
    lab_scenes: int = 60,
    raws_per_scene: int = 4,
    raws_per_photograph: int = 12,
    size: tuple[int, int] = (128, 128),
    cfa: str = "RGGB",
    seed: int = 0,
    sensor_seed: int = DEFAULT_SENSOR_SEED,
    frames: int = 1,
    each_frame: bool = False,
    references: References | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write simulated RAWs ``NAME.npz`` with ``NAME.reference.png`` and, last of all, ``scenes.csv``.

    Every RAW is a crop of its scene under its own light, metered and balanced by one camera. All RAWs of a scene are in
    one split; photographs are dealt so that every split holds some, lab scenes are left to the hash of their name (an
    empty split). The same arguments give the same bytes. Every file appears whole or not at all; after a stop the same
    call goes on, and when the set is complete it does nothing.

    Args:
        folder: where to write; made if missing.
        photographs: a folder of photographs (see :mod:`sim.scenes.photographs`), or None for the packages' samples.
        lab_scenes: number of lab scenes, 0..100000.
        raws_per_scene: RAWs of each lab scene, at least 1.
        raws_per_photograph: RAWs of each photograph; 0 leaves photographs out.
        size: height and width of the RAWs, 16..8192, even; of Quad Bayer multiples of 4.
        cfa: letters of the tile of the sensor's CFA, Bayer or Quad Bayer.
        seed: from 0; another seed gives other lab scenes, crops, lights and errors.
        sensor_seed: from 0; another seed is another camera.
        frames: of each RAW, 1..64: a burst of the same scene, each frame with noise of its own.
        each_frame: of each burst there are as many RAWs: the burst up to its first frame, its second and so on.
        references: makes each RAW's reference from the RAW; None: it is the clean photograph.
        progress: called with (RAWs done, RAWs in all).

    Returns:
        The RAW files, sorted by name.

    Raises:
        SceneError: an argument is out of range, a photograph cannot be used, or the folder holds something else.
        WorkbenchError: ``references`` failed; the same call goes on.
    """
    folder = Path(folder)
    _check(lab_scenes, raws_per_scene, raws_per_photograph, size, min(seed, sensor_seed))
    if not 1 <= frames <= MAX_BURST:
        raise SceneError(f"frames must be within 1..{MAX_BURST}, not {frames}")
    scenes: list[Photograph] = []
    if raws_per_photograph:
        scenes = sample_photographs() if photographs is None else folder_photographs(photographs)
    camera = Camera(Sensor(sensor_seed, cfa))
    if any(length % tile_side(cfa) for length in size):
        raise SceneError(f"size {size[1]}×{size[0]} must be multiples of {tile_side(cfa)}, the tile of CFA {cfa}")
    looks = [_look(s.paths) for s in scenes]
    arguments: dict[str, Any] = {
        "version": _VERSION,
        "photographs": {s.scene: [s.split, looked.digest] for s, looked in zip(scenes, looks, strict=True)},
        "lab_scenes": lab_scenes,
        "raws_per_scene": raws_per_scene,
        "raws_per_photograph": raws_per_photograph,
        "size": list(size),
        "softness": SOFTNESS,
        "seed": seed,
        "camera": json.loads(json.dumps(asdict(camera))),
    }
    if frames > 1:
        arguments["frames"] = frames
    if each_frame:
        arguments["each_frame"] = True
        raws_per_scene, raws_per_photograph = raws_per_scene * frames, raws_per_photograph * frames
    if lab_scenes and _lab_side(size) < 2 * max(size):
        arguments["lab_side"] = _lab_side(size)
    if references is not None:
        arguments["reference"] = references.record
    plan = [_Scene(s.scene, s.split, raws_per_photograph, _reader(s.paths)) for s in scenes]
    plan += list(_lab_plan(seed, lab_scenes, raws_per_scene, size))
    if clash := {s.scene for s in scenes} & {s.name for s in plan[len(scenes) :]}:
        raise SceneError(f"photograph {min(clash)}: has the name of a lab scene; rename the file")
    each_bytes = raw_bytes(size, frames) + max(
        *(PHOTOGRAPH_BYTES * look.pixels for look in looks), _LAB_BYTES * _lab_side(size) ** 2 if lab_scenes else 0, 0
    )
    with claimed_folder(folder, arguments), AtOnce(fitting(each_bytes)) as pool:
        studio = _Studio(folder, camera, size, seed, frames, each_frame)
        total = sum(scene.raws for scene in plan)
        raws = studio.raws(plan, pool, rendered=references is not None)
        for done, _ in enumerate(_filled(raws, references), start=1):
            if progress:
                progress(done, total)
        rows = sorted(
            (scene.file(number), scene.name, scene.split, studio.reference(scene, number).name)
            for scene in plan
            for number in range(scene.raws)
        )
        if not (table := folder / "scenes.csv").exists():
            write_csv(table, rows)
        return [folder / row[0] for row in rows]


def _filled(raws: Iterator[tuple[Path, RawFrame | None]], references: References | None) -> Iterator[None]:
    """Take the RAWs and have them rendered; once for each RAW that is there with its reference."""
    if references is None:
        for _ in raws:
            yield
        return
    waiting: deque[Path] = deque()
    whole = 0

    def to_render() -> Iterator[RawFrame]:
        nonlocal whole
        for path, raw in raws:
            if raw is None:
                whole += 1
            else:
                waiting.append(path)
                yield raw

    for picture in references.render_many(to_render()):
        path = waiting.popleft()
        if picture is not None:
            write_png(path, picture)
            whole += 1
        yield from itertools.repeat(None, whole)
        whole = 0
    yield from itertools.repeat(None, whole)


def _check(lab_scenes: int, raws_per_scene: int, raws_per_photograph: int, size: tuple[int, int], seed: int) -> None:
    if not 0 <= lab_scenes <= _LAB_SEEDS_PER_SET:
        raise SceneError(f"lab_scenes must be within 0..{_LAB_SEEDS_PER_SET}, not {lab_scenes}")
    if raws_per_scene < 1 or raws_per_photograph < 0:
        raise SceneError(
            f"raws_per_scene must be at least 1 and raws_per_photograph at least 0, "
            f"not {raws_per_scene} and {raws_per_photograph}"
        )
    if not lab_scenes and not raws_per_photograph:
        raise SceneError("a scene set needs lab scenes or photographs: raise lab_scenes or raws_per_photograph")
    if seed < 0:
        raise SceneError(f"seeds start at 0, not {seed}")
    if any(side % 2 or not 16 <= side <= 8192 for side in size):
        raise SceneError(f"size {size[1]}×{size[0]} must be even and within 16..8192")


def through_lens(picture: np.ndarray) -> np.ndarray:
    """The picture as the lens draws it, ``uint8 [H, W, 3]``: scene of the RAW and reference alike."""
    return cv2.GaussianBlur(picture, (5, 5), SOFTNESS, borderType=cv2.BORDER_REFLECT_101)


def _lab_side(size: tuple[int, int]) -> int:
    """Rows and columns of the lab scenes that frames of a size are cut from."""
    return max(256, min(2 * max(size), LARGEST_LAB_SIDE))


def _lab_plan(seed: int, count: int, raws: int, size: tuple[int, int]) -> Iterator[_Scene]:
    side = _lab_side(size)
    for i in range(count):
        number = seed * _LAB_SEEDS_PER_SET + i

        def pictures(number: int = number) -> list[np.ndarray]:
            return [lab_scene(number, side)]

        yield _Scene(f"lab_{number:06d}", "", raws, pictures)


def _reader(paths: tuple[Path, ...]) -> Callable[[], list[np.ndarray]]:
    return lambda: [read_photograph(p) for p in paths]


@dataclass(frozen=True)
class _Look:
    """What is known of a scene's files before they are decoded."""

    digest: str
    pixels: int


def _look(paths: tuple[Path, ...]) -> _Look:
    digests, pixels = b"", 0
    for path in paths:
        data = path.read_bytes()
        digests += hashlib.sha256(data).digest()
        with contextlib.suppress(FrameError):  # said when it is the scene's turn
            header = read_header(data)
            pixels += header.width * header.height
    return _Look(hashlib.sha256(digests).hexdigest()[:16], pixels)


def raw_bytes(size: tuple[int, int], frames: int = 1) -> int:
    """Bytes of memory that making a RAW of so many rows and columns takes, beside its scene."""
    return (_RAW_BYTES + _FRAME_BYTES * frames) * size[0] * size[1]


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


@contextlib.contextmanager
def claimed_folder(folder: Path, arguments: dict[str, Any]) -> Iterator[None]:
    """In this block the folder is this set's own and this program's alone; what a stopped run left is cleared away.

    Raises:
        SceneError: it holds something else, or another program is at it right now.
    """
    if folder.exists() and not folder.is_dir():
        raise SceneError(f"{folder}: is a file; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    busy = SceneError(f"{folder}: another program makes scenes there right now; wait for it")
    with contextlib.ExitStack() as stack:
        # Where nobody can write, a set which is complete is all that it can be.
        with contextlib.suppress(OSError):
            stack.enter_context(alone_in(folder, busy))
        _claim(folder, arguments)
        yield


def _claim(folder: Path, arguments: dict[str, Any]) -> None:
    manifest = folder / MANIFEST
    ours = manifest.exists()
    holds = any(
        not p.name.startswith((".", MANIFEST)) and not (ours and p.name.endswith(".partial")) for p in folder.iterdir()
    )
    if holds and not ours:
        raise SceneError(f"{folder}: is not empty and holds no scene set; choose another folder")
    if holds:
        try:
            known = read_json(manifest, _MANIFEST_BYTES)
        except OSError as error:
            raise SceneError(f"{manifest}: cannot be read: {error.strerror}") from error
        except ValueError:
            known = None
        if not isinstance(known, dict):
            raise SceneError(f"{manifest}: is damaged; delete {folder} and make the scenes again")
        if known != arguments:
            changed = [k for k in {**arguments, **known} if known.get(k) != arguments.get(k)]
            what = ", ".join(_change(k, known.get(k), arguments.get(k)) for k in changed)
            raise SceneError(f"{folder}: holds scenes made differently ({what}); choose another folder or delete it")
    else:
        # A call that failed before its first RAW leaves the manifest alone behind: it binds nobody.
        write_bytes(manifest, (json.dumps(arguments, indent=1) + "\n").encode())
    for left in folder.glob("*.partial"):
        left.unlink(missing_ok=True)


def _change(key: str, known: Any, asked: Any) -> str:
    # What is kept as digests has no values that people could compare.
    words = {"photographs": "photographs", "annotations": "annotations", "plan": "images, splits or sizes"}
    if key == "reference":
        known, asked = _maker(known), _maker(asked)
    return words.get(key, f"{key} {known}, asked for {asked}")


def _maker(record: Any) -> str:
    """Who made the references, for people."""
    if not isinstance(record, dict):
        return "the clean photographs"
    return f"by {record.get('device')} with the settings {record.get('settings')}"


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture, ``uint8 [H, W, 3]``, as a PNG that appears whole or not at all."""
    ok, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not ok:
        raise SceneError(f"{path}: the reference could not be encoded as PNG")
    write_bytes(path, data.data)


def write_csv(path: Path, rows: list[tuple[str, str, str, str]]) -> None:
    """Write ``scenes.csv`` from its rows; it appears whole or not at all."""
    lines = [("file", "scene", "split", "reference"), *rows]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    write_text(path, text.getvalue())
