"""Pieces of a report's HTML: text in, escaped markup out."""

from __future__ import annotations

from collections.abc import Sequence
import html
from typing import TYPE_CHECKING

from jaxedge.run import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def escape(value: object) -> str:
    """Text that cannot be taken for markup; every text goes through here."""
    return html.escape(str(value))


def cards(entries: Sequence[tuple[str, str, str]]) -> str:
    """The numbers that matter most: (name, value, small note) each."""
    return (
        '<dl class="cards">'
        + "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
            f"<small>{escape(note)}</small></dd></div>"
            for name, value, note in entries
        )
        + "</dl>"
    )


def section(title: str, content: str) -> str:
    """A titled part of the page; `content` is markup."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def columns(*parts: str) -> str:
    """Markup side by side, where the window is wide enough."""
    return f'<div class="columns">{"".join(parts)}</div>'


def missing(what: str, command: str) -> str:
    """In place of a picture: the command that makes it."""
    return (
        f'<p class="missing">{escape(what)} yet: run'
        f" <code>{escape(command)}</code> with this workdir.</p>"
    )


def picture(figure: Figure, alt: str, caption: str) -> str:
    """A figure, inlined; `alt` is for those who cannot see it."""
    uri = canvas.to_svg_or_png(figure)
    return (
        f'<figure><img src="{uri}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    total: Sequence[str] = (),
) -> str:
    """A table of which the first column names the row.

    Args:
        caption: above the table.
        head: the titles of the columns, [columns].
        rows: the cells, [rows, columns].
        total: the last row, set apart, [columns]; none if empty.
    """

    def line(cells: Sequence[str]) -> str:
        first, *others = (escape(cell) for cell in cells)
        data = "".join(f"<td>{cell}</td>" for cell in others)
        return f'<tr><th scope="row">{first}</th>{data}</tr>'

    titles = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    foot = f"<tfoot>{line(total)}</tfoot>" if total else ""
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{titles}</tr></thead>"
        f"<tbody>{''.join(line(row) for row in rows)}</tbody>"
        f"{foot}</table></div>"
    )


def pairs(title: str, pairs: Sequence[tuple[str, object]]) -> str:
    """A two-column table; marks what is unknown or only a default."""
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f"<td{_mark(value)}>{escape(value)}</td></tr>"
        for name, value in pairs
    )
    return (
        f'<div class="wide"><table class="pairs">{caption}'
        f"<tbody>{lines}</tbody></table></div>"
    )


def paragraph(title: str, *sentences: str) -> str:
    """Sentences under a word of their own; marked as in `pairs`."""
    spans = "".join(
        f" <span{_mark(text)}>{escape(text)}</span>" for text in sentences
    )
    return f"<p><strong>{escape(title)}.</strong>{spans}</p>"


def details(title: str, content: str) -> str:
    """Markup that opens on a click."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def document(title: str, body: str) -> str:
    """The whole page, with its style; `body` is markup."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _mark(value: object) -> str:
    text = str(value)
    doubtful = "unknown" in text or "default" in text
    return ' class="doubtful"' if doubtful else ""


_STYLE = """
:root { color-scheme: light dark; --page: #f6f8f9; --card: #fff;
  --ink: #1c2833; --muted: #5b6873; --line: #d7dde2; --mark: #9a3412; }
@media (prefers-color-scheme: dark) { :root { --page: #12181d;
  --card: #1b242b; --ink: #e6ebef; --muted: #9fabb5; --line: #33404a;
  --mark: #fdba74; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { margin: 0; font-size: 1.9rem; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .8rem; font-size: 1.25rem; }
h3 { margin: 1.6rem 0 .4rem; font-size: 1.05rem; }
header p, figcaption, dt, small, caption { color: var(--muted); }
header p { margin: .2rem 0 1.5rem; }
.cards, .columns { display: grid; gap: 1rem; margin: 0;
  grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); }
.columns { grid-template-columns:
  repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); align-items: start; }
.cards > div, figure, .wide, .missing, details { background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem; }
.cards > div { padding: .8rem 1rem; }
dt { font-size: .85rem; }
dd { margin: 0; font-size: 1.6rem; font-weight: 650; }
small { display: block; font-size: .8rem; font-weight: 400; }
figure { margin: 0; padding: 1rem; min-width: 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto;
  background: #fff; border-radius: .3rem; }
figcaption { margin-top: .7rem; font-size: .9rem; }
.wide { margin-top: 1rem; padding: .6rem 1rem; overflow-x: auto; }
.columns > .wide { min-width: 0; }
table { border-collapse: collapse; width: 100%; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .3rem 0; font-weight: 600; }
th, td { padding: .35rem .5rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; padding-left: 0; font-weight: 500; }
thead th { font-weight: 600; white-space: normal; vertical-align: bottom; }
tfoot th, tfoot td { border-bottom: 0; font-weight: 650; }
.pairs td { white-space: normal; overflow-wrap: anywhere; }
.pairs tr:last-child > * { border-bottom: 0; }
.doubtful { color: var(--mark); }
.missing { padding: 1rem; margin: 0; border-style: dashed; }
details { margin-top: 1rem; padding: .7rem 1rem; }
summary { cursor: pointer; font-weight: 600; }
details .wide { border: 0; padding: 0; }
pre { overflow-x: auto; font-size: .85rem; }
@media print { section, figure { break-inside: avoid; } }
"""
