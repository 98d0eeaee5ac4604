"""The static part of a convolution."""

from collections.abc import Iterator
from typing import NamedTuple

Pair = tuple[int, int]


class Window(NamedTuple):
    """How a kernel slides over an image: what two of the three arrays leave open."""

    image: Pair  # h, w
    kernel: Pair  # kh, kw
    padding: tuple[Pair, Pair]  # (above, below), (left, right)
    strides: Pair
    precision: str | None = None  # JAX's name; "bfloat16": factors and product are rounded to it

    @property
    def output(self) -> Pair:
        """The size of the result, `(oh, ow)`."""
        sizes = [
            (size + sum(pads) - kernel) // stride + 1
            for size, kernel, pads, stride in zip(
                self.image, self.kernel, self.padding, self.strides, strict=True
            )
        ]
        return sizes[0], sizes[1]

    def axes(self) -> Iterator[tuple[int, int, int, int, Pair]]:
        """Image size, output size, kernel size, stride and padding of each of the two axes."""
        return zip(self.image, self.output, self.kernel, self.strides, self.padding, strict=True)
