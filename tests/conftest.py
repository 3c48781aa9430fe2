from __future__ import annotations

import functools
import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from servers import in_thread

# The workers of pytest-xdist share the cores: with threads of their own in each, most of their time goes into waiting
# for one another. Set before anything imports torch or NumPy; the processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where it is set, each worker compiles the code and the tests anew, and each process that a test starts the code again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

MEMORY = Path("/dev/shm")


def has_room(place: Path, least: int = 4 << 30) -> bool:
    """Whether programs can be kept and started there."""
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        return False
    return shutil.disk_usage(place).free >= least and not os.statvfs(place).f_flag & os.ST_NOEXEC


# The tests' folders lie in memory where there is room: many small commits wait for a disk longer than they compute.
# Whoever names a place (TMPDIR) gets that.
if not {"TMPDIR", "PYTEST_DEBUG_TEMPROOT"} & os.environ.keys() and has_room(MEMORY):
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)

# A shell that starts the suite in the background ignores Ctrl-C, and every process started from here would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# How long a draw takes is the machine's affair: the first one of a process makes Hypothesis' tables of characters.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

LONG = {"test_demo", "test_kill", "test_wheel", "test_refine", "test_vision", "test_doc_examples", "test_conformance"}


def state_of_the_process() -> dict[str, Any]:
    """What a test may change for a while, and the next one must find as it was."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    state = {"folder": Path.cwd(), "sys.path": list(sys.path), "signals": handlers}
    # What importing scikit-learn (KMP_), OpenCV and the compiler of torch (at the first optimiser) set.
    passing = ("PYTEST_", "COV_", "KMP_", "LD_LIBRARY_PATH", "TORCHINDUCTOR_")
    state |= {f"${name}": value for name, value in os.environ.items() if not name.startswith(passing)}
    if numpy := sys.modules.get("numpy"):
        state["floating point"] = numpy.geterr()
    if torch := sys.modules.get("torch"):
        state["torch"] = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    return state


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The modules with the longest tests are begun first, so that none of them runs alone at the end."""
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not look through it again and again (8 % of the time)."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def alone(settings_of_nobody: None) -> Iterator[None]:
    """No test depends on those before it: torch draws the same in each (NumPy and random are pytest-randomly's)."""
    if torch := sys.modules.get("torch"):
        # `torch.manual_seed` notes its caller for each kind of device that is not in use yet: a millisecond a test.
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(0)
    before = state_of_the_process()
    yield
    after = state_of_the_process()
    changed = [name for name in before | after if name in before and after.get(name) != before[name]]
    new = [name for name in after if name.startswith("$") and name not in before]
    assert not changed + new, "the test left this changed"


@pytest.fixture(scope="session", autouse=True)
def settings_of_nobody(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a test trusts is not trusted by whoever runs the tests, whose traces are his own."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "APPDATA", "LOCALAPPDATA"):
        os.environ[name] = str(tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="session", autouse=True)
def installed_looked_up_once() -> Iterator[None]:
    """Which drivers and tasks are installed stays the same; to look takes 8 ms, for each device that is opened."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("drivers.registry", "workbench.tasks.registry"):
            if module := sys.modules.get(name):
                patch.setattr(module, "entry_points", functools.cache(entry_points))
        yield


@pytest.fixture(scope="session", autouse=True)
def schema_made_once() -> Iterator[None]:
    """The migrations make the first new data set of a process, and the others get the very schema that they made.

    A new data set costs more than most of what a test asks of it. Those of an older schema are upgraded as ever, and
    so is what is made in a process of its own.
    """
    if (module := sys.modules.get("workbench.lab.dataset.database")) is None:
        yield
        return
    made: list[str] = []
    migrate = module.Database.upgrade

    def upgrade(database: Any) -> None:
        if database.engine.dialect.name != "sqlite" or database.version() is not None:
            migrate(database)
            return
        if made:
            with database.writing() as connection:
                for statement in made:
                    connection.exec_driver_sql(statement)
            return
        migrate(database)
        with database.reading() as connection:
            lines = connection.connection.driver_connection.iterdump()
            made[:] = [line for line in lines if line not in ("BEGIN TRANSACTION;", "COMMIT;")]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Database, "upgrade", upgrade)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The measuring material: the folder named by WORKBENCH_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("WORKBENCH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"measuring material absent: {folder} (set WORKBENCH_DATA)")
    return folder


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    """A PostgreSQL of this process' tests, begun by the first that needs it."""
    from postgresql_server import PostgresqlServer

    pytest.importorskip("psycopg", reason="psycopg is absent (the extra `storage`)")
    server = PostgresqlServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """An S3 object store of this process' tests, begun by the first that needs it."""
    from s3_server import S3Server

    pytest.importorskip("obstore", reason="obstore is absent (the extra `storage`)")
    server = S3Server()
    yield server
    server.remove()


@pytest.fixture
def object_store(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The object store with an empty bucket, and an environment that leads to it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    yield s3_server
    s3_server.empty()


@pytest.fixture
def kept_in(request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """``kept_in(lab)`` makes a lab folder whose data set is kept in a file, or on a server, and gives it.

    A test runs on both where it is marked ``@on_both``.
    """
    kind = getattr(request, "param", "sqlite")

    def make(lab: Path) -> Path:
        lab.mkdir(parents=True, exist_ok=True)
        if kind == "postgresql":
            url = request.getfixturevalue("postgresql").new_database()
            (lab / "lab.toml").write_text(f'[storage]\ndatabase = "{url}"\n')
        return lab

    return make


def _in_memory() -> Iterator[None]:
    import optuna

    kept: dict[str, optuna.storages.InMemoryStorage] = {}

    class Storage:
        def __new__(cls, url: str, engine_kwargs: object) -> Any:
            return kept.setdefault(url, optuna.storages.InMemoryStorage())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.storages, "RDBStorage", Storage)
        yield


@pytest.fixture
def studies_in_memory() -> Iterator[None]:
    """Optuna's studies are kept by their URL in this process: its tables are half of what a search of a test costs."""
    yield from _in_memory()


@pytest.fixture(scope="module")
def module_in_memory() -> Iterator[None]:
    """``studies_in_memory`` for the fixtures of a module too."""
    yield from _in_memory()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of a report have their labels alone: drawing them is most of what a page costs."""
    from markupsafe import Markup

    from workbench.report import figures

    def outline(figure: object, name: str, label: str) -> Markup:
        return Markup('<svg role="img" aria-label="{}"></svg>').format(label)

    monkeypatch.setattr(figures, "to_svg", outline)


@pytest.fixture
def serving() -> Iterator[Callable[..., str]]:
    """``serving(firmware, faults=None)`` serves it over ZeroMQ from a thread until the test's end; gives its URL."""
    from sim.firmware.zmq_server import serve_firmware

    with ExitStack() as servers:
        yield lambda firmware, faults=None: servers.enter_context(
            in_thread(serve_firmware, firmware, "127.0.0.1:0", faults=faults)
        )
