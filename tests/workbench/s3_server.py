"""A mock of an S3 object store, of what the workbench asks of one: whole objects put, read, listed; no signatures."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class S3Server:
    """A running mock; its objects outlive :meth:`stop`, as those of a store on a disk do.

    Attributes:
        objects: bytes by ``/BUCKET/KEY``; ``reads``: how many were fetched.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.reads = 0
        self.port = 0
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Answer, on the port of before."""
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_PUT(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                store.objects[unquote(urlsplit(self.path).path)] = data
                self.answer(200, b"")

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if "list-type" in parts.query:
                    self.answer(200, store.listing(parts.path, parse_qs(parts.query).get("prefix", [""])[0]))
                    return
                data = store.objects.get(unquote(parts.path))
                store.reads += data is not None and self.command == "GET"
                self.answer(*((404, b"<Error><Code>NoSuchKey</Code></Error>") if data is None else (200, data)))

            def answer(self, status: int, data: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("ETag", '"1"')
                self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
                # Kept open, a connection would live on after the server's end.
                self.send_header("Connection", "close")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def listing(self, bucket: str, prefix: str) -> bytes:
        """The answer to a list of keys."""
        start = f"{bucket.rstrip('/')}/"
        items = "".join(
            f"<Contents><Key>{escape(path.removeprefix(start))}</Key><Size>{len(data)}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>1</ETag></Contents>"
            for path, data in sorted(self.objects.items())
            if path.startswith(start + prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode()
