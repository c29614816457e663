"""A server that gives a report to this machine's browser, and nothing to anybody else."""

import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from nnunet_cascade.errors import ReportError, SettingsError
from nnunet_cascade.report.viewing.server import ReportServer

SECRET = b"SECRET OUTSIDE"
OUTSIDE = (
    "/../secret.txt", "/cases/../../secret.txt", "/cases/../index.html", "/./index.html", "/%2e%2e/secret.txt",
    "/%2E%2E/secret.txt", "/.%2e/secret.txt", "/%252e%252e/secret.txt", "/cases%2f..%2f..%2fsecret.txt",
    "/..%2fsecret.txt", "/..%5csecret.txt", "/..\\secret.txt", "/cases/..\\..\\secret.txt", "//secret.txt",
    "//etc/passwd", "/cases//index.html", "/etc/passwd", "/%2fetc%2fpasswd", "/C:/secret.txt", "/C:%5csecret.txt",
    "/c%3a/secret.txt", "/index.html::$DATA", "/index.html%00.png", "/index.html%00", "/index.html%", "/index.html%zz",
    "/index.html%0d%0aX-Evil:%20yes", "/%ff%fe", "/%c0%ae%c0%ae/secret.txt", "/index.html.", "/index.html%20",
    "/file.txt/", "/index.html/", "/leading_out.txt", "/folder_out/secret.txt", "/loop", "/fifo", "/.hidden",
    "/.git/config", "/cases", "/cases/", "/assets/", "/nothing.html", "/" + "a" * 300, "/" + "a/" * 5000,
    "http://127.0.0.1/index.html", "index.html", "*", "/#",
)  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    (root / "out").mkdir()
    for name in ("secret.txt", "out/secret.txt"):
        (root / name).write_bytes(SECRET)
    folder = root / "report"
    for name in ("cases/a case ü", "assets", ".git", "with_index"):
        (folder / name).mkdir(parents=True)
    contents = {
        "index.html": b"<p>first page</p>",
        "with_index/index.html": b"inner",
        "cases/a case ü/ct.nii.gz": bytes(range(256)) * 2000,
        "file.txt": b"text",
        **dict.fromkeys(("assets/viewer.js", "assets/style.css", "figure.PNG", "table.csv", "what.odd"), b"x"),
        **dict.fromkeys((".hidden", ".git/config"), SECRET),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "inside.txt").symlink_to(folder / "file.txt")
    (folder / "leading_out.txt").symlink_to(root / "secret.txt")
    (folder / "folder_out").symlink_to(root / "out")
    (folder / "loop").symlink_to(folder / "loop")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "fifo")
    return folder


@pytest.fixture
def ask(server):
    """Send a request as it is written, and take what comes until the server hangs up."""

    def sent(target="/", *, method="GET", host=None, raw=None):
        host = f"Host: 127.0.0.1:{server.server_port}\r\n" if host is None else host
        request = raw or f"{method} {target} HTTP/1.1\r\n{host}\r\n".encode("latin-1")
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
            connection.sendall(request)
            parts = []
            while part := connection.recv(1 << 16):
                parts.append(part)
        head, _, content = b"".join(parts).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        assert len({name for name, _ in pairs}) == len(pairs)
        headers = {name.title(): value for name, value in pairs}
        return SimpleNamespace(status=int(first.split()[1]), headers=headers, content=content)

    return sent


def test_the_first_page_is_the_index(ask):
    assert (ask("/").status, ask("/").content) == (200, b"<p>first page</p>")
    assert ask("/index.html?a=../b").content == b"<p>first page</p>"
    assert ask("/with_index/").content == b"inner"
    assert ask("/inside.txt").content == b"text"


@pytest.mark.parametrize("target", OUTSIDE)
def test_nothing_else_is_reachable(ask, target):
    answer = ask(target)
    assert answer.status in (400, 404, 414)
    assert SECRET not in answer.content
    assert "X-Evil" not in answer.headers
    assert b"index" not in answer.content


@pytest.mark.parametrize(
    "host",
    [
        "", "Host: evil.example\r\n", "Host: evil.example:{port}\r\n", "Host: 127.0.0.1\r\n", "Host: 127.0.0.1:1\r\n",
        "Host: 127.0.0.1.evil.example:{port}\r\n", "Host: 0.0.0.0:{port}\r\n",
        "Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n", "Host: 127.0.0.1:{port}, evil.example\r\n", "host: \r\n",
    ],
)  # fmt: skip
def test_a_name_that_is_not_this_machines_own_is_refused(server, ask, host):
    """A page from elsewhere whose name was pointed to this machine must not read the report."""
    answer = ask("/", host=host.format(port=server.server_port))
    assert answer.status == 421
    assert b"first page" not in answer.content


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_this_machines_own_names_are_answered(server, ask, name):
    assert ask("/", host=f"Host: {name}:{server.server_port}\r\n").status == 200


