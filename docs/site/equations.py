"""LaTeX to MathML while the site is built, so that no script draws it later."""

import html as entities
import re

from latex2mathml.converter import convert as to_mathml

_MARKED = '<{0} class="arithmatex">{1}</{0}>'.format
_INLINE = re.compile(_MARKED("span", r"\\\((.*?)\\\)"), re.DOTALL)
_BLOCK = re.compile(_MARKED("div", r"\\\[(.*?)\\\]"), re.DOTALL)


def convert(html: str) -> str:
    """A page with MathML in place of what arithmatex marked.

    Raises:
        ValueError: for LaTeX that is not understood, with the text.
    """
    html = _INLINE.sub(lambda m: _one(m[1], "inline"), html)
    return _BLOCK.sub(
        lambda m: f'<div class="equation">{_one(m[1], "block")}</div>', html
    )


def _one(text: str, display: str) -> str:
    latex = entities.unescape(text).strip()
    try:
        return to_mathml(latex, display=display)
    except Exception as error:
        raise ValueError(f"no MathML of {latex!r}: {error}") from error
