"""A ComfyUI server of the tests' own, and what it says over HTTP and its websocket."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import websocket
from comfyui.checkout import device, flags

FLAGS = ("--listen", "127.0.0.1", "--disable-auto-launch", "--disable-api-nodes",
         "--database-url", "sqlite:///:memory:", "--preview-method", "auto",
         "--use-pytorch-cross-attention")  # fmt: skip
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
FOLDERS = ("custom_nodes", "input", "output", "temp", "user", "models")
PREVIEW_WITH_METADATA = 4  # the kind of a binary message
ENDS = ("execution_success", "execution_error", "execution_interrupted")


@dataclass
class Run:
    """What the server said of one queued prompt.

    messages: (type, data) in their order. previews: (metadata, JPEG bytes). seconds: from queueing
    to the end.
    """

    prompt_id: str
    messages: list[tuple[str, dict]] = field(default_factory=list)
    previews: list[tuple[dict, bytes]] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, kind: str) -> list[dict]:
        """The data of every message of a type."""
        return [data for name, data in self.messages if name == kind]

    @property
    def end(self) -> str:
        """How it ended, such as "success"."""
        return self.messages[-1][0].removeprefix("execution_")

    @property
    def cached(self) -> set[str]:
        """The nodes that were not run, since their outputs were still there."""
        return set(self.of("execution_cached")[0]["nodes"])

    @property
    def executed(self) -> set[str]:
        """The nodes that were run."""
        return {data["node"] for data in self.of("executing") if data["node"]}

    @property
    def shown(self) -> dict[str, dict]:
        """Node -> what it shows: "images", "text"."""
        return {data["node"]: data["output"] or {} for data in self.of("executed")}

    @property
    def error(self) -> str:
        """Of the node that failed, or ""."""
        said = [f"{d['node_type']}: {d['exception_message']}" for d in self.of("execution_error")]
        return "".join(said)

    def progress(self, node: str) -> list[tuple[float, float]]:
        """(value, of how many) as the bar of a node went, each once."""
        states = [data["nodes"].get(node) for data in self.of("progress_state")]
        steps = [(s["value"], s["max"]) for s in states if s and s["state"] == "running"]
        return list(dict.fromkeys(steps))[1:]  # first comes 0 of 1, the node's start


class Server:
    """A server with a base directory of its own, into which packs are linked; a context manager.

    checkout: ComfyUI's folder. python: the interpreter. base: an empty folder. packs: name ->
    folder of a custom node pack. environment: added to the server's.
    """

    def __init__(self, checkout: Path, python: str, base: Path, packs: Mapping[str, Path],
                 environment: Mapping[str, str] | None = None):
        self.base, self.log = base, base / "server.log"
        for folder in FOLDERS:
            (base / folder).mkdir(parents=True, exist_ok=True)
        for name, pack in packs.items():
            (base / "custom_nodes" / name).symlink_to(pack, target_is_directory=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        where = ["--cpu"] if device() == "cpu" else []
        self._command = [python, "main.py", *where, *FLAGS, "--port", str(self.port),
                         "--base-directory", str(base), *flags()]  # fmt: skip
        self._checkout, self._environment = checkout, {**OFFLINE, **(environment or {})}
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Server:
        """Start it, and wait until it answers."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self._checkout, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env={**os.environ, **self._environment})
        end = time.monotonic() + 180
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.get("/system_stats")
                return self
            except OSError:
                time.sleep(0.2)
        self.__exit__()
        raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-3000:]}")

    def __exit__(self, *_) -> None:
        """Stop it."""
        assert self.process
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def fetch(self, path: str, body: object = None) -> bytes:
        """The answer to GET, or to POST with a body that is sent as JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + urllib.parse.quote(path, safe="/?=&%"), data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def get(self, path: str) -> dict:
        """A JSON answer to GET."""
        return json.loads(self.fetch(path))

    def view(self, image: Mapping[str, str]) -> bytes:
        """The file of a picture that a node shows."""
        return self.fetch("/view?" + urllib.parse.urlencode(image))

    def run(self, prompt: dict, during: Callable[[str, dict, Run], None] | None = None,
            timeout: float = 300) -> Run:
        """Queue a graph in API format and follow it to its end.

        during: called with every message (type, data, the run so far) as it arrives.
        Raises `ValueError` with the server's words for a graph that it refuses.
        """
        client = uuid.uuid4().hex
        address = f"ws://127.0.0.1:{self.port}/ws?clientId={client}"
        connection = websocket.create_connection(address, timeout=timeout)
        try:
            connection.send(json.dumps(
                {"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
            while json.loads(connection.recv())["type"] != "feature_flags":
                pass  # the server has taken note
            start = time.monotonic()
            try:
                answer = self.fetch("/prompt", {"prompt": prompt, "client_id": client})
            except urllib.error.HTTPError as error:
                raise ValueError(error.read().decode()) from error
            run = Run(json.loads(answer)["prompt_id"])
            self._follow(connection, run, during)
            run.seconds = time.monotonic() - start
        finally:
            connection.close()
        self._settle(run.prompt_id)
        return run

    @staticmethod
    def _follow(connection: websocket.WebSocket, run: Run, during: Callable | None) -> None:
        """Read messages until the prompt's last one."""
        while not run.messages or run.messages[-1][0] not in ENDS:
            message = connection.recv()
            if isinstance(message, bytes):
                kind, length = struct.unpack(">II", message[:8])
                assert kind == PREVIEW_WITH_METADATA, kind
                run.previews.append((json.loads(message[8 : 8 + length]), message[8 + length :]))
                continue
            said = json.loads(message)
            if said["data"].get("prompt_id") == run.prompt_id:
                run.messages.append((said["type"], said["data"]))
                if during:
                    during(said["type"], said["data"], run)

    def _settle(self, prompt_id: str) -> None:
        """Wait until the server has filed the run, after which it takes the next."""
        end = time.monotonic() + 30
        while not self.get(f"/history/{prompt_id}"):
            assert time.monotonic() < end, "the server did not file the run"
            time.sleep(0.01)
