"""Pushing to the Hub: its own client, against a server on loopback."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.settings import saved


class Hub(ThreadingHTTPServer):
    """Takes commits of a single repository and remembers them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:  # http.server's own name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status != 200:
            self.answer({"error": "refused"}, self.server.status)
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.answer({"url": f"{self.server.url}/me/model", "name": "me/model", "id": "1"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.path == "/api/models/me/model/preupload/main":
            files = json.loads(body)["files"]
            self.answer(
                {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]}
            )
        elif self.path == "/api/models/me/model/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"{self.server.url}/me/model/commit/1", "commitOid": "1", "success": True})
        else:
            self.answer({"error": self.path}, 404)

    def do_GET(self) -> None:  # http.server's own name
        self.answer({"error": self.path}, 404)

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    saved(folder)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").write_text("stays at home")
    return folder


def push(run: Path, endpoint: str, *overrides: str, token: str | None = "hf_x") -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(run.parent / "hf")}
    environment |= {} if token is None else {"HF_TOKEN": token}
    command = [sys.executable, "-m", "segmentation.push", f"model={run}", "repo=me/model", *overrides]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_models_files_arrive(run: Path, hub: Hub) -> None:
    done = push(run, hub.url, "private=true")
    assert done.returncode == 0, done.stderr
    assert set(hub.files) == {"model.safetensors", "model.json", "README.md"}
    assert hub.files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    assert hub.created[0]["name"] == "model"
    assert "private" in json.dumps(hub.created[0])


def test_a_dry_run_sends_nothing(run: Path, hub: Hub) -> None:
    done = push(run, hub.url, "dry_run=true", token=None)
    assert done.returncode == 0, done.stderr
    assert not hub.created
    assert not hub.files
    assert f"{(run / 'model.json').stat().st_size:,} bytes  model.json" in done.stdout
    assert "last.ckpt" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "token", "message"),
    [(401, "hf_x", "token is not valid"), (403, "hf_x", "no right to write"), (200, None, "no token")],
)
def test_what_the_hub_refuses_is_one_line(run: Path, hub: Hub, status: int, token: str | None, message: str) -> None:
    hub.status = status
    done = push(run, hub.url, token=token)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_no_network_is_one_line(run: Path) -> None:
    done = push(run, "http://127.0.0.1:9")  # the port of `discard`, where nobody listens
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr.splitlines()[-1]
