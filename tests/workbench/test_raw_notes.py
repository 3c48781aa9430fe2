"""What ``collect`` and ``predict`` say of the RAW files that they read, and of the files that they pass over."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from drivers.frames import RawFrame
from drivers.raw.dng import dng_bytes
from drivers.raw.raw_files import save_npz
from workbench.collect.raw_folder import passed_over, read_raw_folder
from workbench.commands.collect import collect
from workbench.commands.predict import predict
from workbench.errors import RawFolderError


def raw(seed: int, **changes: Any) -> RawFrame:
    mosaic = np.random.default_rng(seed).integers(100, 900, (32, 32), dtype=np.uint16)
    return RawFrame(mosaic, "RGGB", (64.0,) * 4, 1023, iso=100.0, **changes)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raws").mkdir()
    return tmp_path


def run(command: Callable[..., None], *arguments: str) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_collect_tells_each_kind_of_note_once_and_what_it_passed_over(place: Path) -> None:
    for i in range(3):
        save_npz(place / "raws" / f"{i}.npz", raw(i, as_shot_wb=(40.0, 1.0, 1.0)))
    (place / "raws" / "3.rwl").write_bytes(dng_bytes(raw(3)))
    (place / "raws" / "4.tif").write_bytes(dng_bytes(raw(4)))
    for name in ("x.heic", "y.raw2", "notes.txt", "0.reference.xmp"):
        (place / "raws" / name).write_bytes(b"x")
    assert cv2.imwrite(str(place / "raws" / "z.tiff"), np.zeros((32, 32, 3), np.uint8))
    result = run(collect, "--device", "sim:sim20", "--raws", "raws", "--captures", "1", "--lab", "lab")
    assert result.exit_code == 0, result.output
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: raws: passed over, not RAW files that can be read: x.heic, y.raw2, z.tiff",
        "note: 0.npz: as-shot white balance 40 1 1 is beyond 1/16 to 16; is it right? (and the like in 2 other RAWs)",
    ]


def test_predict_tells_what_is_odd_of_its_raw(place: Path) -> None:
    save_npz(place / "a.npz", raw(0, exposure_s=1e9))
    result = run(predict, "a.npz", "--lab", "lab")
    assert "note: a.npz: exposure time 1e+09 s is beyond" in result.stderr


def test_a_table_says_what_is_taken_so_nothing_is_passed_over(place: Path) -> None:
    for name in ("a.npz", "b.heic"):
        (place / "raws" / name).write_bytes(b"x")
    entries = read_raw_folder(place / "raws")
    assert passed_over(place / "raws", entries) == ["b.heic"]
    (place / "raws" / "scenes.csv").write_text("file\na.npz\n", encoding="utf-8")
    assert passed_over(place / "raws", read_raw_folder(place / "raws")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
@pytest.mark.parametrize("name", [b"caf\xe9.npz", b"\xff.dng", b"a\xc0\xaf.raw"])
def test_a_raw_whose_name_is_no_utf8_is_one_line(place: Path, name: bytes) -> None:
    (place / "raws" / "a.npz").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(place / "raws") + b"/" + name)).write_bytes(b"x")
    with pytest.raises(RawFolderError, match="name is not UTF-8; rename it") as caught:
        read_raw_folder(place / "raws")
    str(caught.value).encode()
