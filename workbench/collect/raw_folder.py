"""A folder of RAW files: which scene each shows, its split and its reference (``scenes.csv``)."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from drivers.foreign_text import shown
from drivers.raw.raw_files import RAW_SUFFIXES, is_raw_file
from drivers.regular_files import read_regular
from drivers.splits import Split
from workbench.errors import RawFolderError

SCENES_CSV = "scenes.csv"
_BESIDE_RAWS = {  # pictures, tables and texts that stand beside RAWs for other reasons
    *(".png", ".jpg", ".jpeg", ".thm", ".xmp", ".pp3", ".dop", ".csv", ".json", ".toml", ".yaml", ".yml"),
    *(".txt", ".md", ".html", ".pdf", ".log"),
}
_LARGEST_TABLE = 64 << 20
_COLUMNS = ("file", "scene", "split", "reference")


@dataclass(frozen=True)
class RawEntry:
    """One RAW of a folder.

    Attributes:
        path: the RAW file.
        scene: the scene that it shows; all RAWs of a scene are in one split.
        split: of the scene.
        reference: the clean image (PNG, sRGB, uint8) that the RAW should become, or None.
    """

    path: Path
    scene: str
    split: Split
    reference: Path | None


def split_of(scene: str) -> Split:
    """The split of a scene by the SHA-256 of its name: 70 % train, 10 % validation, 20 % test; for ever the same."""
    share = int.from_bytes(hashlib.sha256(scene.encode()).digest()[:8], "big") / 2**64
    return Split.TRAIN if share < 0.7 else Split.VALIDATION if share < 0.8 else Split.TEST


def read_raw_folder(folder: Path) -> list[RawEntry]:
    """The RAWs of a folder, sorted by file name.

    With a ``scenes.csv`` (columns ``file,scene,split,reference``; the last three may be empty or missing) its rows are
    the RAWs. Without one every RAW file in the folder is its own scene, and ``NAME.reference.png`` beside it is its
    reference. An empty scene is the file's name without suffix; an empty split is decided by :func:`split_of`; an empty
    reference is ``NAME.reference.png`` where that exists. Names are found in whatever Unicode form the disk has them.

    Raises:
        RawFolderError: the folder is missing or holds no RAW; a name is not UTF-8, or two differ in their Unicode form
            alone; or the CSV cannot be read, names a file that is missing or no RAW, an unknown split, a file twice (by
            whatever path), one scene in two splits, or leaves two files of one name in different folders without scene.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RawFolderError(f"{shown(folder)}: no such folder of RAW files")
    _check_utf8(folder.absolute(), "the folder's name")
    table = folder / SCENES_CSV
    entries = _from_csv(table) if os.path.lexists(table) else _from_files(folder)
    return sorted(entries, key=lambda e: e.path.name)


def passed_over(folder: Path, entries: list[RawEntry]) -> list[str]:
    """Names of files that stand among a folder's RAWs and are not taken, and are no companions of a RAW, sorted.

    With a ``scenes.csv`` its rows say what is taken, so nothing is passed over.
    """
    folder = Path(folder)
    if os.path.lexists(folder / SCENES_CSV):
        return []
    taken = {entry.path.name for entry in entries}
    others = (p for p in folder.iterdir() if p.name not in taken and not p.name.startswith(".") and not p.is_dir())
    return sorted(p.name for p in others if p.suffix.lower() not in _BESIDE_RAWS)


def _from_files(folder: Path) -> list[RawEntry]:
    paths = [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file() and is_raw_file(p)]
    if not paths:
        below = sorted(p for p in folder.iterdir() if p.is_dir() and any(map(is_raw_file, p.glob("*"))))
        hint = f", but {shown(below[0])} does: give that, or list its files in a {SCENES_CSV}" if below else ""
        raise RawFolderError(f"{shown(folder)}: holds no RAW file ({', '.join(sorted(RAW_SUFFIXES))}){hint}")
    forms: dict[str, Path] = {}
    for path in sorted(paths):
        _check_utf8(path, "the file's name")
        if (other := forms.setdefault(_composed(path.name), path)) is not path:
            raise RawFolderError(
                f"{shown(path)}: {path.name!a} and {other.name!a} differ in their Unicode form alone and would "
                "be taken for each other; rename one"
            )
    return [RawEntry(p, p.stem, split_of(p.stem), _beside(p)) for p in paths]


