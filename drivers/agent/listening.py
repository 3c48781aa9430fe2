"""Where an agent listens: a URL of the same form as its client's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drivers import device_urls
from drivers.agent.serving import ServerLink
from drivers.errors import DeviceError
from drivers.protocol.zmq_keys import device_keys, is_loopback

FOLDER = "folder:"
FORMS = "zmq://HOST:PORT, serial:PORT?baud=N, serial:pty, serial:pty:PATH or serial:socket://HOST:PORT"


def open_link(url: str, max_payload: int) -> ServerLink:
    """The link at a URL.

    Args:
        url: see :meth:`drivers.agent.kit.Agent.serve`; of a serial line also ``pixels=folder:PATH``.
        max_payload: largest RAW taken, in bytes.

    Raises:
        DeviceError: the URL is malformed, taken, or reaches beyond this machine without saying how.
    """
    scheme, place, query = device_urls.parts(url)
    if scheme == "zmq":
        return _zmq(url, _options(url, query, ("keys", "plain")), max_payload)
    if scheme == "serial" and place:
        return _serial(url, place, query, max_payload)
    raise DeviceError(f"an agent does not listen on {url!r}; give it {FORMS}")


def _zmq(url: str, options: dict[str, str], max_payload: int) -> ServerLink:
    from drivers.agent.zmq_link import RouterLink

    address = _address(url.partition("?")[0], "zmq", url)
    if "keys" in options:
        return RouterLink(*address, max_payload, device_keys(Path(options["keys"])))
    _stay_here(url, address[0], options, "add ?keys=FOLDER (made by `workbench keys new`), or ?plain=1")
    return RouterLink(*address, max_payload, None)


def _serial(url: str, place: str, query: str, max_payload: int) -> ServerLink:
    from drivers.agent.serial_lines import Line, PortLine, TcpLine, pty_line
    from drivers.agent.serial_link import open_serial

    options = _options(url, query, ("baud", "compress", "plain", "pixels"))
    pixels = options.get("pixels", FOLDER)
    if not pixels.startswith(FOLDER):
        raise DeviceError(f"{url}: pixels={pixels} is not {FOLDER}PATH; an agent has no second channel")

    def line() -> Line:
        if (terminal := pty_line(place)) is not None:
            return terminal
        if place.startswith("socket://"):
            address = _address(place, "socket", url)
            _stay_here(url, address[0], options, "add ?plain=1")
            return TcpLine(*address)
        return PortLine(f"serial:{place}" + (f"?baud={options['baud']}" if "baud" in options else ""))

    folder = pixels.removeprefix(FOLDER)
    return open_serial(line, max_payload, Path(folder) if folder else None)


def _options(url: str, query: str, known: Sequence[str]) -> dict[str, str]:
    try:
        return device_urls.options(url, query, known)
    except ValueError as error:
        raise DeviceError(f"an agent does not listen on {url!r}: {error}") from None


def _address(place: str, scheme: str, url: str) -> tuple[str, int]:
    if (address := device_urls.listen_address(place, (scheme,))) is None:
        raise DeviceError(f"an agent does not listen on {url!r}; give it {FORMS}")
    return address


def _stay_here(url: str, host: str, options: dict[str, str], how: str) -> None:
    if not is_loopback(host) and options.get("plain") != "1":
        raise DeviceError(
            f"{url}: {host} is not loopback and the link would have no encryption; {how} if the network is yours, or "
            "listen on 127.0.0.1"
        )
