from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import device_urls
from drivers.errors import DeviceError, WorkbenchError
from drivers.protocol import zmq_keys
from drivers.protocol.serial_device import parse
from drivers.protocol.zmq_device import ZmqDevice
from drivers.registry import open_device

HOSTS = [
    ("*:5555", "where a device listens"),
    ("0.0.0.0:5555", "where a device listens"),
    ("[::]:5555", "where a device listens"),
    ("bücher:5555", "write it as xn--bcher-kva"),
    ("my board:5555", "is no host name"),
    ("a..b:5555", "is no host name"),
    ("-x:5555", "is no host name"),
    (f"{'a' * 64}:5555", "is no host name"),
    ("日本:5555", "is no host name"),
    ("h;id:5555", "is no host name"),
    (":5555", "there is no host"),
    ("", "there is no host"),
    ("h", "there is no port"),
    ("h:", "there is no port"),
    ("h:0", "port '0' is not a number in 1..65535"),
    ("h:70000", "port '70000' is not a number in 1..65535"),
    ("h:-1", "port '-1' is not a number in 1..65535"),
    ("h:http", "port 'http' is not a number in 1..65535"),
    ("[::1:5555", "invalid ipv6"),
    ("[fe80::zz]:5555", "not appear to be an ipv4 or ipv6 address"),
    ("user:secret@h:5555", "no user name or password"),
    ("h:5555/x", "nothing may follow the port"),
    ("h:5555#x", "is no part of it; write # within a name as %23"),
]


@pytest.mark.parametrize("prefix", ["zmq://", "serial:socket://", "serial:rfc2217://"])
@pytest.mark.parametrize(("where", "words"), HOSTS)
def test_hosts_and_ports_that_cannot_be_are_one_clear_line(prefix: str, where: str, words: str) -> None:
    with pytest.raises(DeviceError) as caught:
        open_device(f"{prefix}{where}?plain=1" if where else prefix, 0.2)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=30))
def test_no_text_behind_the_scheme_breaks_anything(text: str) -> None:
    for prefix in ("zmq://", "zmq:"):
        try:
            device_urls.take_deadline(prefix + text)
            device = ZmqDevice(f"{prefix}{text}?plain=1", 0.001)
        except WorkbenchError:
            continue
        device.close()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("kyes=a", "did you mean 'keys'?"),
        ("plane=1", "did you mean 'plain'?"),
        ("setle=4", "did you mean 'settle'?"),
        ("zzz=1", "unknown option 'zzz'; known are keys, client"),
        ("plain=yes", "plain=yes is not 0 or 1"),
        ("plain=1&plain=0", "option 'plain' stands there twice"),
        ("plain", "after the question mark stand NAME=VALUE"),
        ("settle=many&plain=1", "settle=many"),
        ("settle=-1&plain=1", "settle=-1"),
    ],
)
def test_odd_options_are_one_clear_line(query: str, words: str) -> None:
    with pytest.raises(DeviceError) as caught:
        open_device(f"zmq://127.0.0.1:9?{query}", 0.2)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("url", "bare", "seconds"),
    [
        ("zmq://h:1?keys=a&deadline=90", "zmq://h:1?keys=a", 90),
        ("zmq://h:1?deadline=0.5&plain=1", "zmq://h:1?plain=1", 0.5),
        ("libraw:?deadline=600", "libraw:", 600),
        ("command:my.toml?deadline=86400", "command:my.toml", 86400),
        ("command:what?.toml", "command:what?.toml", None),
        ("sim:sim20", "sim:sim20", None),
    ],
)
def test_the_deadline_of_a_url(url: str, bare: str, seconds: float | None) -> None:
    assert device_urls.take_deadline(url) == (bare, seconds)


@pytest.mark.parametrize(
    "value", ["", "0", "-5", "nan", "inf", "1e9", "90s", "86401", "0.01", "٣", " 5", "5&deadline=5"]
)
@pytest.mark.parametrize("url", ["zmq://127.0.0.1:9", "libraw:", "sim:sim20", "command:rawtherapee"])
def test_a_deadline_that_is_no_number_of_seconds_is_refused(url: str, value: str) -> None:
    with pytest.raises(DeviceError, match="deadline="):
        open_device(f"{url}?deadline={value}")


def test_every_driver_takes_the_deadline_of_its_url() -> None:
    for url in ("sim:sim20", "libraw:"):
        with open_device(f"{url}?deadline=77", 5) as device:
            assert (device.deadline_s, device.deadline_from_url, device.url) == (77, True, f"{url}?deadline=77")
        with open_device(url, 5) as device:
            assert (device.deadline_s, device.deadline_from_url) == (5, False)
    assert parse("serial:COM3?baud=9600&deadline=5").baud == 9600


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Board.Invalid", "board.invalid"),
        ("board.invalid.", "BOARD.invalid"),
        ("[2001:DB8::1]", "2001:db8:0:0:0:0:0:1"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("2001:0db8::0001", "2001:db8::1"),
    ],
)
def test_one_host_in_two_forms(one: str, other: str) -> None:
    assert device_urls.same_host(one) == device_urls.same_host(other)
    assert device_urls.same_host(one) != device_urls.same_host("board2.invalid")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_key_that_others_can_read_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    for name in ("device", "bench"):
        _, secret = zmq_keys.new_keys(tmp_path, name)
    zmq_keys.client_keys(tmp_path)
    assert capsys.readouterr().err == ""
    secret.chmod(mode)
    for _ in range(2):
        zmq_keys.client_keys(tmp_path)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{secret}: others can read this secret key (mode 0{mode:o})" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_a_keys_place_is_not_waited_for(tmp_path: Path) -> None:
    zmq_keys.new_keys(tmp_path, "device")
    os.mkfifo(tmp_path / "bench.key_secret")
    with pytest.raises(zmq_keys.KeysError, match=r"bench\.key_secret"):
        zmq_keys.client_keys(tmp_path)
