"""A fingerprint of real images: whether a set, experts or scores were made from these or others.

It is a text of two parts, joined by a hyphen. The first is of the images with their labels in
whatever order, the second of the order, by which images are held out.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

DIGEST = 16  # bytes of an image's
_HEX_DIGITS = 16  # hexadecimal digits of each part


def of_images(images: np.ndarray, labels: np.ndarray) -> str:
    """The fingerprint of images `(n, ...)` with labels `(n,)`."""
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    return of_digests((digest(row.data) for row in rows), labels)


def digest(content: bytes | memoryview) -> bytes:
    """Of one image, by its pixels or its file."""
    return hashlib.blake2b(content, digest_size=DIGEST).digest()


def of_digests(digests: Iterable[bytes], labels: np.ndarray) -> str:
    """The fingerprint of images by the `digest` of each, with labels `(n,)`."""
    numbers = np.asarray(labels, "<i4")
    rows = [each + number.tobytes() for each, number in zip(digests, numbers, strict=True)]
    parts = (sorted(rows), rows)
    return "-".join(digest(b"".join(part)).hex()[:_HEX_DIGITS] for part in parts)


def is_same(one: str, other: str) -> bool:
    """Whether both are of the same images, in whatever order, and neither is unknown."""
    return bool(one) and one.partition("-")[0] == other.partition("-")[0]


def differences(stored: str, asked: str, *, in_order: bool = True) -> list[str]:
    """How the images of two fingerprints differ, in words; none where one of them is not known.

    Args:
      stored: what a set, store or score says.
      asked: of the images at hand.
      in_order: whether another order, by which others are held out, is a difference too.
    """
    if not stored or not asked or stored == asked:
        return []
    if not is_same(stored, asked):
        return ["made from other images than those of this name now"]
    return ["made from the same images in another order, so that others were held out"] * in_order
