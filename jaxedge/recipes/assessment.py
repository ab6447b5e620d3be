"""What is left of a transformer: perplexity, answers, embeddings.

Letters: T tokens of a sequence.
"""

from collections.abc import Callable, Sequence
import os

import jax
import numpy as np

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.data import choices, docstrings, text
from jaxedge.models import language, similarity
from jaxedge.models.encoder import Encoder
from jaxedge.models.transformer import Decoder
from jaxedge.recipes import networks
from jaxedge.recipes.networks import Opened

OWN, DOCSTRINGS = "own", "docstrings"
_OF_DECODERS = (OWN, *text.TEXTS, *choices.FILES)
TASKS = (DOCSTRINGS, *_OF_DECODERS)
# Sentences that assess an encoder, and texts that a decoder writes to be
# assessed by.
SENTENCES, _WRITTEN = 256, 32
_KINDS = {Encoder: "an encoder", Decoder: "a decoder"}
Progress = Callable[[int, int], None]


def assess(
    opened: Opened,
    tasks: Sequence[str],
    root: str | os.PathLike[str] | None = None,
    *,
    reference: Opened | None = None,
    length: int = 128,
    most: int | None = None,
    batch: int = 8,
    progress: Callable[[str], Progress | None] = lambda task: None,
) -> dict[str, dict[str, float]]:
    """What a network scores.

    Args:
        opened: the network.
        tasks: of a decoder: texts of `data.text` (perplexity of the test
            split), sets of `data.choices` (accuracy), or "own" (perplexity of
            what the reference, or the network itself, writes). Of an encoder:
            "docstrings", similarity to the reference's embeddings.
        root: the data root.
        reference: the network as it was.
        length: T, of texts.
        most: sequences, questions or sentences of a task; None takes all, and
            of "docstrings" 256.
        batch: sequences at once.
        progress: of a task, a function of what is done and of all.

    Returns:
        By task, scores by name.

    Raises:
        UsageError: for a task that is unknown or not for this network, texts
            or questions that are missing, or a reference of another kind.
    """
    for task in tasks:
        checks.choice("task", task, known_tasks(opened.model))
    if reference is not None:
        _check_same_kind(opened.model, reference.model)
    if isinstance(opened.model, Encoder):
        return {task: _similar(opened, reference, most) for task in tasks}
    # All files are read before anything is computed.
    asked = {
        task: choices.load(task, root)[:most]
        for task in tasks
        if task in choices.FILES
    }
    texts = {
        task: _test_tokens(opened, task, root, length, most)
        for task in tasks
        if task in text.TEXTS
    }
    found: dict[str, dict[str, float]] = {}
    for task in tasks:
        report = progress(task)
        if task in asked:
            answers = language.answer(
                asked[task],
                opened.encode,
                opened.model,
                opened.variables,
                batch=batch,
                progress=report,
            )
            found[task] = {
                "accuracy": answers.acc,
                "accuracy_error": answers.acc_error,
                "accuracy_norm": answers.acc_norm,
                "accuracy_norm_error": answers.acc_norm_error,
            }
        else:
            tokens = texts.get(task)
            if tokens is None:
                # Another key than that of the calibration.
                key = stream(jax.random.key(0), "assess")
                tokens = networks.written(
                    reference or opened, most or _WRITTEN, length, key
                )
            value = language.perplexity(
                opened.model,
                opened.variables,
                tokens,
                batch=batch,
                progress=report,
            )
            found[task] = {"perplexity": value}
    return found


def known_tasks(model: Encoder | Decoder) -> tuple[str, ...]:
    """The tasks of a network."""
    return (DOCSTRINGS,) if isinstance(model, Encoder) else _OF_DECODERS


def _similar(
    opened: Opened, reference: Opened | None, most: int | None
) -> dict[str, float]:
    if reference is None:
        raise checks.UsageError(
            "an encoder is assessed beside the network that it was; give"
            " --reference."
        )
    sentences = docstrings.sentences()[: most or SENTENCES]
    if len(sentences) < 11:
        raise checks.UsageError(
            f"{len(sentences)} sentences are too few to compare; give --most=11"
            " or more."
        )
    found = similarity.compare(
        networks.embed(opened, sentences), networks.embed(reference, sentences)
    )
    return found._asdict()


def _test_tokens(
    opened: Opened,
    task: str,
    root: str | os.PathLike[str] | None,
    length: int,
    most: int | None,
) -> np.ndarray:
    found = networks.text_of(task, "test", root)
    tokens = networks.windows(opened, found, length, most)
    if not len(tokens):
        raise checks.UsageError(
            f"the test split of {task} has no {length} tokens; lower --length."
        )
    return tokens


def _check_same_kind(
    model: Encoder | Decoder, reference: Encoder | Decoder
) -> None:
    kind, other = (
        f"{_KINDS[type(m)]} of {m.vocabulary} tokens"
        for m in (model, reference)
    )
    if kind != other:
        raise checks.UsageError(
            f"the network is {kind}, but its reference {other}; give the"
            " one that it was."
        )
