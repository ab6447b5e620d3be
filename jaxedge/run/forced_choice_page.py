"""The page of a forced choice: one HTML file that needs no network.

It shows two pictures beside each other, asks which one is real, keeps what was
chosen in the browser, and gives it as a CSV. Which one is real is not in it.

Letters: H height, W width.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
import json
import struct
from typing import NamedTuple
import zlib

import numpy as np

from jaxedge.core import checks
from jaxedge.run import page

_GAP = 0.06  # Between the modalities of a pair, a share of the width.


class Question(NamedTuple):
    """Two pairs of images, of which one is real.

    Attributes:
        left: both modalities in [-1, 1], [H, W, 2].
        right: likewise.
    """

    left: np.ndarray
    right: np.ndarray


def document(
    name: str, questions: Sequence[Question], modalities: Sequence[str]
) -> str:
    """The whole page.

    Args:
        name: of the study, which its answers carry.
        questions: in the order in which they are asked.
        modalities: names of both, the left one of a picture in front.

    Raises:
        UsageError: for no questions, or images that do not fit each other.
    """
    shapes = {np.shape(image) for question in questions for image in question}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise checks.UsageError(
            f"the images of a study have the shapes {sorted(shapes)}, but must"
            " have one [H, W, 2]."
        )
    pictures = [[_uri(image) for image in question] for question in questions]
    data = json.dumps({"name": name, "pictures": pictures})
    first, second = (page.escape(word) for word in modalities)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Which is real?</title><style>{_STYLE}</style></head><body>"
        "<main><h1>Which is real?</h1>"
        f"<p>Each picture is a pair of images, {first} on the left and"
        f" {second} on the right. Of the two pictures one was measured, and"
        " the other was made by a computer. Choose the one that was measured,"
        " with a click or with the arrow keys; guess if you cannot tell. What"
        " you choose stays in this browser.</p>"
        '<p id="where" aria-live="polite"></p>'
        '<div id="pair"><button type="button" id="left" aria-label="the left'
        ' one"><img alt="left"></button><button type="button" id="right"'
        ' aria-label="the right one"><img alt="right"></button></div>'
        '<p><button type="button" id="back">Back</button> <button'
        ' type="button" id="save">Download answers</button> <button'
        ' type="button" id="clear">Begin anew</button></p></main>'
        f'<script type="application/json" id="data">{data}</script>'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def png(pixels_HxW: np.ndarray) -> bytes:
    """A grey picture, uint8, as a PNG file whose size tells nothing.

    It is stored, not compressed, so that files of pictures of one size are
    equally long whatever they show, and carries nothing but its pixels.
    """
    height, width = pixels_HxW.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return (
            struct.pack(">I", len(body))
            + kind
            + body
            + struct.pack(">I", check)
        )

    # Each line begins with the number of its filter, 0 for none.
    lines = np.pad(pixels_HxW.astype(np.uint8), ((0, 0), (1, 0))).tobytes()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(lines, 0))
        + chunk(b"IEND", b"")
    )


def _uri(image_HxWx2: np.ndarray) -> str:
    """Both modalities beside each other."""
    checks.in_range("pixel", image_HxWx2, -1.001, 1.001)
    grey = np.rint((np.clip(image_HxWx2, -1, 1) + 1) * 127.5).astype(np.uint8)
    height, width = grey.shape[:2]
    gap = np.full((height, max(1, round(_GAP * width))), 255, np.uint8)
    wide = np.concatenate([grey[..., 0], gap, grey[..., 1]], 1)
    text = base64.b64encode(png(wide)).decode("ascii")
    return f"data:image/png;base64,{text}"


_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem; }
#pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1.5rem; }
#pair button { padding: .6rem; background: #fff; border: 3px solid #b3bcc4;
  border-radius: .5rem; cursor: pointer; }
#pair button:hover, #pair button:focus-visible { border-color: #0072b2; }
#pair button[aria-pressed="true"] { border-color: #d55e00; }
#pair img { display: block; width: 100%; image-rendering: pixelated; }
#where { font-weight: 600; }
"""

_SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const total = data.pictures.length;
const store = "jaxedge-study-" + data.name;
const find = (id) => document.getElementById(id);
let answers = new Array(total).fill("");
let at = 0;
try {
  const kept = JSON.parse(localStorage.getItem(store));
  if (Array.isArray(kept) && kept.length === total) {
    answers = kept;
    at = answers.indexOf("");
    if (at < 0) at = total;
  }
} catch (error) { /* A browser that keeps nothing still asks. */ }
function keep() {
  try { localStorage.setItem(store, JSON.stringify(answers)); }
  catch (error) { /* Likewise. */ }
}
function show() {
  const done = at >= total;
  find("pair").style.display = done ? "none" : "grid";
  find("where").textContent = done
    ? "Thank you. Now download the answers and hand them in."
    : "Question " + (at + 1) + " of " + total;
  find("back").disabled = at === 0;
  if (done) return;
  ["left", "right"].forEach((side, i) => {
    find(side).querySelector("img").src = data.pictures[at][i];
    find(side).setAttribute("aria-pressed", String(answers[at] === side));
  });
}
function choose(side) {
  if (at >= total) return;
  answers[at] = side;
  at += 1;
  keep();
  show();
}
["left", "right"].forEach((side) => {
  find(side).addEventListener("click", () => choose(side));
});
document.addEventListener("keydown", (event) => {
  if (event.repeat) return;
  if (event.key === "ArrowLeft") choose("left");
  if (event.key === "ArrowRight") choose("right");
});
find("back").addEventListener("click", () => { at -= 1; show(); });
find("clear").addEventListener("click", () => {
  if (!confirm("Forget all answers?")) return;
  answers.fill("");
  at = 0;
  keep();
  show();
});
find("save").addEventListener("click", () => {
  const lines = ["study,question,answer"];
  answers.forEach((side, i) => {
    if (side) lines.push([data.name, i + 1, side].join(","));
  });
  const file = new Blob([lines.join("\\n") + "\\n"], {type: "text/csv"});
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = "answers-" + data.name + ".csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
show();
"""
