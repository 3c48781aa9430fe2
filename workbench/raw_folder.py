"""A folder of RAW files: which scene each shows, its split and its reference (``scenes.csv``)."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from drivers.foreign_text import shown
from drivers.raw_files import RAW_SUFFIXES, is_raw_file
from workbench.errors import RawFolderError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SCENES_CSV = "scenes.csv"
_BESIDE_RAWS = {  # pictures, tables and texts that stand beside RAWs for other reasons
    *(".png", ".jpg", ".jpeg", ".thm", ".xmp", ".pp3", ".dop", ".csv", ".json", ".toml", ".yaml", ".yml"),
    *(".txt", ".md", ".html", ".pdf", ".log"),
}
_COLUMNS = ("file", "scene", "split", "reference")


@dataclass(frozen=True)
class RawEntry:
    """One RAW of a folder.

    Attributes:
        path: the RAW file.
        scene: the scene that it shows; all RAWs of a scene are in one split.
        split: ``train``, ``validation`` or ``test``.
        reference: the clean image (PNG, sRGB, uint8) that the RAW should become, or None.
    """

    path: Path
    scene: str
    split: Split
    reference: Path | None


def split_of(scene: str) -> Split:
    """The split of a scene by the SHA-256 of its name: 70 % train, 10 % validation, 20 % test; for ever the same."""
    share = int.from_bytes(hashlib.sha256(scene.encode()).digest()[:8], "big") / 2**64
    return "train" if share < 0.7 else "validation" if share < 0.8 else "test"


def read_raw_folder(folder: Path) -> list[RawEntry]:
    """The RAWs of a folder, sorted by file name.

    With a ``scenes.csv`` (columns ``file,scene,split,reference``; the last three may be empty or missing) its rows are
    the RAWs. Without one every RAW file in the folder is its own scene, and ``NAME.reference.png`` beside it is its
    reference. An empty scene is the file's name without suffix; an empty split is decided by :func:`split_of`; an empty
    reference is ``NAME.reference.png`` where that exists.

    Raises:
        RawFolderError: the folder is missing or holds no RAW; or the CSV cannot be read, names a file that is missing
            or no RAW, an unknown split, a file twice, or one scene in two splits.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RawFolderError(f"{folder}: no such folder of RAW files")
    table = folder / SCENES_CSV
    entries = _from_csv(table) if table.is_file() else _from_files(folder)
    return sorted(entries, key=lambda e: e.path.name)


def passed_over(folder: Path, entries: list[RawEntry]) -> list[str]:
    """Names of files that stand among a folder's RAWs and are not taken, and are no companions of a RAW, sorted.

    With a ``scenes.csv`` its rows say what is taken, so nothing is passed over.
    """
    folder = Path(folder)
    if (folder / SCENES_CSV).is_file():
        return []
    taken = {entry.path.name for entry in entries}
    others = (p for p in folder.iterdir() if p.name not in taken and not p.name.startswith(".") and not p.is_dir())
    return sorted(p.name for p in others if p.suffix.lower() not in _BESIDE_RAWS)


def _from_files(folder: Path) -> list[RawEntry]:
    paths = [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file() and is_raw_file(p)]
    if not paths:
        raise RawFolderError(f"{folder}: holds no RAW file ({', '.join(sorted(RAW_SUFFIXES))})")
    for path in paths:
        # The data set, the split and every export know a RAW by its name, as text.
        if path.name != path.name.encode(errors="replace").decode():
            raise RawFolderError(f"{shown(path)}: the file's name is not UTF-8; rename it")
    return [RawEntry(p, p.stem, split_of(p.stem), _beside(p)) for p in paths]


def _from_csv(table: Path) -> list[RawEntry]:
    entries: list[RawEntry] = []
    splits: dict[str, tuple[Split, int]] = {}
    seen: dict[Path, int] = {}
    for line, row in _rows(table):
        where = f"{table}, line {line}"
        path = _existing(table.parent, row["file"], where, "file")
        if path.suffix.lower() not in RAW_SUFFIXES:
            raise RawFolderError(f"{where}: {path.name} is no RAW file ({', '.join(sorted(RAW_SUFFIXES))})")
        if path in seen:
            raise RawFolderError(f"{where}: {row['file']} is listed twice, first on line {seen[path]}")
        seen[path] = line
        scene = row["scene"] or path.stem
        if row["split"] and row["split"] not in SPLITS:
            raise RawFolderError(f"{where}: split {row['split']!r} is not one of {', '.join(SPLITS)} (or empty)")
        split: Split = row["split"] or split_of(scene)
        first, first_line = splits.setdefault(scene, (split, line))
        if first != split:
            raise RawFolderError(
                f"{where}: scene {scene!r} is in split {split}, on line {first_line} in {first}; "
                "all RAWs of a scene must be in one split"
            )
        named = row["reference"]
        reference = _existing(table.parent, named, where, "reference") if named else _beside(path)
        entries.append(RawEntry(path, scene, split, reference))
    if not entries:
        raise RawFolderError(f"{table}: lists no RAW file; fill it, or delete it to take every RAW file of the folder")
    return entries


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if "file" not in header or set(header) - set(_COLUMNS) or len(set(header)) < len(header):
                got = ", ".join(header) or "nothing"
                raise RawFolderError(f"{table}: the first line must name the columns {','.join(_COLUMNS)}, not {got}")
            rows = []
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise RawFolderError(
                        f"{table}, line {reader.line_num}: {len(cells)} columns, the first line names {len(header)}"
                    )
                row = dict.fromkeys(_COLUMNS, "") | {n: c.strip() for n, c in zip(header, cells, strict=True)}
                rows.append((reader.line_num, row))
            return rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise RawFolderError(f"{table}: is not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise RawFolderError(f"{table}: cannot be read: {error.strerror}") from error


def _existing(folder: Path, name: str, where: str, column: str) -> Path:
    if not name:
        raise RawFolderError(f"{where}: the column {column!r} is empty")
    shown = name if name.isprintable() else repr(name)
    path = folder / name
    try:
        there = path.is_file()
    except (OSError, ValueError):
        # A name that no file can have: too long, or with a zero byte.
        there = False
    if not there:
        raise RawFolderError(f"{where}: {column} {shown} does not exist in {folder}")
    return path


def _beside(path: Path) -> Path | None:
    reference = path.with_name(f"{path.stem}.reference.png")
    return reference if reference.is_file() else None
