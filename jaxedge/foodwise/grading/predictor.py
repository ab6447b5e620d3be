"""What the pages know of the network that grades photos."""

from typing import NamedTuple, Protocol

import numpy as np


class Grade(NamedTuple):
    """What a network says of a photo.

    Attributes:
        probabilities: of the classes of `rules.CLASSES`, by expectation.
        alpha: three concentrations of the Dirichlet distribution, above 0.
        uncertainty: vacuity, classes / sum of alpha, in (0, 1].
        decision: index of the class; None where it is unsure.
        quality: what is wrong with the photo, a word, or "".
        version: of the model.
        chip: which chip of it.
        features: [128] in 0..1, as the network sees the photo.
    """

    probabilities: tuple[float, ...]
    alpha: tuple[float, ...]
    uncertainty: float
    decision: int | None
    quality: str
    version: str
    chip: int
    features: tuple[float, ...]


class Predictor(Protocol):
    """Grades photos of plates.

    Attributes:
        version: of the model.
    """

    version: str

    def grade(self, image_HxWx3: np.ndarray) -> Grade:
        """Of one photo, uint8 RGB; may be called by several threads."""
        ...


__all__ = ["Grade", "Predictor"]
