"""A server on this machine that takes W&B runs and keeps what it is sent: as much of the protocol as a run needs."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789012345678901234567890123456789"


class RecordingServer(ThreadingHTTPServer):
    """Listens on a free port of this machine alone."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.runs: dict[str, dict[str, Any]] = {}
        """The variables of each run's first message, by its id."""
        self.history: dict[str, list[dict[str, Any]]] = {}
        """The points that were sent of each run."""
        self.ended: dict[str, int] = {}
        """Exit codes of the runs that have ended."""
        self.summaries: dict[str, dict[str, Any]] = {}
        self.raw: list[str] = []
        """All that was sent, as it came."""

    @property
    def environment(self) -> dict[str, str]:
        """What makes wandb send to this server."""
        return {"WANDB_BASE_URL": f"http://127.0.0.1:{self.server_address[1]}", "WANDB_API_KEY": KEY}

    def answer(self, path: str, body: str) -> dict[str, Any]:
        """Notes what was sent, and what W&B's server would say to it."""
        self.raw.append(body)
        if path.endswith("/file_stream"):
            self._stream(path.split("/")[4], json.loads(body))
            return {}
        if path != "/graphql":
            return {}
        request = json.loads(body)
        sent = request["variables"]
        if request["operationName"] == "UpsertBucket":
            self.runs.setdefault(sent["name"], sent)
            project = {"id": "p", "name": sent["project"], "entity": {"id": "e", "name": "nobody"}}
            bucket = {"id": "b", "name": sent["name"], "displayName": sent["displayName"], "project": project}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        if request["operationName"] == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.environment['WANDB_BASE_URL']}/up"} for name in sent["files"]]
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        return {"data": {}}

    def _stream(self, run: str, sent: dict[str, Any]) -> None:
        files = sent.get("files") or {}
        for line in files.get("wandb-history.jsonl", {}).get("content", []):
            self.history.setdefault(run, []).append(json.loads(line))
        for line in files.get("wandb-summary.json", {}).get("content", []):
            self.summaries[run] = json.loads(line)
        if sent.get("complete"):
            self.ended[run] = sent["exitcode"]


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        assert isinstance(self.server, RecordingServer)
        answer = json.dumps(self.server.answer(self.path, content.decode())).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_PUT = do_POST


@contextmanager
def serving() -> Iterator[RecordingServer]:
    """A server that runs."""
    with RecordingServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
