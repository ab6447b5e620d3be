"""What every test shares: strict JAX, a key, and a watch on compilations.

JAX itself reads `JAX_COMPILATION_CACHE_DIR` and
`JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS`, which `scripts/test` sets, so a
second run of the tests finds its programs compiled.
"""

import collections
from collections.abc import Iterator
import contextlib
import gc
import os
from pathlib import Path
import re

import hypothesis
import jax
import pytest

# A silent broadcast from [O] to [B, O] hides wrong shapes.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Two devices make every sharded path run without an accelerator.
jax.config.update("jax_num_cpu_devices", 2)

# A compiled program takes some of the mappings that a Linux process may have,
# 65,530 by default, and XLA crashes when there are none left.
MAPPINGS = Path("/proc/self/maps")
MOST_MAPPINGS = 30_000
# What JAX keeps of every program makes the next one slower to lower: by 40 %
# after 1,500 of them.
MOST_PROGRAMS = 400

# Programs that were traced are a heap of small objects that stay; looking for
# cycles among them as often as Python does took 4 % of the time.
gc.set_threshold(50_000, 20, 50)

# The first example compiles, which no deadline in milliseconds can allow for;
# a fixed choice of examples makes a failure the same on every machine.
hypothesis.settings.register_profile("jaxedge", deadline=None, derandomize=True)
hypothesis.settings.load_profile("jaxedge")

# Rooms of arithmetic and of our own files, which are the same on every version
# of a package. What depends on the version there are transformations, shown by
# the contract tables and by tests of such names, the layers of flax, the
# programs that `wrap` reads, and what speaks to orbax, matplotlib, absl and
# tokenizers.
ARITHMETIC = {
    "data",
    "features",
    "hardware",
    "learn",
    "models",
    "radiomics",
    "quantize",
    "recipes",
    "run",
}
VERSIONED = {
    "test_checkpoint",
    "test_contract",
    "test_converter_contract",
    "test_deploy",
    "test_device_contract",
    "test_figures",
    "test_job",
    "test_layers",
    "test_leaf_contract",
    "test_main",
    "test_metrics",
    "test_recipe",
    "test_settings",
    "test_supervised",
    "test_tokenizers",
    "test_wrap",
    "test_wrap_frameworks",
}
TRANSFORMED = re.compile("jit|vmap|compil|transform|gradient|slope|contract")
# Files of long processes and trainings, which begin first: with a long file at
# the end, one of two workers would wait for the other.
LONG = (
    "test_deployment",
    "test_searches",
    "test_kill",
    "test_docs",
    "test_job",
    "test_main",
    "test_hosts",
)

_COMPILED = "/jax/core/compile/backend_compile_duration"
# What JAX has told of since programs were last forgotten.
_told = collections.Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rows = collections.defaultdict(list)
    for item in items:
        rows[item.path, getattr(item, "originalname", item.name)].append(item)
        versioned = item.path.stem in VERSIONED
        if item.path.parent.name in ARITHMETIC and not (
            versioned or TRANSFORMED.search(item.name)
        ):
            item.add_marker("physics")
    for table in rows.values():
        # A package breaks what a test does rather than one row of its table;
        # a contract table ends with its richest row.
        kept = table[-1 if table[0].path.stem in VERSIONED else 0]
        for item in table:
            if item is not kept:
                item.add_marker("row")
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))
    # What was imported stays: no collection has to look at it again.
    gc.collect()
    gc.freeze()


def _count(event: str, duration: float, **details) -> None:
    del duration, details
    _told[event] += 1


jax.monitoring.register_event_duration_secs_listener(_count)


@contextlib.contextmanager
def _without_optimisations(less: bool) -> Iterator[None]:
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, less)
    yield
    jax.config.update(name, before)


@pytest.fixture(scope="module")
def compile_quickly() -> Iterator[None]:
    """Machine code that is made fast rather than that is fast.

    For files whose many small programs run once, so that compiling them is all
    the time they take. Of one file at a time: without an `__init__.py` the
    fixture of a package would last into the tests of other rooms.
    """
    with _without_optimisations(True):
        yield


@pytest.fixture
def run_quickly() -> Iterator[None]:
    """Machine code that is fast, for one program that computes for seconds."""
    with _without_optimisations(False):
        yield


@contextlib.contextmanager
def _watch() -> Iterator[list[str]]:
    """Yields a list that grows by one name for each compiled function."""
    names = []

    def listen(event: str, duration: float, **details) -> None:
        del duration
        if event == _COMPILED:
            names.append(str(details.get("fun_name", "unnamed")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def key() -> jax.Array:
    """A PRNG key, the same in every test."""
    return jax.random.key(0)


@pytest.fixture(scope="session")
def compilations():
    """A context manager that lists the functions compiled inside it.

    Use it as `with compilations() as names: ...` and then
    `assert not names`. A program taken from the persistent cache counts too:
    JAX asked for a compilation, which a cache hit only made cheap.
    """
    with _watch() as names:
        jax.jit(lambda: 0)()
    # Else a JAX that renamed its event would let every such test pass.
    assert names, f"this JAX does not report {_COMPILED!r}"
    return _watch


def _mappings() -> int:
    """Mappings of this process; 0 where nothing tells them."""
    if not MAPPINGS.exists():
        return 0
    with MAPPINGS.open("rb") as file:
        return sum(1 for _ in file)


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Forgets compiled programs between files before there are too many."""
    yield
    if _told[_COMPILED] > MOST_PROGRAMS or _mappings() > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()
        _told.clear()


@pytest.fixture(scope="session")
def real_file():
    """A function from a path below the data root to the file, or a skip."""

    def find(name):
        root = os.getenv("JAXEDGE_DATA")
        if not root:
            pytest.skip(f"JAXEDGE_DATA is not set: no {name} here")
        path = Path(root, name)
        if not path.is_file():
            pytest.skip(f"the folder of JAXEDGE_DATA has no {name}")
        return path

    return find
