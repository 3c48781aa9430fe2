"""Names of files, units and categories in pages and drawings: text, whatever signs they hold."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from drivers.atomic_files import write_text
from drivers.foreign_text import shown
from drivers.frames import RawFrame
from workbench.draw.style import styled
from workbench.lab.runs import write_json
from workbench.learn.attention_maps import draw_attention
from workbench.report import figures
from workbench.report.words import code
from workbench.tasks import vision_pictures
from workbench.tasks.detectors import Prediction
from workbench.tasks.task import PictureRow

ODD = ["$x^", "$\\frac{$", "<script>&amp;", "\x1b[31mred", "\u202egnp", "name-\udcff", "a]]>b\x00"]


@pytest.mark.parametrize("text", ODD)
def test_a_drawing_of_the_report(text: str) -> None:
    with styled():
        figure = Figure()
        axes = figure.add_subplot()
        axes.plot([1, 2], label=text)
        axes.set_ylabel(text)
        axes.legend()
        svg = figures.to_svg(figure, "odd", text)
    texts = "".join(ET.fromstring(svg.replace("xlink:", "")).itertext())
    assert shown(text) in texts
    assert shown(svg, keep="\n\t") == svg


@pytest.mark.parametrize("text", ODD)
def test_attention_maps(text: str, tmp_path: Path) -> None:
    raw = RawFrame(np.full((8, 8), 100, np.uint16), "RGGB", (0, 0, 0, 0), 4095)
    draw_attention(raw, np.full((1, 2, 2), 0.25), ["gain"], ["gain"], tmp_path / "a.png", text)
    assert (tmp_path / "a.png").stat().st_size > 0


@pytest.mark.parametrize("text", ODD)
def test_pictures_of_what_a_detector_sees(text: str) -> None:
    assert "<svg" in seen_by_a_detector(text)


def seen_by_a_detector(text: str) -> str:
    pixels = np.zeros((8, 8, 3), np.uint8)
    record = SimpleNamespace(hash="r", name=text, scene="s", iso=100.0, reference=lambda: None)
    capture = SimpleNamespace(rgb=lambda: SimpleNamespace(pixels=pixels))
    boxes = torch.tensor([[1.0, 1.0, 5.0, 5.0]])
    found = Prediction(boxes, torch.ones(1), torch.tensor([1]), None)
    task = SimpleNamespace(
        data=SimpleNamespace(categories={1: {"name": text}}),
        targets=lambda raws: {"r": SimpleNamespace(boxes=boxes, category_ids=torch.tensor([1]), masks=None)},
        predict=lambda pixels: found,
    )
    return vision_pictures.drawn(task, [PictureRow(record, (capture,))], [text])  # type: ignore[arg-type]


OF_THE_USER: Any = {"text.usetex": True, "axes.facecolor": "black", "savefig.bbox": "tight", "font.size": 20.0}


def test_figures_are_the_same_whatever_style_the_user_has(tmp_path: Path) -> None:
    """A ``matplotlibrc`` that asks for LaTeX, or the settings of a notebook, which stay as they are."""
    raw = RawFrame(np.full((8, 8), 100, np.uint16), "RGGB", (0, 0, 0, 0), 4095)

    def drawn() -> tuple[bytes, str, int]:
        draw_attention(raw, np.full((1, 2, 2), 0.25), ["gain"], ["gain"], tmp_path / "a.png", "a")
        with styled():
            figure = Figure()
            figure.add_subplot().set_ylabel("dB")
            svg = figures.to_svg(figure, "a", "a")
        return (tmp_path / "a.png").read_bytes(), svg, len(seen_by_a_detector("a"))

    before = drawn()
    with mpl.rc_context(OF_THE_USER):
        mpl.use("pdf")
        assert drawn() == before
        assert {key: mpl.rcParams[key] for key in OF_THE_USER} == OF_THE_USER
        assert mpl.get_backend() == "pdf"


def test_records_keep_names_that_are_no_utf_8(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"command": "collect --raws r\udce9", "µ": 1})
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8")) == {
        "command": "collect --raws r\udce9",
        "µ": 1,
    }
    write_text(tmp_path / "a.csv", "name-\udcff\n")
    assert (tmp_path / "a.csv").read_bytes() == b"name-\\udcff\n"


def test_commands_in_a_text_are_code_and_nothing_else_is_markup() -> None:
    assert (
        code("run `workbench train <lab>`, then <b>") == "run <code>workbench train &lt;lab&gt;</code>, then &lt;b&gt;"
    )
    assert code("one ` alone") == "one ` alone"
