"""PyTorch's files, read without running what is in them, as NumPy arrays."""

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from jdd.errors import UserError
from jdd.interop.guide import imported

_MOST_VALUES = 10**6  # in its lists and dictionaries
_MOST_NESTING = 8


class _Kind:
    """Stands in for a NumPy type: remembers its name, and has nothing that a file could change."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like: `_number` knows little-endian numbers alone."""


def _number(kind: _Kind, content: bytes) -> float:
    """Stands in for what makes a NumPy scalar."""
    return float(np.frombuffer(content, {"f4": "<f4", "f8": "<f8", "i8": "<i8"}[kind.name])[0])


# The accuracies that published code stores with its sets are NumPy scalars. What makes them is let
# through by name, and replaced by what makes Python's.
_LET_THROUGH = [
    (_Kind, "numpy.dtype"),
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
]


def loads(content: bytes, where: object) -> Any:
    """What `torch.save` wrote: lists, dictionaries and numbers, tensors as NumPy arrays.

    Args:
      content: of the file.
      where: it is, for messages.

    Raises:
      UserError: PyTorch is not installed, or the file is damaged, holds anything else (it is not
        run), or takes more memory than it has bytes.
    """
    torch = imported("torch", "torch")
    try:
        _check_archive(content)
        allowed = torch.serialization.safe_globals(_LET_THROUGH)
        with warnings.catch_warnings(), allowed:
            warnings.simplefilter("ignore")  # of older files
            value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return _Reader(torch, len(content)).plain(value)
    except UserError as error:
        raise UserError(f"{where} cannot be read: {error}") from None
    except (Exception, MemoryError) as error:  # PyTorch raises many kinds
        raise UserError(f"{where} cannot be read: {_why(error)}") from None


def _why(error: BaseException) -> str:
    """In a few words: PyTorch's own advice is to run what the file holds."""
    if (match := re.search(r"GLOBAL ([\w.]{1,60})", str(error))) is not None:
        return f"it holds more than tensors ({match[1]}), and nothing in it is run"
    return f"it is damaged, or no file of torch.save ({type(error).__name__})"


def _check_archive(content: bytes) -> None:
    """Raises `UserError` where unpacking takes more than the file's own size."""
    if not content.startswith(b"PK"):
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > len(content):
        raise UserError("its entries are compressed, which torch.save does not do")


class _Reader:
    """Turns what PyTorch has made of a file into plain values, as many as the file can hold."""

    def __init__(self, torch: Any, size: int) -> None:
        self._torch, self._bytes, self._values = torch, size, _MOST_VALUES

    def plain(self, value: Any, depth: int = 0) -> Any:
        self._values -= 1
        if depth > _MOST_NESTING or self._values < 0:
            raise UserError("its lists are nested too deep or too long")
        if isinstance(value, self._torch.Tensor):
            return self._array(value)
        if isinstance(value, Mapping):
            return {str(key)[:80]: self.plain(each, depth + 1) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.plain(each, depth + 1) for each in value]
        return value

    def _array(self, tensor: Any) -> np.ndarray:
        if tensor.layout is not self._torch.strided or tensor.device.type != "cpu":
            raise UserError("a tensor of it has no numbers of its own")
        self._bytes -= tensor.numel() * tensor.element_size()
        if self._bytes < 0:
            raise UserError(
                "its tensors share their numbers; published code that trains experts on a CPU "
                "stores the last epoch in the place of every one"
            )
        if tensor.dtype in (self._torch.bfloat16, self._torch.float16):
            tensor = tensor.float()
        return np.asarray(tensor.detach().numpy())
