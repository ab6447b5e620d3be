"""LLM-FP4: a pretrained transformer in small floating-point numbers.

arXiv:2310.16836. Every matrix is calibrated with what it sees in the network as
it was trained (appendix F), without any training. `calibration` reads texts,
`layers` quantises one matrix after the other, `assemble` makes them a network;
`recipes.networks` opens one, and `recipes.assessment` says what is left of it.

Letters: N texts, T tokens of one.
"""

from collections.abc import Callable, Iterator, Mapping
import os
from pathlib import Path
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder
import numpy as np

from jaxedge.core import checks
from jaxedge.core.trees import map_named
from jaxedge.data import docstrings, text
from jaxedge.hardware.weights import TABLE
from jaxedge.models import quantized, transformer
from jaxedge.models.encoder import Encoder
from jaxedge.models.transformer import Decoder
from jaxedge.quantize import blocks, fpq, search
from jaxedge.quantize.layer import Rows
from jaxedge.recipes import networks, settings
from jaxedge.recipes.assessment import DOCSTRINGS, OWN, SENTENCES
from jaxedge.recipes.networks import Opened


class Quantize(NamedTuple):
    """Into which numbers.

    Attributes:
        weight_bits: 2 to 8.
        act_bits: 2 to 8; 16 leaves activations as they are.
        embedding_bits: of the table of a decoder's tokens, with a scale for
            each; None leaves it as it is.
        method: of `quantize.search.METHODS`.
        search: candidates, "offset" or "paper".
        grain: "tensor" or a block format of `quantize.blocks.NAMED`.
        damp: of the methods that compensate (gptq).
        layers: regular expression, searched in the path of each matrix; tables
            are none.
        kv: block format of the keys and values that a decoder keeps; None
            keeps them as they are.
    """

    weight_bits: int
    act_bits: int
    embedding_bits: int | None
    method: str
    search: str
    grain: str
    damp: float
    layers: str
    kv: str | None

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.choice("quantize.method", self.method, search.METHODS)
        checks.choice("quantize.search", self.search, search.SEARCHES)
        checks.choice("quantize.grain", self.grain, ("tensor", *blocks.NAMED))
        transformer.check_kv(self.kv)
        checks.in_range("quantize.damp", self.damp, 0, open_low=True)
        for name in ("weight_bits", "act_bits", "embedding_bits"):
            bits = getattr(self, name)
            if bits is None or (name, bits) == ("act_bits", search.EXACT_BITS):
                continue
            checks.whole(f"quantize.{name}", bits, 2)
            checks.in_range(f"quantize.{name}", bits, high=8)

    @property
    def how(self) -> dict[str, Any]:
        """Arguments of `quantize.search.linear`."""
        return {
            "bits": (self.weight_bits, self.act_bits),
            "method": self.method,
            "search": self.search,
            "grain": self.grain,
            "damp": self.damp,
        }


class Calibration(NamedTuple):
    """With what.

    Attributes:
        text: "docstrings" of Python's standard library; "own", which a decoder
            writes itself; a text of `data.text`; or the path of a text file,
            an encoder's with a sentence a line.
        sequences: N.
        tokens: T; the paper says 2,048 of LLaMA and its code takes 1,024.
        vectors: most that a matrix is calibrated with; None takes all.
    """

    text: str
    sequences: int
    tokens: int
    vectors: int | None

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.whole("calibration.sequences", self.sequences, 1)
        checks.whole("calibration.tokens", self.tokens, 4)
        if self.vectors is not None:
            checks.whole("calibration.vectors", self.vectors, 1)


class Settings(NamedTuple):
    """A config of this recipe, checked."""

    quantize: Quantize
    calibration: Calibration


def defaults() -> ConfigDict:
    """W4A4 by the paper's method, with offsets that have no unit."""
    return ConfigDict(
        {
            "seed": 0,
            "quantize": {
                "weight_bits": 4,
                "act_bits": 4,
                "embedding_bits": placeholder(int),
                "method": "fpq",
                "search": "offset",
                "grain": "tensor",
                "damp": 0.01,
                "layers": "kernel$",
                "kv": placeholder(str),
            },
            "calibration": {
                "text": DOCSTRINGS,
                "sequences": 32,
                "tokens": 128,
                "vectors": placeholder(int),
            },
        }
    )


