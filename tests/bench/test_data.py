"""The download behind `make data`, against a real server on this machine that breaks off, ignores ranges or lies."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.data import DownloadError, Source, fetch

TEXT = random.Random(0).randbytes(300_000) + b"spanbench " * 20_000  # half of it does not compress: many chunks


def zipped(text: bytes, member: str = "enwik8") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text)
    return buffer.getvalue()


@dataclass
class Web:
    """A web server: what it serves, how it misbehaves, and what it was asked."""

    body: bytes = field(default_factory=lambda: zipped(TEXT))
    break_after: list[int] = field(default_factory=list)
    """Bytes after which each of the first answers breaks off."""
    errors: list[int] = field(default_factory=list)
    """Status codes of the first answers."""
    ignore_range: bool = False
    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    """The Range header of each request."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def web() -> Iterator[Web]:
    served = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            served.ranges.append(asked)
            if served.errors:
                self.send_error(served.errors.pop(0))
                return
            start = 0
            if asked and not served.ignore_range:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(served.body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(served.body)}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
            else:
                self.send_response(200)
            rest = served.body[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: served.break_after.pop(0)] if served.break_after else rest)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}/enwik8.zip"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def source(web: Web) -> Source:
    return Source(web.url, "enwik8", len(TEXT), hashlib.md5(TEXT).hexdigest())


def get(source: Source, target: Path) -> bool:
    return fetch(source, target, lambda *_: None, pause=0.0)


def test_downloads_verifies_and_leaves_nothing_else(source: Source, tmp_path: Path) -> None:
    target = tmp_path / "new" / "enwik8"
    seen: list[tuple[str, int, int | None]] = []
    assert fetch(source, target, lambda *step: seen.append(step))
    assert target.read_bytes() == TEXT
    assert os.listdir(target.parent) == ["enwik8"]
    assert {doing for doing, _, _ in seen} == {"downloading", "unpacking"}
    assert seen[-1] == ("unpacking", len(TEXT), len(TEXT))


def test_broken_connection_is_continued_where_it_broke(web: Web, source: Source, tmp_path: Path) -> None:
    web.break_after = [100_000, 50_000]
    assert get(source, tmp_path / "enwik8")
    assert web.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert (tmp_path / "enwik8").read_bytes() == TEXT


def test_next_run_continues_what_an_earlier_one_left(web: Web, source: Source, tmp_path: Path) -> None:
    (tmp_path / "enwik8.zip.part").write_bytes(web.body[:123_456])
    assert get(source, tmp_path / "enwik8")
    assert web.ranges == ["bytes=123456-"]
    assert (tmp_path / "enwik8").read_bytes() == TEXT


def test_archive_that_was_already_complete_is_not_sent_again(web: Web, source: Source, tmp_path: Path) -> None:
    (tmp_path / "enwik8.zip.part").write_bytes(web.body)
    assert get(source, tmp_path / "enwik8")
    assert (tmp_path / "enwik8").read_bytes() == TEXT
    assert web.ranges == [f"bytes={len(web.body)}-"]


def test_left_over_longer_than_the_archive_is_started_anew(web: Web, source: Source, tmp_path: Path) -> None:
    (tmp_path / "enwik8.zip.part").write_bytes(web.body + b"more")
    assert get(source, tmp_path / "enwik8")
    assert (tmp_path / "enwik8").read_bytes() == TEXT


def test_server_that_ignores_ranges_sends_all_again(web: Web, source: Source, tmp_path: Path) -> None:
    web.ignore_range, web.break_after = True, [100_000]
    assert get(source, tmp_path / "enwik8")
    assert (tmp_path / "enwik8").read_bytes() == TEXT


def test_server_error_is_tried_again_and_a_missing_page_is_not(web: Web, source: Source, tmp_path: Path) -> None:
    web.errors = [503]
    assert get(source, tmp_path / "enwik8")
    web.errors, web.ranges = [404], []
    with pytest.raises(DownloadError, match=r"404.*--url"):
        get(source, tmp_path / "other")
    assert len(web.ranges) == 1


