"""Weights files as strangers may leave them: sizes are looked at before memory is taken, refusals are one line."""

import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.parameters import Parameter, ParameterSpace
from drivers.weights import FILE_NAME, WeightsError, load_weights, network_of, save_weights
from predictor.files import load_predictor, save_predictor
from predictor.model import Predictor, PredictorConfig
from proxy.files import load_proxy, save_proxy
from proxy.model import Proxy, ProxyConfig

SPACE = ParameterSpace(
    name="small",
    parameters=tuple(
        Parameter(name=n, block="b", kind="continuous", low=0, high=1, step=0.01, default=0.5) for n in ("x", "y")
    ),
)


def save(kind: str, folder: Path) -> None:
    if kind == "proxy":
        save_proxy(folder, Proxy(ProxyConfig(2, 4)), SPACE, "d")
    else:
        save_predictor(folder, Predictor(PredictorConfig(2, 4)), SPACE, "d")


LOADERS: dict[str, Callable[[Path], object]] = {"proxy": load_proxy, "predictor": load_predictor}


def refusal(kind: str, folder: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        LOADERS[kind](folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def described(kind: str, folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Good tensors with another description."""
    save(kind, folder)
    tensors, description = load_weights(folder, kind)
    change(description)
    save_weights(folder, kind, tensors, description)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("proxy", "width", 4000),
        ("proxy", "width", 1000),
        ("proxy", "levels", 10**7),
        ("proxy", "levels", 8),
        ("proxy", "embedding", 60_000),
        ("proxy", "embedding", 2**70),
        ("proxy", "parameters", 10**7),
        ("predictor", "width", 4000),
        ("predictor", "width", 1000),
        ("predictor", "width", 4.0),
        ("predictor", "width", True),
        ("predictor", "width", -1),
        ("predictor", "width", "4"),
        ("predictor", "attention_width", 10**6),
        ("predictor", "parameters", 10**7),
        ("predictor", "parameters", 1000),
        ("predictor", "metadata", 900),
        ("predictor", "encoders", 6),
        ("predictor", "encoders", None),
    ],
)
def test_a_description_that_asks_for_more_takes_no_memory(tmp_path: Path, kind: str, key: str, value: object) -> None:
    described(kind, tmp_path, lambda d: d["config"].update({key: value}))
    sizes: list[int] = []
    real = torch.nn.Parameter.__new__

    def counted(cls: type, data: torch.Tensor | None = None, requires_grad: bool = True) -> torch.nn.Parameter:
        if data is not None and data.device.type == "cpu":
            sizes.append(data.numel())
        return real(cls, data, requires_grad)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Parameter, "__new__", counted)
        assert "do not fit their description" in refusal(kind, tmp_path)
    assert sum(sizes) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(longest=0),
        lambda d: d.update(longest=10**9),
        lambda d: d.update(longest="512"),
        lambda d: d.update(space={"name": "x", "parameters": []}),
        lambda d: d.update(space=[]),
        lambda d: d["space"]["parameters"].pop(),
        lambda d: d["space"]["parameters"][0].update(high=float("inf")),
        lambda d: d.update(config=[4, 4]),
        lambda d: d["config"].update(depth=3),
        lambda d: d.pop("device"),
    ],
)
def test_a_description_that_means_nothing_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    described("predictor", tmp_path, change)
    assert "do not fit their description" in refusal("predictor", tmp_path)


@pytest.mark.parametrize("kind", ["proxy", "predictor"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop(next(iter(t))), "only the description has a tensor"),
        (lambda t: t.update(more=torch.zeros(3)), "only the file has a tensor more"),
        (lambda t: t.update({k: v.half() for k, v in t.items()}), "torch.float16"),
        (lambda t: t.update({k: v[None] for k, v in t.items()}), ", not torch.float32"),
        (lambda t: next(iter(t.values())).fill_(float("nan")), "no finite numbers"),
    ],
)
def test_tensors_that_are_not_the_networks_are_refused(tmp_path: Path, kind: str, change: Any, reason: str) -> None:
    save(kind, tmp_path)
    tensors, description = load_weights(tmp_path, kind)
    change(tensors)
    save_weights(tmp_path, kind, tensors, description)
    assert reason in refusal(kind, tmp_path)


def raw_file(header: bytes, payload: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + payload


def with_metadata(description: str) -> bytes:
    return raw_file(json.dumps({"__metadata__": {"kind": "proxy", "description": description}}).encode())


LYING = {
    "empty": b"",
    "short": b"\x05\0\0",
    "endless header": raw_file(b"{}", length=2**62),
    "header of 17 MiB": raw_file(b"{}" + b" " * (17 << 20)),
    "header beyond the file": raw_file(b"{}", length=5000),
    "no JSON": raw_file(b"hello"),
    "deep JSON": raw_file(b'{"a":' + b"[" * 20_000),
    "offsets beyond the file": raw_file(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
    "more values than bytes": raw_file(b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4]}}', bytes(4)),
    "sizes that overflow": raw_file(
        b'{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}}', bytes(4)
    ),
    "backwards": raw_file(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', bytes(4)),
    "unknown type": raw_file(b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "no metadata": raw_file(b"{}"),
    "description of depth": with_metadata("[" * 100_000),
    "description of long numbers": with_metadata('{"config": ' + "9" * 5000 + "}"),
    "description no JSON": with_metadata("hello\x1b[31m"),
    "description a list": with_metadata("[]"),
    "description a text": with_metadata('"config"'),
}


@pytest.mark.parametrize("name", LYING)
def test_a_header_that_lies_is_refused_before_memory_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(LYING[name])
    tracemalloc.start()
    try:
        message = refusal("proxy", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert "\x1b" not in message


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


@pytest.mark.skipif(os.name == "nt", reason="pipes and links")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "is a named pipe"),
        (Path.mkdir, "is a folder"),
        (lambda p: p.symlink_to("/dev/zero"), "is a character device"),
        (lambda p: p.symlink_to(p.name), "cannot be read"),
        (_huge, "at most 2,147,483,648 are read"),
        (lambda p: None, "no such file"),
    ],
)
def test_only_regular_files_of_a_bounded_size_are_read(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / FILE_NAME)
    assert reason in refusal("predictor", tmp_path)


def test_comparing_first_changes_no_random_number(tmp_path: Path) -> None:
    torch.manual_seed(3)
    plain = Predictor(PredictorConfig(2, 4))
    after = torch.rand(1)
    torch.manual_seed(3)
    again = network_of(lambda: Predictor(PredictorConfig(2, 4)), plain.state_dict())
    assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), plain.parameters(), strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4), st.data())
def test_any_bytes_are_weights_or_a_weights_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("weights")
    save("proxy", folder)
    encoded = bytearray((folder / FILE_NAME).read_bytes())
    for at, what in changes:
        encoded[at : at + len(what)] = what
    if data.draw(st.booleans()):
        del encoded[data.draw(st.integers(0, len(encoded))) :]
    (folder / FILE_NAME).write_bytes(encoded)
    try:
        load_proxy(folder)
    except WeightsError as error:
        told = str(error)
        assert told.isprintable()
