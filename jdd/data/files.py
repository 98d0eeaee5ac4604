"""Finding and reading a dataset's files, gzipped or not."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from jdd.errors import UserError
from jdd.files import read_bytes

MOST_BYTES = 2**28  # of one file, unpacked; the largest that is read here has 225 million
_CHUNK = 2**20


def find(directory: Path, name: str) -> Path | None:
    """The file `name` or `name.gz` in a directory; None if neither is there."""
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def find_all(directories: Sequence[Path], names: Sequence[str]) -> list[Path] | None:
    """The named files, gzipped or not, from the first directory that holds them all.

    Returns None where no directory holds any.

    Raises:
      UserError: some of the files are missing; it names them.
    """
    incomplete: str | None = None
    for directory in directories:
        paths = {name: find(directory, name) for name in names}
        present = [path for path in paths.values() if path is not None]
        if len(present) == len(names):
            return present
        if present and incomplete is None:
            missing = ", ".join(name for name, path in paths.items() if path is None)
            incomplete = f"{directory}: missing {missing} (or .gz) next to {present[0].name}"
    if incomplete is not None:
        raise UserError(incomplete)
    return None


def read(path: Path) -> bytes | bytearray:
    """The content of a file, unpacked when its name ends in .gz.

    Raises:
      UserError: it cannot be read, is no complete gzip file, or unpacks to more than `MOST_BYTES`.
    """
    try:
        if path.suffix != ".gz":
            return read_bytes(path, MOST_BYTES)
        content = bytearray()
        with gzip.open(path) as file:
            while chunk := file.read(_CHUNK):
                content += chunk
                if len(content) > MOST_BYTES:
                    raise UserError(f"{path}: it unpacks to more than {MOST_BYTES:,} bytes")
        return content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a complete gzip file ({error}); download it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