@pytest.mark.parametrize("target", ["/", "/nothing.html"])
def test_every_answer_forbids_what_the_pages_do_not_need(ask, target):
    headers = ask(target).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    own, closed = ("script-src", "style-src", "connect-src"), ("frame-ancestors", "base-uri", "form-action")
    assert policy.pop("img-src") == "'self' data: blob:"
    assert policy == {"default-src": "'none'", **dict.fromkeys(own, "'self'"), **dict.fromkeys(closed, "'none'")}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/assets/viewer.js", "text/javascript; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/figure.PNG", "image/png"),
        ("/table.csv", "text/csv; charset=utf-8"),
        ("/what.odd", "application/octet-stream"),
    ],
)
def test_files_are_said_to_be_what_they_are(ask, target, kind):
    assert ask(target).headers["Content-Type"] == kind


def test_a_compressed_image_stays_compressed(ask, report):
    """With Content-Encoding a browser would unpack it, and the viewer find no gzip."""
    answer = ask("/cases/a%20case%20%C3%BC/ct.nii.gz")
    assert answer.headers["Content-Type"] == "application/gzip"
    assert "Content-Encoding" not in answer.headers
    assert answer.content == (report / "cases" / "a case ü" / "ct.nii.gz").read_bytes()
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_ranges_are_answered_with_the_whole_file_and_head_with_the_headers_alone(server, ask):
    answer = ask("/file.txt", host=f"Host: localhost:{server.server_port}\r\nRange: bytes=1-2\r\n")
    assert (answer.status, answer.content) == (200, b"text")
    answer = ask("/file.txt", method="HEAD")
    assert (answer.status, answer.headers["Content-Length"], answer.content) == (200, "4", b"")
    assert (ask("/no", method="HEAD").status, ask("/no", method="HEAD").content) == (404, b"")


def test_other_methods_are_refused(ask):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"):
        assert ask("/", method=method).status == 501


@pytest.mark.parametrize(
    "raw",
    [
        b"<script>alert(1)</script> / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1 more\r\n\r\n",
        b"\x00\xff\x16\x03\x01 / HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_not_repeated(ask, raw):
    answer = ask(raw=raw)
    assert answer.status >= 400
    assert b"script" not in answer.content
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_a_body_is_not_read_as_a_second_request(server, ask):
    first, second = (f"GET {of} HTTP/1.1\r\nHost: localhost:{server.server_port}\r\n\r\n" for of in ("/", "/file.txt"))
    assert ask(raw=f"{first}{second}".encode()).content == b"<p>first page</p>"


def test_a_slow_browser_keeps_nobody_waiting_and_one_that_goes_away_says_nothing(server, ask, capfd):
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(b"GET /cases/a%20case%20%C3%BC/ct.nii.gz HT")
        assert ask("/").status == 200
    assert ask("/").status == 200
    assert capfd.readouterr() == ("", "")


def test_it_listens_on_this_machine_alone_and_a_port_in_use_is_said_in_one_line(report, server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"
    with pytest.raises(ReportError, match=rf"127\.0\.0\.1:{server.server_port} .*another --port"):
        ReportServer(report, server.server_port)


def test_a_number_that_is_no_port_and_a_folder_without_a_report_are_refused(report, tmp_path):
    for port in (-1, 65536):
        with pytest.raises(SettingsError, match="expected 0"):
            ReportServer(report, port)
    with pytest.raises(ReportError, match=r"has no index\.html; make the report first"):
        ReportServer(tmp_path)


def test_it_serves_until_it_is_interrupted_and_ends_in_peace(report):
    script = (
        "import pathlib, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"  # background: ignored
        "from nnunet_cascade.report.viewing.server import serve; serve(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, str(report)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:")
        port = int(line.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
            assert connection.recv(15) == b"HTTP/1.0 200 OK"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        try:
            rest, errors = process.communicate(timeout=20)
        finally:
            process.kill()  # else nobody would end it where it hears nothing
    assert (rest, errors, process.returncode) == ("ended\n", "", 0)
