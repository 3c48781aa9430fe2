import pytest

from drivers.errors import DeviceError
from drivers.programs.libraw_device import LibRawDevice
from drivers.registry import open_device


def test_the_scheme_finds_the_driver() -> None:
    with open_device("libraw:", 7.5) as device:
        assert isinstance(device, LibRawDevice)
        assert (device.url, device.deadline_s) == ("libraw:", 7.5)


@pytest.mark.parametrize("url", ["", "sim20", "ftp://127.0.0.1", ":5555", "LIBRAW"])
def test_unknown_schemes_name_the_known_ones(url: str) -> None:
    with pytest.raises(DeviceError) as caught:
        open_device(url)
    text = str(caught.value)
    assert repr(url) in text
    assert all(f"{scheme}:" in text for scheme in ("libraw", "sim", "zmq"))