def parse(config: Any) -> Settings:
    """Unpacks a config; raises UsageError for a bad or unknown field."""
    known = defaults()
    for name in config:
        checks.choice("config field", name, known)
    if "seed" not in config:
        raise checks.UsageError("the config lacks the field 'seed'; use 0.")
    checks.whole("config.seed", config["seed"])
    checks.in_range("config.seed", config["seed"], 0, 2**31 - 1)
    return settings.unpack_sections(Settings, config)


class Texts(NamedTuple):
    """Tokens to calibrate with.

    Attributes:
        tokens: [N, T] int32.
        mask: 1 where a token is no padding, [N, T].
    """

    tokens: np.ndarray
    mask: np.ndarray


def calibration(
    opened: Opened,
    given: Calibration,
    root: str | os.PathLike[str] | None,
    key: jax.Array,
) -> Texts:
    """The tokens of a config.

    Args:
        opened: the network.
        given: which.
        root: the data root, for texts of `data.text`.
        key: draws which, and what a decoder writes; consumed.

    Raises:
        UsageError: for a text that is missing or too short, or a network that
            cannot write one.
    """
    if given.text == OWN:
        if not isinstance(opened.model, Decoder):
            raise checks.UsageError(
                "calibration.text is 'own', but an encoder writes no text; use"
                " 'docstrings', or a file with a sentence a line."
            )
        tokens = networks.written(opened, given.sequences, given.tokens, key)
        return Texts(tokens, np.ones_like(tokens))
    lines = _lines(given.text, root)
    if isinstance(opened.model, Encoder):
        assert opened.batch is not None
        # Those of an assessment come first.
        free = lines[SENTENCES if given.text == DOCSTRINGS else 0 :]
        if len(free) < given.sequences:
            raise checks.UsageError(
                f"calibration.text {given.text!r} has {len(free)} lines, but"
                f" calibration.sequences is {given.sequences}."
            )
        some = [free[i] for i in _drawn(key, len(free), given.sequences)]
        return Texts(*opened.batch(some, given.tokens))
    tokens = networks.windows(opened, "\n".join(lines), given.tokens)
    if len(tokens) < given.sequences:
        raise checks.UsageError(
            f"calibration.text {given.text!r} has {len(tokens)} sequences of"
            f" {given.tokens} tokens, but calibration.sequences is"
            f" {given.sequences}."
        )
    tokens = tokens[_drawn(key, len(tokens), given.sequences)]
    return Texts(tokens, np.ones_like(tokens))


def _drawn(key: jax.Array, count: int, some: int) -> np.ndarray:
    """Places of some of a number of things, each once."""
    return np.asarray(jax.random.permutation(key, count)[:some])


def _lines(name: str, root: str | os.PathLike[str] | None) -> list[str]:
    if name == DOCSTRINGS:
        return list(docstrings.sentences())
    if name in text.TEXTS:
        found = networks.text_of(name, "train", root)
    elif Path(name).is_file():
        try:
            found = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise checks.UsageError(
                f"calibration.text {name!r} cannot be read ({error}); give a"
                " text file in UTF-8."
            ) from error
    else:
        raise checks.unknown(
            "calibration.text (and no file)",
            name,
            (OWN, DOCSTRINGS, *text.TEXTS),
        )
    return [line.strip() for line in found.splitlines() if line.strip()]


class Layer(NamedTuple):
    """One matrix that was quantised.

    Attributes:
        path: of it.
        leaf: with its codes.
        record: what a report says: formats, bytes, the squared error of the
            outputs over their square, and the sizes of the channels.
    """

    path: str
    leaf: quantized.Quantized
    record: dict[str, Any]


