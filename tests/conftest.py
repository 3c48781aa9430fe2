from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The workers of pytest-xdist share the cores: with threads of their own in each, most of their time goes into waiting
# for one another. Set before anything imports torch or NumPy; the processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the suite in the background ignores Ctrl-C, and every process started from here would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def settings_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a test trusts is not trusted by whoever runs the tests, whose traces are his own."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "APPDATA", "LOCALAPPDATA"):
        os.environ[name] = str(tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The measuring material: the folder named by WORKBENCH_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("WORKBENCH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"measuring material absent: {folder} (set WORKBENCH_DATA)")
    return folder


@pytest.fixture
def serving() -> Iterator[Callable[..., str]]:
    """``serving(firmware, faults=None)`` serves it over ZeroMQ from a thread until the test's end; gives its URL."""
    from sim.firmware.zmq_server import serve_firmware

    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(firmware: object, faults: object = None) -> str:
        urls: queue.Queue[str] = queue.Queue()
        thread = threading.Thread(
            target=serve_firmware,
            args=(firmware, "127.0.0.1:0", urls.put),
            kwargs={"stop": stop, "faults": faults},
            daemon=True,
        )
        threads.append(thread)
        thread.start()
        return urls.get(timeout=10)

    yield start
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"
