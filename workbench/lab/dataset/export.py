"""Export: a plain folder with CSV tables and image files, for other programs. Whole or not there at all."""

from __future__ import annotations

import csv
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from drivers.foreign_text import shown
from workbench.console.progress import each
from workbench.errors import DatasetError
from workbench.lab.dataset.explained import explained
from workbench.lab.dataset.records import SUFFIXES, CaptureRecord
from workbench.lab.dataset.store import Dataset
from workbench.lab.dataset.table import capture_row


def export(dataset: Dataset, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Write ``raws.csv``, ``captures.csv`` (parameters in native units) and the files they name.

    Columns of the captures: see :func:`~workbench.lab.dataset.table.capture_row`.

    Gives how many captures were written.

    Args:
        dataset: an open data set.
        out: the folder to make; it must not be there yet.
        progress: told how many captures are written, and of how many.

    Raises:
        DatasetError: the folder exists, cannot be written, or a file of the data set is damaged.
    """
    if out.exists():
        raise DatasetError(f"{out}: exists already; name a folder that does not")
    # A name that nobody has: a folder of the user's is not taken for what an export left.
    partial = out.with_name(f".{out.name[:50]}.{secrets.token_hex(6)}.partial")
    try:
        with explained(out):
            for name in ("raws", "captures"):
                (partial / name).mkdir(parents=True)
            captures = dataset.captures()  # before their RAWs and devices: those of later captures may come meanwhile
            names = _raws(dataset, partial)
            _captures(dataset, captures, partial, names, progress)
            partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return len(captures)


def _raws(dataset: Dataset, folder: Path) -> dict[str, str]:
    names, rows = {}, []
    for raw in each("export RAWs", dataset.raws()):
        # Names go on to other programs and their terminals; the hash keeps apart what is then spelt alike.
        printable = "".join(c if c.isprintable() else "_" for c in Path(raw.name).stem)
        stem = names[raw.hash] = f"{printable}-{raw.hash[:8]}"
        (folder / "raws" / f"{stem}.npz").write_bytes(raw.encoded())
        if (reference := raw.encoded_reference()) is not None:
            (folder / "raws" / f"{stem}.reference.png").write_bytes(reference)
        wb = raw.as_shot_wb or ("", "", "")
        rows.append(
            {
                "raw": stem,
                "file": f"raws/{stem}.npz",
                "name": shown(raw.name),
                "scene": shown(raw.scene),
                "split": raw.split,
                "reference": f"raws/{stem}.reference.png" if reference is not None else "",
                "width": raw.width,
                "height": raw.height,
                "iso": raw.iso,
                "exposure_s": raw.exposure_s,
                **dict(zip(("wb_red", "wb_green", "wb_blue"), wb, strict=True)),
                "hash": raw.hash,
            }
        )
    _write_csv(folder / "raws.csv", rows)
    return names


def _captures(
    dataset: Dataset,
    captures: Sequence[CaptureRecord],
    folder: Path,
    names: dict[str, str],
    progress: Callable[[int, int], None],
) -> None:
    spaces = {device.identity: dataset.space(device.identity) for device in dataset.devices()}
    told = {number: own for i, s in spaces.items() if s.statistics for number, own in dataset.statistics(i).items()}
    rows = []
    for done, capture in enumerate(captures, 1):
        file = f"captures/{capture.id:07}.{SUFFIXES[capture.media_type]}"
        (folder / file).write_bytes(capture.rgb().encoded)
        row = capture_row(capture, spaces[capture.device_identity], raw={"raw": names[capture.raw_hash]}, output=file)
        rows.append(row | {f"statistic.{name}": value for name, value in told.get(capture.id, {}).items()})
        progress(done, len(captures))
    _write_csv(folder / "captures.csv", rows)


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    # Devices with other parameters add columns; a capture leaves those of other devices empty.
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
