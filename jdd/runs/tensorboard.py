"""A run's event files for TensorBoard, written without TensorFlow."""

import contextlib
import io
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jdd import files
from jdd.data.pictures import read as read_picture
from jdd.distillation import Listener, Outcome, Saved
from jdd.distributed import is_primary
from jdd.errors import UserError
from jdd.runs.settings import RunSettings
from jdd.synthetic import SyntheticSet

try:
    from tensorboardX import RecordWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
except ImportError as error:
    raise UserError(
        f"event files for TensorBoard need tensorboardX ({files.first_line(error)}): "
        "pip install tensorboardX"
    ) from None

FLUSH_SECONDS = 10.0  # TensorBoard looks for news every half a minute
_STEPS, _LARGEST = 2**63, 3e38  # what an event can hold: int64, float32


class TensorBoard(Listener):
    """Writes `tensorboard/` in a run's directory, what `tensorboard --logdir` shows.

    The metrics of every update, the accuracy on the validation split and the run's pictures. A run
    that resumes has its file made anew from `metrics.jsonl` and `images/`: no step stands in it
    twice, and one that began without the file has all of them.
    """

    def __init__(self, settings: RunSettings, out: Path) -> None:
        self._out, self._folder = out, out / "tensorboard"
        self._writer: RecordWriter | None = None  # none in processes that do not write
        self._flushed = time.monotonic()

    def began(self, iteration: int, iterations: int) -> None:
        """Begins the file, with what the run's own files know of earlier updates."""
        if not is_primary():
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in self._folder.glob("events.out.tfevents.*"):
                old.unlink()
            name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
            self._writer = RecordWriter(str(self._folder / name))
        except OSError as error:
            raise UserError(f"{self._folder} cannot be written ({error.strerror})") from None
        self._write(Event(file_version="brain.Event:2"))
        lines = self._out / "metrics.jsonl"
        for _, line in files.read_lines(lines) if lines.exists() else ():
            step = line.get("iteration") if isinstance(line, Mapping) else None
            if type(step) is int and 0 <= step < _STEPS:
                self._add(step, line)
                if "validation_accuracy" in line:
                    self._add_picture(step)
        self._flush()

    def updated(self, iteration: int, iterations: int, rows: list[dict[str, float]]) -> None:
        """Adds the metrics of each update."""
        for step, row in enumerate(rows, iteration - len(rows) + 1):
            self._add(step, row)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def evaluated(
        self, iteration: int, synthetic: SyntheticSet, accuracy: float, is_best: bool
    ) -> None:
        """Adds the accuracy and the picture."""
        self._add(iteration, {"validation_accuracy": accuracy})
        self._add_picture(iteration)
        self._flush()

    def save(self, state: Saved) -> None:
        """Has all events reach the disk."""
        self._flush()

    def ended(self, outcome: Outcome | None) -> None:
        """Closes the file."""
        try:
            self._flush()
        finally:
            if self._writer is not None:
                with contextlib.suppress(OSError):  # what `_flush` has met
                    self._writer.close()

    def _add(self, step: int, values: Mapping[str, Any]) -> None:
        """Scalars of a step; what is no finite number is left out, as `metrics.jsonl` has none."""
        scalars = [
            Summary.Value(tag=name, simple_value=float(value))
            for name, value in values.items()
            if name != "iteration" and isinstance(value, (int, float)) and abs(value) < _LARGEST
        ]
        if scalars:
            self._write(Event(step=step, summary=Summary(value=scalars)))

    def _add_picture(self, step: int) -> None:
        """The picture of an evaluation, where there is one."""
        try:
            picture = read_picture(self._out / "images" / f"{step:06d}.png")
        except UserError:
            return
        content = io.BytesIO()
        picture.save(content, format="PNG")
        image = Summary.Image(
            height=picture.height,
            width=picture.width,
            colorspace=len(picture.getbands()),
            encoded_image_string=content.getvalue(),
        )
        value = Summary.Value(tag="set", image=image)
        self._write(Event(step=step, summary=Summary(value=[value])))

    def _write(self, event: Event) -> None:
        if self._writer is None:
            return
        event.wall_time = time.time()
        try:
            self._writer.write(event.SerializeToString())
        except OSError as error:
            raise UserError(f"{self._folder} cannot be written ({error.strerror})") from None

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        if self._writer is None:
            return
        try:
            self._writer.flush()
        except OSError as error:
            raise UserError(f"{self._folder} cannot be written ({error.strerror})") from None
