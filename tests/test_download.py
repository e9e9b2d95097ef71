"""Downloading a published folder, with a hub that is a folder of this machine."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from undegrade.models.download import DownloadError, download
from undegrade.models.known_files import DIFFUSERS, KNOWN, Known
from undegrade.models.weights import UnsupportedWeightsError

REVISION = 40 * "a"
CONTENT = {
    "model_index.json": b"{}",
    "unet/config.json": b'{"x": 1}',
    "unet/diffusion_pytorch_model.safetensors": b"weights" * 1000,
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
    "unet/diffusion_pytorch_model.bin": b"pickle",
    "tokenizer/merges.txt": b"#version",
    "text_encoder/pytorch_model.bin": b"pickle",
    "vae/diffusion_pytorch_model.safetensors": b"decoder" * 500,
    "safety_checker/model.safetensors": b"checker",
    "LICENSE.md": b"licence",
}
WANTED = {
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "tokenizer/merges.txt",
    "vae/diffusion_pytorch_model.safetensors",
    "LICENSE.md",
}


@dataclass
class Hub:
    """Lists and serves CONTENT as the Hugging Face hub does; `damaged` come with wrong bytes."""

    damaged: set = field(default_factory=set)
    served: list = field(default_factory=list)
    failing: Exception | None = None

    def model_info(self, repository, revision, files_metadata):
        assert (repository, revision, files_metadata) == ("some/model", REVISION, True)
        if self.failing:
            raise self.failing
        return SimpleNamespace(siblings=[self.described(name) for name in CONTENT])

    def described(self, name):
        data = CONTENT[name]
        large = {"sha256": hashlib.sha256(data).hexdigest()} if name.endswith("tensors") else None
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return SimpleNamespace(rfilename=name, size=len(data), lfs=large, blob_id=blob)

    def serve(self, repository, name, revision, local_dir, endpoint):
        assert (repository, revision) == ("some/model", REVISION)
        path, data = Path(local_dir) / name, CONTENT[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[::-1] if name in self.damaged else data)
        self.served.append(name)


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda endpoint: hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.serve)
    return hub


KNOWN_MODEL = Known(
    "model",
    DIFFUSERS,
    "a model",
    "https://huggingface.co/some/model",
    "some licence",
    repository="some/model",
    revision=REVISION,
)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_the_needed_files_come_and_no_pickles(tmp_path, hub):
    progress = list(download(KNOWN_MODEL, tmp_path / "model"))
    assert progress == [(done, len(WANTED)) for done in range(len(WANTED) + 1)]
    assert files_in(tmp_path / "model") == {name: CONTENT[name] for name in WANTED}
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_stopped_download_goes_on_where_it_was(tmp_path, hub):
    run = download(KNOWN_MODEL, tmp_path / "model")
    for _ in range(4):
        next(run)
    run.close()
    assert not (tmp_path / "model").exists(), "a folder that is there is whole"
    first, hub.served = hub.served, []
    assert len(first) == 3
    list(download(KNOWN_MODEL, tmp_path / "model"))
    assert sorted(first + hub.served) == sorted(WANTED)
    assert (tmp_path / "model").is_dir()


@pytest.mark.parametrize("name", ["unet/config.json", "vae/diffusion_pytorch_model.safetensors"])
def test_damaged_files_are_refused_and_removed(tmp_path, hub, name):
    hub.damaged = {name}
    with pytest.raises(UnsupportedWeightsError, match=rf"model's {name} came damaged and was remo"):
        list(download(KNOWN_MODEL, tmp_path / "model"))
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / ".model.part" / name).exists()
    hub.damaged = set()
    list(download(KNOWN_MODEL, tmp_path / "model"))
    assert files_in(tmp_path / "model").keys() == WANTED


def test_without_a_connection_one_sentence_says_what_to_do(tmp_path, hub):
    hub.failing = ConnectionError("no route to host. try later\nmore")
    with pytest.raises(DownloadError) as error:
        list(download(KNOWN_MODEL, tmp_path / "model"))
    text = str(error.value)
    for part in ("(no route to host);", KNOWN_MODEL.url, REVISION, str(tmp_path / "model")):
        assert part in text
    assert ". " not in text and not (tmp_path / "model").exists()


def test_the_hubs_own_errors_are_said_too(tmp_path, monkeypatch):
    """A real call, to an address of this machine where nothing listens."""
    real = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda endpoint: real(endpoint="http://[::1]:9"))
    with pytest.raises(DownloadError, match="model could not be downloaded"):
        list(download(KNOWN_MODEL, tmp_path / "model"))


def test_other_errors_are_not_taken_for_a_lost_connection(tmp_path, hub):
    class StopError(Exception):
        """Stands for ComfyUI's interrupt."""

    hub.failing = StopError()
    with pytest.raises(StopError):
        list(download(KNOWN_MODEL, tmp_path / "model"))


def test_files_without_a_revision_are_not_downloaded(tmp_path):
    with pytest.raises(DownloadError, match=r"ffhq_10m.pt has no known revision; get it from http"):
        list(download(KNOWN[0], tmp_path / "x"))
