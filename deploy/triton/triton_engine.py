"""Run vision_heads on arrays that a Triton server computes: the server holds the network alone.

    python -m pip install vision-heads "tritonclient[http]"
    python triton_engine.py street.jpg --url localhost:8000 --model aerial-n

An `Engine` is all that `Predictor` needs, so slicing, thresholds and results are those of
`vh detect`. The model's description comes from the server's configuration, where
`vh export --format triton` wrote it; this machine needs no model file.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.runtime.predictor import Predictor
from vision_heads.runtime.suppressed import output_suffixes
from vision_heads.spec import METADATA_KEY, ModelSpec

Floats = NDArray[np.float32]


class Client(Protocol):
    """One connection to the server."""

    def configuration(self) -> Mapping[str, Any]:
        """Return the model's configuration, `config.pbtxt` as JSON."""
        ...

    def infer(self, inputs: Mapping[str, Floats], outputs: Sequence[str]) -> dict[str, Floats]:
        """Run the model: arrays by name in, the named arrays out."""
        ...


class HttpClient:
    """`Client` by Triton's own HTTP client.

    Args:
        url: host:port of the server, without a scheme.
        model: its name in the repository.
    """

    def __init__(self, url: str, model: str) -> None:
        try:
            from tritonclient import http, utils
        except ImportError as error:
            raise UserError(f'{error}: pip install "tritonclient[http]"') from error
        self._http, self._model, self._url = http, model, url
        self._errors = (utils.InferenceServerException, OSError)
        self._server = http.InferenceServerClient(url)

    def configuration(self) -> Mapping[str, Any]:
        """Ask the server; see `Client`."""
        try:
            found: Mapping[str, Any] = self._server.get_model_config(self._model)
        except self._errors as error:
            raise UserError(f"{self._url}: {self._model}: {error}") from error
        return found

    def infer(self, inputs: Mapping[str, Floats], outputs: Sequence[str]) -> dict[str, Floats]:
        """Send arrays as binary data; see `Client`."""
        tensors = []
        for name, array in inputs.items():
            tensor = self._http.InferInput(name, list(array.shape), "FP32")
            tensor.set_data_from_numpy(np.ascontiguousarray(array))
            tensors.append(tensor)
        wanted = [self._http.InferRequestedOutput(name) for name in outputs]
        try:
            answer = self._server.infer(self._model, tensors, outputs=wanted)
        except self._errors as error:
            raise UserError(f"{self._url}: {self._model}: {error}") from error
        return {name: answer.as_numpy(name) for name in outputs}


class TritonEngine:
    """A `vision_heads.runtime.engines.Engine` whose network runs on a Triton server.

    Args:
        connect: opens a connection; called once a thread, for the client is for one thread only.

    Attributes:
        spec, batch, any_size: see `Engine`.

    Raises:
        UserError: the server's model was not written by `vh export --format triton`.
    """

    any_size = False

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect, self._local = connect, threading.local()
        configuration = self._client.configuration()
        name = configuration.get("name", "?")
        parameter = configuration.get("parameters", {}).get(METADATA_KEY, {})
        text = parameter.get("string_value")
        require(text, f"{name}: its configuration has no {METADATA_KEY!r}; write it with vh export")
        self.spec = ModelSpec.from_json(str(text), f"{name}: config.pbtxt")
        (entry,) = configuration["input"]
        self._input = str(entry["name"])
        self._most = int(configuration.get("max_batch_size", 0)) or None
        first = int(entry["dims"][0])
        self.batch = None if self._most or first < 0 else first

    @property
    def _client(self) -> Client:
        if not hasattr(self._local, "client"):
            self._local.client = self._connect()
        client: Client = self._local.client
        return client

    def run(self, images: Floats, heads: Sequence[str] | None = None) -> dict[str, Floats]:
        """Execute the network; see `Engine.run`. A fixed batch is filled up with zeros."""
        wanted = [head.name for head in self.spec.heads] if heads is None else heads
        names = [
            f"{head}/{suffix}"
            for head in wanted
            for suffix in output_suffixes(self.spec, self.spec.head(head))
        ]
        size = self.batch or self._most or max(len(images), 1)
        parts = [
            self._run_one(images[start : start + size], names)
            for start in range(0, max(len(images), 1), size)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _run_one(self, images: Floats, names: Sequence[str]) -> dict[str, Floats]:
        count = len(images)
        if self.batch is not None and count < self.batch:
            padding = np.zeros((self.batch - count, *images.shape[1:]), np.float32)
            images = np.concatenate([images, padding])
        arrays = self._client.infer({self._input: images}, names)
        return {name: array[:count] for name, array in arrays.items()}


def main() -> None:
    """Detect in pictures and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--url", default="localhost:8000", help="of the server, without http://")
    parser.add_argument("--model", default="aerial-n", help="its name in the repository")
    parser.add_argument("--conf", type=float, default=0.25)
    given = parser.parse_args()
    predictor = Predictor(TritonEngine(lambda: HttpClient(given.url, given.model)))
    for picture in given.pictures:
        result = predictor(picture, conf=given.conf, keep_image=False)
        for name, found in result.heads.items():
            for box, score, label in found:
                corners = " ".join(f"{side:.1f}" for side in box)
                print(picture, name, label, f"{score:.3f}", corners)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"triton_engine: {error}") from error