def layers(
    opened: Opened,
    texts: Texts,
    given: Settings,
    done: Callable[[str], quantized.Quantized | None] = lambda path: None,
) -> Iterator[Layer]:
    """Quantises matrix after matrix, in the order of `matrices`.

    Args:
        opened: the network as it was trained.
        texts: to calibrate with.
        given: how.
        done: what is known of a path from before, or None.

    Raises:
        UsageError: as `quantized.inputs` and `quantized.quantise`.
    """
    paths = matrices(opened, given.quantize.layers)
    weights: dict[str, jax.Array] = {}
    map_named(weights.__setitem__, opened.variables)
    for path in paths:
        checks.finite(path, weights[path])
    seen = observed(opened, texts, given)
    for path in paths:
        w, x = weights[path], seen[path]
        leaf = done(path)
        if leaf is None:
            leaf = quantized.quantise(path, w, x, **given.quantize.how)
        yield Layer(path, leaf, _record(leaf, w, x))


def matrices(opened: Opened, pattern: str) -> list[str]:
    """Paths of the matrices that are quantised, layer 2 before layer 10.

    Raises:
        UsageError: as `quantized.matching`, or for a network of small numbers.
    """
    if any(quantized.leaves(opened.variables)):
        raise checks.UsageError(
            "the network holds small numbers already; give the one that they"
            " were made of."
        )

    def place(path: str) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", path)
        return [(int(p) if p.isdigit() else -1, p) for p in parts]

    return sorted(quantized.matching(opened.variables, pattern), key=place)


def observed(
    opened: Opened, texts: Texts, given: Settings
) -> dict[str, jax.Array]:
    """What each matrix sees, [B, I], without padding."""
    tokens = jnp.asarray(texts.tokens)
    real = np.flatnonzero(texts.mask.reshape(-1))
    limit = given.calibration.vectors
    if limit is not None:
        real = real[:: max(1, len(real) // limit)][:limit]
    extra: dict[str, Any] = {}
    if isinstance(opened.model, Encoder):
        extra["mask"] = jnp.asarray(texts.mask)
    return quantized.inputs(
        lambda variables: opened.model.apply(variables, tokens, **extra),
        opened.variables,
        given.quantize.layers,
        rows=real,
    )


def tables(opened: Opened, bits: int | None) -> dict[str, Rows]:
    """The tables of a decoder in small numbers, by path.

    Raises:
        UsageError: for an encoder, whose tables are added to each other.
    """
    found: dict[str, Rows] = {}
    if bits is None:
        return found
    if not isinstance(opened.model, Decoder):
        raise checks.UsageError(
            f"quantize.embedding_bits is {bits}, but it is for decoders; use"
            " None."
        )

    def one(path: str, leaf: Any) -> None:
        if path.endswith(TABLE):
            checks.finite(path, leaf)
            found[path] = fpq.table(leaf, bits)

    map_named(one, opened.variables)
    return found


def assemble(
    opened: Opened,
    leaves: Mapping[str, quantized.Quantized],
    small: Mapping[str, Rows],
    kv: str | None = None,
) -> Opened:
    """The network with these matrices and tables.

    Raises:
        UsageError: for keys of an encoder.
    """

    def one(path: str, leaf: Any) -> Any:
        if path in small:
            return small[path].values
        return leaves.get(path, leaf)

    model = opened.model
    if kv is not None:
        if not isinstance(model, Decoder):
            raise checks.UsageError(
                f"quantize.kv is {kv!r}, but an encoder keeps no keys; use"
                " None."
            )
        model = model.clone(kv=kv)
    variables = map_named(one, opened.variables)
    return opened._replace(model=model, variables=variables)


def _record(
    leaf: quantized.Quantized, w: jax.Array, x: jax.Array
) -> dict[str, Any]:
    layer = leaf.layer
    error, most = _measured(leaf, w, x)
    kind = layer.act_blocks.format if layer.act_blocks else layer.act_format
    return {
        "shape": list(leaf.shape),
        "weight_format": layer.weight_format.name,
        "act_format": kind.name if kind else "exact",
        "bits_per_weight": 8 * layer.nbytes / leaf.size,
        "error": float(error),
        "channel_most": np.asarray(most).tolist(),
        "shifted": float(jnp.mean(layer.shift_I > 0)),
    }


@jax.jit
def _measured(
    leaf: quantized.Quantized, w: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    y = x @ w.reshape(-1, w.shape[-1])
    off, power = leaf.layer.apply(x) - y, jnp.sum(y**2)
    # Weights that are all zero have no error.
    return jnp.sum(off**2) / jnp.where(power > 0, power, 1), jnp.abs(x).max(0)
