"""Parameters of version 2: steps, fields, conditions, constraints, vectors, statistics; of a kit agent over a link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import in_thread

from drivers.agent import Agent, Register, Statistic, bands, choice, continuous, curve, integer, matrix, switch, table
from drivers.errors import ParameterError
from drivers.frames import RawFrame
from drivers.parameters import Parameter, ParameterSet, ParameterSpace
from drivers.protocol import wire
from drivers.registers import HasRegisters, RegisterMap
from drivers.registry import open_device
from drivers.splits import Split
from workbench.check import conformance
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.export import export
from workbench.lab.dataset.verify import verify

MOSAIC = (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 7) % 1024
RAW = RawFrame(MOSAIC, "RGGB", (64.0,) * 4, 1023, iso=400.0)


def field(low_bit: int, bits: int, signed: bool = False) -> Register:
    return Register(address=0, width=16, signed=signed, low_bit=low_bit, bits=bits)


AGENT = Agent(
    model="rich",
    firmware="1",
    parameters=[
        integer("window", 3, 15, step=2, register=field(0, 3)),
        switch("flip", register=field(3, 1)),
        integer("shift", -4, 3, register=field(4, 3, signed=True)),
        continuous("gain", 1, 16, step=0.05, scale="log", coding="log2", default=1),
        choice("denoise", ["off", "box", "bilateral"]),
        continuous("sigma", 0, 4, step=1 / 16, default=1, when=("denoise", ["bilateral"])),
        continuous("low", 0, 1, step=1 / 64, default=0.25),
        continuous("high", 0, 1, step=1 / 64, default=0.75),
        integer("port", 0, 9, default=4, searched=False),
        curve("tone", [0, 0.25, 1], 0, 1, step=1 / 64),
        matrix("ccm", -1, 1, step=1 / 64),
        bands("bands", 2, 0, 1, step=1 / 16),
        table("nr", [100, 1600], 0, 1, step=1 / 16, default=[0, 1]),
    ],
    constraints=["low < high"],
    statistics=[Statistic(name="mean_dn")],
)
SPACE = AGENT.space


@AGENT.process
def process(mosaic: np.ndarray, metadata: Any, values: Any) -> tuple[np.ndarray, dict[str, float]]:
    """A picture of every value: flat but for a row that holds them."""
    figures = [values["window"], values["flip"], values["gain"], values["low"], values["high"], values["sigma"]]
    figures += [*values["tone"], *values["ccm"].sum(axis=1), *values["bands"], values["nr"], values["shift"]]
    picture = np.repeat((mosaic >> 2).astype(np.uint8)[..., None], 3, axis=2)
    picture[0, : len(figures), 0] = np.round(np.array(figures, dtype=np.float64) * 8).astype(np.int64) % 256
    picture[0, : len(figures), 1] = values["port"]
    return picture, {"mean_dn": float(mosaic.mean())}


@pytest.fixture
def url() -> Iterator[str]:
    with in_thread(AGENT.serve, "zmq://127.0.0.1:0") as url:
        yield url


units = st.lists(st.floats(-0.5, 1.5), min_size=len(SPACE), max_size=len(SPACE))


def natives(parameters: ParameterSet) -> dict[str, Any]:
    return dict(parameters.values)


@given(units)
def test_whatever_is_proposed_is_legal_and_stays_so(unit: list[float]) -> None:
    chosen = SPACE.from_unit(np.array(unit))
    values = natives(chosen)
    assert values["low"] < values["high"]
    assert values["tone_0"] <= values["tone_1"] <= values["tone_2"]
    assert values["port"] == 4
    assert values["window"] in (3, 5, 7, 9, 11, 13, 15)
    assert values["denoise"] == "bilateral" or values["sigma"] == 1
    assert SPACE.parse(values).hash == chosen.hash == SPACE.from_unit(chosen.unit).hash
    assert SPACE.from_toml(SPACE.to_toml(chosen)).hash == chosen.hash
    places = RegisterMap(SPACE)
    assert places.codes(places.words(chosen.by_name)) == chosen.by_name
    assert all(0 <= word < 2**16 for address, word in places.words(chosen.by_name).items() if address == 0)


def test_a_register_is_written_where_all_of_its_parameters_are_named() -> None:
    places, codes = RegisterMap(SPACE), SPACE.defaults.by_name
    words = places.words(codes)
    assert list(words) == list(places.addresses)
    for address in places.addresses:
        own = {p.name: codes[p.name] for p in places.at(address)}
        assert places.words(own) == {address: words[address]} == {address: places.word(address, codes)}
        if len(own) > 1:
            own.popitem()
            with pytest.raises(KeyError):
                places.words(own)
    assert places.words({}) == {}


@given(units)
def test_vectors_are_what_their_form_says(unit: list[float]) -> None:
    values = natives(SPACE.from_unit(np.array(unit)))
    found = {v.name: v.value(values, 400.0) for v in SPACE.vectors}
    own = found["ccm"]
    assert isinstance(own, np.ndarray)
    np.testing.assert_allclose(own.sum(axis=1), 1, atol=1e-12)
    assert [own[i, j] for i in range(3) for j in range(3) if i != j] == [
        values[f"ccm_{i}{j}"] for i in range(3) for j in range(3) if i != j
    ]
    assert found["nr"] == pytest.approx((values["nr_0"] + values["nr_1"]) / 2)  # 400 is half way, in stops
    assert list(np.diff(found["tone"]) >= 0) == [True, True]
    np.testing.assert_array_equal(found["bands"], [values["bands_0"], values["bands_1"]])


def test_told_and_read_back_the_same() -> None:
    again = ParameterSpace.from_dict(SPACE.to_dict())
    assert again == SPACE
    assert again.hash == SPACE.hash
    answer = AGENT.device().handle(wire.Hello(1, wire.LATEST))
    decoded = wire.decode(wire.encode(answer))
    assert isinstance(decoded, wire.Info)
    assert decoded.space == SPACE
    refused = AGENT.device().handle(wire.Hello(1, 1))
    assert isinstance(refused, wire.Error)
    assert refused.code == "version"


def test_sets_that_do_the_same_are_the_same() -> None:
    one, other = (SPACE.parse({"denoise": "box", "sigma": s}, partial=True) for s in (0.5, 3))
    assert one.hash == other.hash
    assert one.replace(denoise="bilateral", sigma=3).hash != one.replace(denoise="bilateral").hash


def test_what_breaks_a_constraint_is_refused_where_it_is_written() -> None:
    with pytest.raises(ParameterError, match=r"low < high does not hold: 0.5 and 0.5"):
        SPACE.parse({"low": 0.5, "high": 0.5}, partial=True)
    with pytest.raises(ParameterError, match="tone_0 <= tone_1"):
        SPACE.from_toml("tone_0 = 1.0\ntone_1 = 0.5")
    with pytest.raises(ParameterError, match="4 is not one of 3, 5 … 15"):
        SPACE.parse({"window": 4}, partial=True)


def number(name: str, low: float, high: float, step: float, default: float) -> Parameter:
    return Parameter(name=name, block="b", kind="continuous", low=low, high=high, step=step, default=default)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_repair_keeps_constraints_between_unlike_ranges(unit: list[float]) -> None:
    three = (number("a", 0, 4, 0.1, 0), number("b", 1, 3, 0.25, 1.5), number("c", 2, 2.5, 0.5, 2))
    space = ParameterSpace("three", three, ("b <= c", "a < b"))
    values = space.from_unit(np.array(unit)).values
    assert float(values["a"]) < float(values["b"]) <= float(values["c"])


@pytest.mark.parametrize(
    ("constraints", "told"),
    [
        (["a < b", "b < a"], "circle"),
        (["a > b"], "not of the form"),
        (["a < z"], "no parameter z"),
        (["b < a"], "the defaults: b < a does not hold"),
        (["c < a"], "leave it no value"),
    ],
)
def test_constraints_that_cannot_be_kept(constraints: list[str], told: str) -> None:
    parameters = (number("a", 0, 1, 0.5, 0), number("b", 0, 1, 0.5, 1), number("c", 1, 2, 0.5, 1))
    with pytest.raises(ParameterError, match=told):
        ParameterSpace("odd", parameters, tuple(constraints))


def test_a_search_and_a_training_ask_for_legal_sets() -> None:
    import torch

    from predictor.training import Quantiser
    from workbench.tune.nelder_mead import NelderMeadProposer
    from workbench.tune.proposals import CmaEsProposer, RandomProposer

    start = SPACE.parse({"port": 7}, partial=True)
    free = [p.name for p in SPACE.parameters if p.searched]
    for proposer in (
        RandomProposer(start, free, 0),
        CmaEsProposer(start, free, 0, 0.3),
        NelderMeadProposer(start, free, 0),
    ):
        proposer.tell([start], [(0.0,)])
        for parameters in proposer.ask():
            assert parameters["port"] == 7
            assert SPACE.parse(natives(parameters)).hash == parameters.hash
    asked = torch.rand(3, len(SPACE), generator=torch.Generator().manual_seed(0), requires_grad=True)
    snapped = Quantiser(SPACE)(asked)
    for row in snapped.detach().double().numpy():
        np.testing.assert_allclose(SPACE.from_unit(row).unit, row, atol=1e-6)
    snapped.sum().backward()
    assert asked.grad is not None
    np.testing.assert_array_equal(asked.grad.numpy(), 1)


def test_the_whole_check_passes(url: str) -> None:
    from workbench.check.peer import Peer

    with open_device(url) as device:
        peer = Peer(device.open_link, 30.0, RAW)  # type: ignore[attr-defined]
        try:
            results = list(conformance.check(peer))
        finally:
            peer.close()
    assert [r for r in results if r.outcome != "pass"] == []


def test_captures_tell_statistics_and_fields_are_written_alone(url: str) -> None:
    with open_device(url) as device:
        capture = device.process(RAW, SPACE.from_unit(np.full(len(SPACE), 0.7)))
        assert capture.statistics == {"mean_dn": float(MOSAIC.mean())}
        assert isinstance(device, HasRegisters)
        before = device.read_registers("shadow")
        assert device.write_registers({"shift": -3}) == {"shift": -3}
        assert device.read_registers("shadow") == before | {"shift": -3}


def test_statistics_stand_in_the_data_set_and_its_export(url: str, tmp_path: Path) -> None:
    with Dataset.open(tmp_path / "lab", create=True) as dataset, open_device(url) as device:
        dataset.add_raw(RAW, scene="s", split=Split.TRAIN, name="one.npz")
        (record,) = dataset.add_captures(device.info(), [device.process(RAW, SPACE.defaults)], purpose="collect")
        assert dataset.statistics(device.info().identity) == {record.id: {"mean_dn": float(MOSAIC.mean())}}
        assert verify(dataset).problems == []
        export(dataset, tmp_path / "out")
    assert f",{MOSAIC.mean()}" in (tmp_path / "out" / "captures.csv").read_text(encoding="utf-8")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_a_number_from_zero_on_may_be_below_a_logarithm(unit: list[float]) -> None:
    floor = Parameter(name="floor", block="b", kind="continuous", low=0, high=4, step=0.25, default=0)
    gain = Parameter(name="gain", block="b", kind="continuous", low=0.5, high=8, step=0.1, coding="log2", default=1)
    space = ParameterSpace("mixed", (floor, gain), ("floor < gain",))
    chosen = space.from_unit(np.array(unit))
    assert float(chosen["floor"]) < float(chosen["gain"])
