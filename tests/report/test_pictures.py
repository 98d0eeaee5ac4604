"""Pictures of sets: the letters in them."""

import numpy as np
import pytest

from jdd.report import pictures


@pytest.mark.parametrize("letter", ["é", "ß", "ж", "λ"])
def test_letters_of_other_languages_are_drawn(letter):
    font = pictures._font()
    drawn, box = (np.array(font.getmask(each)) for each in (letter, "\U0010fffd"))
    assert drawn.shape != box.shape or (drawn != box).any()
