"""What a person asked for and cannot have, told in their language."""

from typing import Any

from jaxedge.core import checks
from jaxedge.foodwise.base import words


class Refused(checks.UsageError):
    """An input that its person can mend.

    Attributes:
        key: the text is "error.KEY" of texts/.
        values: its fields.
        status: of HTTP.
    """

    status = 422

    def __init__(self, key: str, **values: Any) -> None:
        self.key, self.values = key, values
        super().__init__(self.told("en"))

    def told(self, language: str) -> str:
        """The sentence."""
        return words.say(language, f"error.{self.key}", **self.values)


class Busy(Refused):
    """What would be done, if so many others were not being served."""

    status = 503


__all__ = ["Busy", "Refused"]
