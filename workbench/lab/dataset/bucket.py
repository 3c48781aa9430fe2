"""A data set's blobs in a bucket of an S3 object store, as ``[storage] blobs`` in ``lab.toml`` names it.

Through obstore: one wheel of compiled code without further packages, which retries, signs and keeps deadlines. Endpoint
and credentials come from the environment (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``).
An object is whole or not there at all, and durable once its store says so; no folder needs to be flushed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from drivers.foreign_text import shown
from workbench.errors import DatasetError
from workbench.lab.dataset.blob_cache import BlobCache
from workbench.lab.dataset.blobs import MENDED, BlobKey, BlobStore
from workbench.lab.dataset.explained import BUSY_S, explained

EXTRA = "run pip install 'isp-workbench[storage]'"
_SOURCES = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
_NO_BUCKET = "NoSuchBucket"
_CREDENTIALS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do there"
_CHECK = "check that the object store runs, and AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"


class BucketStore(BlobStore):
    """The blobs ``s3://BUCKET/PREFIX/ab/<sha256>.<suffix>``, read through a cache in a local folder.

    A store that is away is asked again for three times ``busy_s``.

    Args:
        url: ``s3://BUCKET/PREFIX``.
        cache: the cache's folder; ``cache_bytes``: its limit.
        busy_s: seconds.

    Raises:
        DatasetError: obstore is not installed, or no credentials are given.
    """

    threads = 16

    def __init__(self, url: str, cache: Path, cache_bytes: int, busy_s: float = BUSY_S) -> None:
        super().__init__(cache)
        self.url = url.rstrip("/")
        self.cache = BlobCache(cache, cache_bytes)
        self._store = _opened(self.url, busy_s)

    def path(self, digest: str, suffix: str) -> Path:
        """Where a blob lies in the cache, once it was read."""
        return self.cache.path(f"{digest}.{suffix}")

    def local(self, digest: str, suffix: str) -> Path:
        """See :meth:`BlobStore.local`; fetched into the cache where need be."""
        path = self.path(digest, suffix)
        data = self.read(digest, suffix)
        if not path.is_file():
            self._keep(digest, suffix, data)
        return path

    def write(self, blobs: Iterable[tuple[BlobKey, bytes]]) -> None:
        """Put blobs into the bucket, durably.

        Raises:
            DatasetError: the bucket cannot be written.
        """
        wanted = {key.hash: (key, data) for key, data in blobs}
        if wanted:
            self.each(self._put, list(wanted.values()))

    def read(self, digest: str, suffix: str) -> bytes:
        """The bytes of a blob, from the cache or the bucket, checked against its name.

        Raises:
            DatasetError: the object is missing or damaged, or the bucket cannot be read.
        """
        data = self.cache.get(f"{digest}.{suffix}")
        if data is None:
            data = self.read_kept(digest, suffix)
            self._keep(digest, suffix, data)
        return data

    def read_kept(self, digest: str, suffix: str) -> bytes:
        """See :meth:`BlobStore.read_kept`: from the bucket, whatever the cache has."""
        import obstore

        place = f"{self.url}/{_key(digest, suffix)}"
        try:
            data = bytes(obstore.get(self._store, _key(digest, suffix)).bytes())
        except (obstore.exceptions.NotFoundError, FileNotFoundError) as error:
            if _code(error) == _NO_BUCKET:
                raise _failed(place, error) from error
            raise DatasetError(f"{place}: the object is missing; {MENDED}") from error
        except obstore.exceptions.BaseError as error:
            raise _failed(place, error) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise DatasetError(f"{place}: the object is damaged; {MENDED}")
        return data

    def size(self, digest: str, suffix: str) -> int:
        """See :meth:`BlobStore.size`."""
        import obstore

        try:
            return int(obstore.head(self._store, _key(digest, suffix))["size"])
        except (obstore.exceptions.NotFoundError, FileNotFoundError):
            return 0
        except obstore.exceptions.BaseError as error:
            raise _failed(self.url, error) from error

    def files(self) -> Iterator[PurePath]:
        """Keys of all blobs in the bucket, whether the data set knows them or not."""
        import obstore

        try:
            for found in obstore.list(self._store):
                yield from (PurePosixPath(item["path"]) for item in found)
        except obstore.exceptions.BaseError as error:
            raise _failed(self.url, error) from error

    def temporary_files(self) -> list[Path]:
        """None: an object is never half there."""
        return []

    def _put(self, blob: tuple[BlobKey, bytes]) -> None:
        import obstore

        key, data = blob
        try:
            obstore.put(self._store, _key(key.hash, key.suffix), data)
        except (obstore.exceptions.BaseError, FileNotFoundError) as error:
            raise _failed(f"{self.url}/{_key(key.hash, key.suffix)}", error) from error
        self._keep(key.hash, key.suffix, data)

    def _keep(self, digest: str, suffix: str, data: bytes) -> None:
        with explained(self.cache.root):
            self.cache.put(f"{digest}.{suffix}", data)


def _key(digest: str, suffix: str) -> str:
    return f"{digest[:2]}/{digest}.{suffix}"


def _opened(url: str, busy_s: float) -> Any:
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise DatasetError(f"{url}: needs obstore, which is not here; {EXTRA}") from error
    if not any(os.environ.get(name) for name in _SOURCES):
        raise DatasetError(f"{url}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    parts = urlsplit(url)
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        # Each request is signed, and what it carries is hashed: without TLS it can be seen, not changed.
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=max(1.0, busy_s / 2)),
            "read_timeout": timedelta(seconds=3 * busy_s),
            "timeout": timedelta(seconds=30 * busy_s),
        },
        retry_config={
            "max_retries": 1000,
            "retry_timeout": timedelta(seconds=3 * busy_s),
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    )


def _failed(place: str, error: Exception) -> DatasetError:
    said, code = str(error).partition("\n")[0].strip(), _code(error)
    if code == _NO_BUCKET:
        return DatasetError(f"{place}: there is no such bucket; make it, or name another as blobs in lab.toml")
    if refused := re.search(r"status code: (403 \w+)", said):
        return DatasetError(f"{place}: the object store refuses: {code or refused[1]}; {_CREDENTIALS}")
    return DatasetError(f"{place}: {shown(said)}; {_CHECK}")


def _code(error: Exception) -> str:
    """What the store's answer gives as its reason, such as ``AccessDenied``; empty where it gives none."""
    found = re.search(r"<Code>(\w{1,64})</Code>", str(error))
    return found[1] if found else ""