def _from_csv(table: Path) -> list[RawEntry]:
    entries: list[RawEntry] = []
    splits: dict[str, tuple[Split, int, str]] = {}
    seen: dict[object, int] = {}
    unnamed: dict[str, tuple[Path, int]] = {}
    for line, row in _rows(table):
        where = f"{shown(table)}, line {line}"
        path = _existing(table.parent, row["file"], where, "file")
        _check_utf8(path, "the file's name")
        if path.suffix.lower() not in RAW_SUFFIXES:
            raise RawFolderError(f"{where}: {shown(path.name)} is no RAW file ({', '.join(sorted(RAW_SUFFIXES))})")
        if (first := seen.setdefault(_identity(path), line)) != line:
            raise RawFolderError(f"{where}: {shown(row['file'])} is listed twice, first on line {first}")
        scene = row["scene"] or path.stem
        if not row["scene"]:
            other, other_line = unnamed.setdefault(_composed(scene), (path.parent, line))
            if not other.samefile(path.parent):
                raise RawFolderError(
                    f"{where}: {shown(row['file'])} and a file of the same name in another folder (line {other_line}) "
                    "have no scene, and would be taken for one; give each row its scene"
                )
        if row["split"] and row["split"] not in list(Split):
            raise RawFolderError(f"{where}: split {shown(row['split'])!r} is not one of {', '.join(Split)} (or empty)")
        split = Split(row["split"]) if row["split"] else split_of(scene)
        first_split, first_line, spelt = splits.setdefault(_composed(scene), (split, line, scene))
        if spelt != scene:
            raise RawFolderError(
                f"{where}: scene {shown(scene)!r} is spelt in another Unicode form than on line {first_line}; "
                "write it alike"
            )
        if first_split != split:
            raise RawFolderError(
                f"{where}: scene {shown(scene)!r} is in split {split}, on line {first_line} in {first_split}; "
                "all RAWs of a scene must be in one split"
            )
        named = row["reference"]
        reference = _existing(table.parent, named, where, "reference") if named else _beside(path)
        entries.append(RawEntry(path, scene, split, reference))
    if not entries:
        raise RawFolderError(
            f"{shown(table)}: lists no RAW file; fill it, or delete it to take every RAW file of the folder"
        )
    return entries


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = read_regular(table, _LARGEST_TABLE).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        if "file" not in header or set(header) - set(_COLUMNS) or len(set(header)) < len(header):
            got = shown(", ".join(header))[:200] or "nothing"
            raise RawFolderError(
                f"{shown(table)}: the first line must name the columns {','.join(_COLUMNS)}, not {got}"
            )
        rows = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise RawFolderError(
                    f"{shown(table)}, line {reader.line_num}: {len(cells)} columns, the first line names {len(header)}"
                )
            row = dict.fromkeys(_COLUMNS, "") | {n: c.strip() for n, c in zip(header, cells, strict=True)}
            rows.append((reader.line_num, row))
        return rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise RawFolderError(f"{shown(table)}: is not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise RawFolderError(f"{shown(table)}: cannot be read: {error.strerror}") from error


def _existing(folder: Path, name: str, where: str, column: str) -> Path:
    if not name:
        raise RawFolderError(f"{where}: the column {column!r} is empty")
    path = _found(folder / name)
    if path is None:
        told = name if name.isprintable() else repr(name)
        raise RawFolderError(f"{where}: {column} {shown(told)} does not exist in {shown(folder)}")
    return path


def _found(path: Path) -> Path | None:
    """The file of that name, in whatever Unicode form the disk has it; None where there is none, or several."""
    try:
        if path.is_file():
            return path
        if path.name.isascii() or not path.parent.is_dir():
            return None
        alike = [p for p in path.parent.iterdir() if _composed(p.name) == _composed(path.name) and p.is_file()]
    except (OSError, ValueError):
        return None  # a name that no file can have: too long, or with a zero byte
    return alike[0] if len(alike) == 1 else None


def _beside(path: Path) -> Path | None:
    beside = path.with_name(f"{path.stem}.reference.png")
    found = _found(beside)
    if found is None and os.path.lexists(beside):
        raise RawFolderError(
            f"{shown(beside)}: the reference cannot be read: it is no file, or a link to one that is gone; "
            "put the file there, or remove it"
        )
    return found


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _identity(path: Path) -> object:
    """One value for all paths of a file: links, ``..``, and other cases of letters where the disk knows no case."""
    status = path.stat()
    return (status.st_dev, status.st_ino) if status.st_ino else path.resolve()


def _check_utf8(path: Path, what: str) -> None:
    """The data set, the split and every export know a RAW by its name, as text."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise RawFolderError(f"{shown(path)}: {what} is not UTF-8; rename it") from error