@pytest.mark.parametrize("change", [{"md5": "0" * 32}, {"size": len(TEXT) - 1}, {"size": len(TEXT) + 1}])
def test_other_bytes_than_promised_never_get_the_final_name(
    source: Source, tmp_path: Path, change: dict[str, int | str]
) -> None:
    wrong = replace(source, **change)  # type: ignore[arg-type]  # one call for a str and an int field
    with pytest.raises(DownloadError, match=r"has .* bytes and md5 .*, not"):
        get(wrong, tmp_path / "enwik8")
    assert os.listdir(tmp_path) == []


def test_damaged_or_foreign_archives_are_named_and_removed(web: Web, source: Source, tmp_path: Path) -> None:
    good = web.body
    for body in (b"<html>please log in</html>", zipped(TEXT, "other"), good[:5000] + b"\0" * 5000 + good[10_000:]):
        web.body = body
        with pytest.raises(DownloadError, match="not the archive"):
            get(source, tmp_path / "enwik8")
        assert os.listdir(tmp_path) == []


def test_right_copy_on_disk_is_used_without_a_request(web: Web, source: Source, tmp_path: Path) -> None:
    (tmp_path / "enwik8").write_bytes(TEXT)
    assert not get(source, tmp_path / "enwik8")
    assert web.ranges == []


@pytest.mark.parametrize("wrong", [TEXT[:-1], bytes([TEXT[0] ^ 1]) + TEXT[1:]], ids=["shorter", "another byte"])
def test_wrong_copy_on_disk_is_named_and_not_overwritten(source: Source, tmp_path: Path, wrong: bytes) -> None:
    (tmp_path / "enwik8").write_bytes(wrong)
    with pytest.raises(DownloadError, match="Remove it"):
        get(source, tmp_path / "enwik8")
    assert (tmp_path / "enwik8").read_bytes() == wrong


def test_without_a_server_what_has_arrived_is_kept(source: Source, tmp_path: Path) -> None:
    (tmp_path / "enwik8.zip.part").write_bytes(b"some bytes")
    nobody = replace(source, url="http://127.0.0.1:9/enwik8.zip")
    with pytest.raises(DownloadError, match=r"10 bytes are kept.*SPANBENCH_DATA"):
        get(nobody, tmp_path / "enwik8")
    assert (tmp_path / "enwik8.zip.part").read_bytes() == b"some bytes"


def test_second_download_of_the_same_file_is_refused(web: Web, source: Source, tmp_path: Path) -> None:
    with (tmp_path / "enwik8.zip.part").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process"):
            get(source, tmp_path / "enwik8")
    assert web.ranges == []


def test_full_disk_is_told_before_the_download(web: Web, source: Source, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"MB free.*SPANBENCH_DATA"):
        get(replace(source, size=10**18), tmp_path / "enwik8")
    assert web.ranges == []


def command(checkout: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    line = [sys.executable, "-m", "bench", "data", *words]
    return subprocess.run(line, cwd=checkout, env=environment, capture_output=True, text=True, timeout=60)


def test_command_ends_with_json_and_exit_code_1_where_the_bytes_are_wrong(
    web: Web, checkout: Path, tmp_path: Path
) -> None:
    ended = command(checkout, "--url", web.url, SPANBENCH_DATA=str(tmp_path))
    assert ended.returncode == 1
    assert re.search(r"bench data: .*not 100,000,000 and a1fa5ffddb56f4953e226637dabbb36a", ended.stderr)
    assert json.loads(ended.stdout.splitlines()[-1])["path"] is None
    assert os.listdir(tmp_path) == []


def test_command_refuses_a_file_that_is_not_enwik8(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not enwik8", encoding="utf-8")
    ended = command(checkout, "--quiet", SPANBENCH_DATA=str(tmp_path / "text"))
    assert ended.returncode == 1
    assert "10 bytes" in ended.stderr
    assert len(ended.stdout.splitlines()) == 1
