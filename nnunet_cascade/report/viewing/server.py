"""A report served to this machine's own browser, and nothing else of this machine to anybody."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from nnunet_cascade.errors import ReportError, SettingsError

_HOST = "127.0.0.1"
_INDEX = "index.html"
_IDLE_SECONDS = 60
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_TYPES: dict[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".gz": "application/gzip",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_LOGGER = logging.getLogger(__name__)


class ReportServer(ThreadingHTTPServer):
    """Serves the files below one folder on 127.0.0.1, each request in a thread.

    There is no way to bind it to another address. It answers GET and HEAD of its own names, `127.0.0.1` and
    `localhost`, so that no page from elsewhere reaches it by a name that it has resolved to this machine. Files are
    sent whole: ranges are not answered. Names that begin with a dot are not served, nor are folders.

    Attributes:
        folder: The report, without symbolic links.
        url: Of its first page.
        names: What a request may call this machine.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere that would share the port with others

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Take a port; 0 is any free one.

        Raises:
            SettingsError: The port is no number of a port.
            ReportError: There is no report in the folder, or the port cannot be had.
        """
        if not 0 <= port <= 65535:
            raise SettingsError(f"found port {port}; expected 0, for any free one, to 65535")
        if not (folder / _INDEX).is_file():
            raise ReportError(f"{folder} has no {_INDEX}; make the report first, by nnc-report")
        self.folder = folder.resolve()
        try:
            super().__init__((_HOST, port), _Handler)
        except OSError as error:
            way_out = "give another --port, or none" if error.errno == errno.EADDRINUSE else "give a port above 1023"
            raise ReportError(f"{_HOST}:{port} cannot be served ({error.strerror}); {way_out}") from error
        self.url = f"http://{_HOST}:{self.server_port}/"
        names = [f"{name}:{self.server_port}" for name in (_HOST, "localhost")]
        self.names = frozenset([*names, _HOST, "localhost"] if self.server_port == 80 else names)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - as the library calls it
        """Keep silent of a browser that went away; log anything else."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            _LOGGER.error("a request failed", exc_info=error)

    def find(self, target: str) -> Path | None:
        """Find the file that a request names, as the browser sent it; None if there is none to be served."""
        path = unquote(target.split("?", 1)[0])
        *folders, last = path[1:].split("/")
        names = [*folders, last or _INDEX]
        if not path.startswith("/") or not all(name and name[0] != "." for name in names):
            return None
        try:
            found = self.folder.joinpath(*names).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # a loop of symbolic links, a name the system does not take
            return None
        return found if found.is_relative_to(self.folder) and found.is_file() else None


class _Handler(SimpleHTTPRequestHandler):
    """Answers one request and closes the connection: what a body might hold is never read as the next request."""

    server_version, sys_version = "nnunet-cascade", ""
    default_request_version = "HTTP/1.0"  # what is not a request is answered with headers, too
    timeout = _IDLE_SECONDS
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    _found: Path | None = None

    def send_head(self) -> Any:
        """Begin the answer to a request that names this machine and one of its files; refuse any other."""
        server = cast(ReportServer, self.server)
        hosts: list[str] = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in server.names:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return None
        self._found = server.find(self.path)
        if self._found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def translate_path(self, path: str) -> str:  # noqa: ARG002 - as the library calls it
        """Return the file that was found."""
        return str(self._found)

    def guess_type(self, path: Any) -> str:
        """Return a file's type as a report has it, whatever else the machine knows of endings."""
        return _TYPES.get(Path(path).suffix.lower(), "application/octet-stream")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer in one line of plain text that repeats nothing of the request."""
        super().send_error(code)

    def end_headers(self) -> None:
        """Send the headers of every answer."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        """Log for those who debug, with nothing in it that a terminal would obey."""
        _LOGGER.debug("%r", format % args)


def serve(folder: Path, port: int = 0) -> None:
    """Serve a report until it is interrupted, and print its address.

    Args:
        folder: Of the report.
        port: 0 takes any free one.

    Raises:
        SettingsError, ReportError: As `ReportServer`.
    """
    say = partial(print, flush=True)
    with ReportServer(folder, port) as server:
        say(f"{server.url} shows the report to this machine alone; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended")
