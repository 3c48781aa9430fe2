"""Captures of one device as JPEG and as other outputs, which its model, firmware and parameters do not tell apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from sim_lab import PROXY
from small_isp import SPACE, SmallIsp, make_lab

from drivers.device import Capture, DeviceInfo
from drivers.frames import RawFrame, RgbFrame
from drivers.parameters import ParameterSet
from drivers.plain_pictures import PictureOutput
from workbench.collect.bench import Bench
from workbench.collect.faults import faults_kept
from workbench.lab.dataset import Dataset
from workbench.learn.proxy_fitting import fit_proxy


class JpegIsp(SmallIsp):
    """Gives the same pictures as JPEG."""

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        made = super().process(raw, parameters)
        return replace(made, rgb=RgbFrame(cv2.imencode(".jpg", made.rgb.pixels)[1].tobytes(), "image/jpeg"))


class RgbIsp(SmallIsp):
    """Gives the same pictures without a file around."""

    def info(self) -> DeviceInfo:
        return replace(super().info(), output=PictureOutput(format="rgb"))


def captured(lab: Path, device: SmallIsp, *blurs: int) -> int:
    """How many captures the device was asked for."""
    with Dataset.open(lab) as dataset, faults_kept(dataset, device, "collect") as faults:
        bench = Bench(dataset, device, purpose="collect")
        list(bench.capture_many((r, SPACE.defaults.replace(blur=b)) for r in dataset.raws()[:4] for b in blurs))
    return faults.asked


def test_an_output_of_another_kind_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identity = SmallIsp().info().identity
    assert JpegIsp().info().identity == RgbIsp().info().identity == identity
    make_lab(tmp_path, train=4, test=0)
    assert captured(tmp_path, JpegIsp(), 0) == 4
    assert captured(tmp_path, JpegIsp(), 0, 1) == 4
    assert "note:" not in capsys.readouterr().err
    start = f"note: the data set has JPEG of {identity}, which gives"
    # All that is asked for is there, as JPEG.
    assert captured(tmp_path, RgbIsp(), 0, 1) == 0
    told = capsys.readouterr().err
    assert told.count("\n") == told.count(f"{start} rgb now: captures of both count as one device's; ") == 1
    assert captured(tmp_path, SmallIsp(), 0, 2) == 4
    told = capsys.readouterr().err
    assert told.count(f"{start} PNG now") == told.count("note:") == 1
    # Both are there now: it was told, and of a device whose parameters choose the kind nothing is to be told.
    assert captured(tmp_path, JpegIsp(), 3) == 4
    assert "note:" not in capsys.readouterr().err


def test_a_proxy_of_both_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_lab(tmp_path, train=4, test=0)
    captured(tmp_path, SmallIsp(), 0, 1)
    fit_proxy(tmp_path, PROXY)
    assert "note:" not in capsys.readouterr().err
    captured(tmp_path, JpegIsp(), 2)
    capsys.readouterr()
    fit_proxy(tmp_path, PROXY)
    line = f"note: the training captures of {SmallIsp().info().identity} are JPEG and PNG: the proxy learns both"
    assert capsys.readouterr().err.count(line) == 1
