"""Downloads from a real server on this machine, good ones and bad ones."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from poseidon_caffe.data.model_zoo import fetch_model, front_matter, read_model
from poseidon_caffe.errors import DataError, ParseError

DATA = bytes(range(256)) * 9000
SHA1 = hashlib.sha1(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/good serves the model, /cut half of it, /page a web page, others 404."""

    def do_GET(self):
        """Answer by the path."""
        path = self.path.rpartition("/")[0] or self.path
        self.send_response(404 if path == "/none" else 200)
        body = b"<html>sorry" if path == "/page" else DATA
        if path != "/unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if path == "/cut" else body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def server():
    """Address of a server that runs meanwhile."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as each:
        thread = threading.Thread(target=each.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{each.server_address[1]}"
        each.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path, server):
    """A model's folder whose readme means /good."""
    where = tmp_path / "zoo"
    where.mkdir()
    write(where, url=f"{server}/good/m.caffemodel")
    return where


def write(where, url, sha1=SHA1, name="m.caffemodel"):
    """The readme of a model."""
    (where / "readme.md").write_text(
        f"---\nname: A: Model\ncaffemodel: {name}\n# a comment\n"
        f'caffemodel_url: "{url}"\nlicense: unrestricted # free\nsha1: {sha1}\n---\n'
        "Text with --- and a: b.\n"
    )


def test_download_once(folder):
    model = read_model(folder)
    told = []
    assert fetch_model(model, progress=lambda *so_far: told.append(so_far))
    assert model.path.read_bytes() == DATA
    assert told[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    before = model.path.stat().st_mtime_ns
    assert not fetch_model(model)
    assert model.path.stat().st_mtime_ns == before


def test_wrong_file_is_replaced_by_the_right_one(folder, server):
    (folder / "m.caffemodel").write_bytes(b"old")
    write(folder, url=f"{server}/page/m")
    with pytest.raises(DataError, match="web page"):
        fetch_model(read_model(folder))
    assert (folder / "m.caffemodel").read_bytes() == b"old"
    assert fetch_model(read_model(folder), mirror=f"{server}/good/")
    assert (folder / "m.caffemodel").read_bytes() == DATA


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/none/m", "answered 404"),
        ("/cut/m", r"cut off|IncompleteRead|incomplete"),
        ("/page/m", "not the model"),
    ],
)
def test_bad_downloads_leave_nothing(folder, server, path, said):
    write(folder, url=server + path)
    with pytest.raises(DataError, match=said):
        fetch_model(read_model(folder))
    assert [each.name for each in folder.iterdir()] == ["readme.md"]


def test_server_that_tells_no_size(folder, server):
    write(folder, url=f"{server}/unsized/m")
    told = []
    assert fetch_model(read_model(folder), progress=lambda *so: told.append(so))
    assert told[-1] == (len(DATA), 0)


def test_no_server(folder):
    write(folder, url="http://127.0.0.1:1/m")
    with pytest.raises(DataError, match="cannot be downloaded: Connection refused"):
        fetch_model(read_model(folder))
    for url in ("file:///etc/passwd", "m.caffemodel", "http://", "http://[x"):
        write(folder, url=url)
        with pytest.raises(DataError):
            fetch_model(read_model(folder))


def test_from_a_file(folder, tmp_path):
    (tmp_path / "copy").write_bytes(DATA)
    (tmp_path / "bad").write_bytes(DATA[1:])
    model = read_model(folder)
    with pytest.raises(DataError, match="SHA-1"):
        fetch_model(model, source=tmp_path / "bad")
    with pytest.raises(DataError, match="No such file"):
        fetch_model(model, source=tmp_path / "none")
    assert not model.path.exists()
    assert fetch_model(model, source=tmp_path / "copy")
    assert model.path.read_bytes() == DATA


def test_front_matter():
    text = (
        "intro\n--- \nname: 'a # b'\nurl: http://x#y # z\n  - item: no\ne:\n---\nz: 1"
    )
    assert front_matter(text) == {"name": "a # b", "url": "http://x#y", "e": ""}
    with pytest.raises(ParseError, match="no front matter"):
        front_matter("---\na: b\n")


def test_wrong_readmes(tmp_path):
    with pytest.raises(ParseError, match="no such readme"):
        read_model(tmp_path)
    (tmp_path / "readme.md").write_text("---\ncaffemodel: a\n---\n")
    with pytest.raises(ParseError, match="lacks caffemodel_url, sha1"):
        read_model(tmp_path)
    write(tmp_path, url="http://x", name="../../a")
    with pytest.raises(ParseError, match="plain name"):
        read_model(tmp_path)
    write(tmp_path, url="http://x", sha1="12")
    with pytest.raises(ParseError, match="40 hexadecimal"):
        read_model(tmp_path)
