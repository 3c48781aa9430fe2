from __future__ import annotations

from pathlib import Path

import pytest

from workbench.lab.lab_config import LabConfig, LabConfigError, load_lab_config

TEXT = """
[devices]
left = "zmq://192.0.2.7:5555?keys=keys"
far = "zmq://192.0.2.9:5555"
right = "serial:///dev/ttyUSB0?baud=921600"

[network]
plain = ["192.0.2.9", "::2"]
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "lab.toml").write_text(TEXT)
    return tmp_path


def test_devices_by_name(lab: Path) -> None:
    config = load_lab_config(lab)
    assert config.url("left", lab) == f"zmq://192.0.2.7:5555?keys={lab / 'keys'}"
    assert config.url("right", lab) == "serial:///dev/ttyUSB0?baud=921600"


def test_hosts_without_encryption_are_marked(lab: Path) -> None:
    config = load_lab_config(lab)
    assert config.url("far", lab) == "zmq://192.0.2.9:5555?plain=1"
    assert config.url("zmq://192.0.2.9:1", lab) == "zmq://192.0.2.9:1?plain=1"
    assert config.url("zmq://[::2]:1", lab) == "zmq://[::2]:1?plain=1"
    assert config.url("zmq://192.0.2.9:1?keys=a", lab) == "zmq://192.0.2.9:1?keys=a"
    assert config.url("zmq://192.0.2.8:1", lab) == "zmq://192.0.2.8:1"
    assert config.url("serial:socket://192.0.2.9:7?compress=0", lab) == "serial:socket://192.0.2.9:7?compress=0&plain=1"
    assert config.url("serial:rfc2217://192.0.2.8:7", lab) == "serial:rfc2217://192.0.2.8:7"


@pytest.mark.parametrize("host", ["Board.Invalid", "board.invalid", "BOARD.INVALID.", "board.invalid."])
@pytest.mark.parametrize("plain", ["Board.invalid", "board.INVALID.", "board.invalid"])
def test_a_host_is_the_same_in_any_case(tmp_path: Path, host: str, plain: str) -> None:
    (tmp_path / "lab.toml").write_text(f'[network]\nplain = ["{plain}"]')
    assert load_lab_config(tmp_path).url(f"zmq://{host}:5", tmp_path) == f"zmq://{host}:5?plain=1"
    assert load_lab_config(tmp_path).url(f"zmq://x{host}:5", tmp_path) == f"zmq://x{host}:5"


@pytest.mark.parametrize("url", ["zmq://[::1:5", "zmq://h:5?plain", "zmq://h:5?a=1&a=2", "zmq://[::2]:5?&&x"])
def test_a_url_that_is_none_is_left_to_the_driver(lab: Path, url: str) -> None:
    assert load_lab_config(lab).url(url, lab) == url


def test_other_urls_stay_as_they_are(lab: Path) -> None:
    for config in (load_lab_config(lab), LabConfig()):
        for url in ("sim:sim20", "libraw:", "zmq://127.0.0.1:5555", "no-such-name"):
            assert config.url(url, lab) == url


def test_without_a_file_there_are_no_settings(tmp_path: Path) -> None:
    assert load_lab_config(tmp_path) == LabConfig()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[devices", "is no TOML"),
        ("[device]\nleft = 'sim:sim20'", "device: unknown key; did you mean 'devices'?"),
        ("[devices]\nleft = 5", "devices.left"),
        ("[devices]\n'zmq://a' = 'sim:sim20'", "devices"),
        ("[network]\nplain = 'a'", "network.plain"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "lab.toml").write_text(text)
    with pytest.raises(LabConfigError, match=r"lab\.toml: ") as caught:
        load_lab_config(tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
