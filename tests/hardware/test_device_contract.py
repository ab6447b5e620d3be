"""One battery for every device preset, and for wrappers on some of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core
from jaxedge.hardware import devices
from jaxedge.hardware.write_verify import Verified

MICRO = 1e-6
NOISY = {"stuck_on": 0.1, "stuck_off": 0.1}
SPREAD = {"d2d": 0.1, "c2c": 0.05}
TELEGRAPH = {"rtn_amplitude": 0.2, "rtn_share": 0.5, "rtn_tau_low": 0.3}
CUBIC = {"iv_a2": 0.1, "iv_a3": 0.5, "iv_power": 0.7}
# Their fields that have a slope; the share of cells with a trap is drawn.
EFFECTS = {"iv_v0", *SPREAD, *TELEGRAPH, *CUBIC} - {"rtn_share"}
CASES = {
    "ideal": {},
    "rram_40nm_random, faulty": NOISY,
    "rram_40nm_set_reset, lognormal": NOISY | {"family": "lognormal"},
    "rram_40nm_measured_50x50": {},
    "rram_40nm_measured_50x8": {},
    "pcm_nandakumar2019, faulty": NOISY,
    "pcm_joshi2020": {},
    "rram_wan2022": {},
    "rram_cmo_hfox_falcone": {},
    "sonos": {},
    "rram_40nm_set_reset, telegraph, cubic": TELEGRAPH | CUBIC | {"c2c": 0.02},
    "pcm_nandakumar2019, spread, sinh": SPREAD
    | {"iv_v0": 0.3, "spread_family": "lognormal"},
    "ideal, verified": {"program_noise": 0.05, "read_noise": 0.02}
    | {"tolerance_S": 1.5 * MICRO},
    "ideal, with everything": SPREAD
    | TELEGRAPH
    | CUBIC
    | NOISY
    | {"unformed": 0.1, "read_noise": 0.02},
}
TARGET = np.float32(MICRO) * np.linspace(0, 40, 24, dtype=np.float32)

VOLTS = np.linspace(-0.2, 0.2, 24, dtype=np.float32)
SECONDS = 100.0
PLAIN, CHIPS = 0, 8
AGAIN, REREAD, SCALED, SILENT = range(CHIPS, CHIPS + 4)

MULTILEVEL = ("pcm", "rram_wan", "rram_cmo", "sonos")

every = pytest.mark.parametrize("name", CASES)
# One of each kind of cell, and among them each effect, for what needs more
# programs than the one of all rows.
KINDS = (
    "rram_40nm_random, faulty",
    "rram_40nm_set_reset, telegraph, cubic",
    "pcm_nandakumar2019, spread, sinh",
    "ideal, verified",
    "ideal, with everything",
)
some = pytest.mark.parametrize("name", KINDS)


def get(name):
    fields = dict(CASES[name])
    tolerance = fields.pop("tolerance_S", None)
    device = devices.get(name.split(",")[0], **fields)
    if tolerance is None:
        return device
    return Verified(device, tolerance, max_events=4)


def target_of(name):
    """Targets in and out of the range; written levels are checked to fit."""
    if not name.startswith(MULTILEVEL):
        return TARGET
    share = np.linspace(0, 0.89, TARGET.size)
    return (share * get(name).g_max).astype(np.float32)


def read(device, chip_key, read_key, target):
    """Cells some time later: mean conductance, one read, and current."""
    cells = device.program(chip_key, target)
    g = device.conductance(cells, SECONDS)
    terms = device.terms(VOLTS, cells, SECONDS)
    current = sum(drive * siemens for drive, siemens in terms)
    return g, device.read(read_key, cells, SECONDS), current


def total(device, chip_key, read_key, target):
    g, seen, current = read(device, chip_key, read_key, target)
    return jnp.sum(seen + current) / MICRO, (g, seen, current)


# One program a device, whose rows serve most tests below.
evaluate = jax.jit(jax.vmap(jax.grad(total, (0, 3), has_aux=True)))


@functools.cache
def arguments(name):
    """Devices, chip keys, read keys and targets of all rows."""
    device, key = get(name), jax.random.key(0)
    chips, reads = core.chip_keys(key, CHIPS), core.chip_keys(key, 20)[-2:]
    rows = [device] * SCALED
    rows.append(jax.tree.map(lambda number: 0.9 * number, device))
    silent = {"read_noise": 0.0}
    if name.startswith(MULTILEVEL):
        silent["flicker"] = 0.0
    if "rtn_amplitude" in CASES[name]:
        silent["rtn_amplitude"] = 0.0
    rows.append(device.replace(**silent))
    row = np.arange(len(rows))
    return (
        jax.tree.map(lambda *numbers: jnp.array(numbers), *rows),
        chips[np.where(row < CHIPS, row, 0)],
        reads[np.where(row == REREAD, 1, 0)],
        jnp.broadcast_to(target_of(name), (len(rows), *TARGET.shape)),
    )


@functools.cache
def evaluated(name):
    """Slopes of device and target; conductances and reads, by row."""
    return jax.tree.map(np.asarray, evaluate(*arguments(name)))


def test_every_preset_is_tested():
    assert {name.split(",")[0] for name in CASES} == set(devices.PRESETS)


@some
def test_jit_and_vmap_are_an_eager_loop(name):
    _, compiled = evaluated(name)
    for row in (PLAIN, CHIPS - 1, REREAD, SCALED):
        args = jax.tree.map(lambda a, row=row: a[row], arguments(name))
        for a, b in zip(read(*args), compiled, strict=True):
            assert a.shape == TARGET.shape and a.dtype == jnp.float32
            np.testing.assert_allclose(a, b[row], rtol=2e-5, atol=1e-11)


@every
def test_conductances_are_those_of_a_cell(name):
    _, compiled = evaluated(name)
    for a in compiled:
        assert a.shape[1:] == TARGET.shape and a.dtype == np.float32
    for row in (PLAIN, CHIPS - 1, REREAD, SCALED):
        for g in compiled[:2]:
            assert (g[row] >= 0).all() and (g[row] < 100 * MICRO).all()
            assert g[row].max() > MICRO


@every
def test_keys_and_numbers_alone_decide(name):
    _, (g, seen, current) = evaluated(name)
    random = name != "ideal"
    np.testing.assert_array_equal(g[PLAIN], g[AGAIN])
    np.testing.assert_array_equal(seen[PLAIN], seen[AGAIN])
    np.testing.assert_array_equal(g[PLAIN], g[REREAD])
    assert (seen[PLAIN] != seen[REREAD]).any() == random
    assert len(np.unique(g[:CHIPS], axis=0)) == (CHIPS if random else 1)
    assert (g[PLAIN] != g[SCALED]).any()
    np.testing.assert_array_equal(g[SILENT], seen[SILENT])
    # Only the noise of traps has a mean, and that of a check decides.
    if not {"rtn_amplitude", "tolerance_S"} & {*CASES[name]}:
        np.testing.assert_array_equal(g[PLAIN], g[SILENT])
    straight = np.allclose(current, VOLTS * g, rtol=1e-5, atol=1e-12)
    assert get(name).linear == straight


@some
def test_more_chips_change_no_chip(name, key):
    program = jax.jit(jax.vmap(get(name).program, (0, None)))
    four, eight = (
        program(core.chip_keys(key, n), target_of(name)) for n in (4, 8)
    )
    for a, b in zip(*map(jax.tree.leaves, (four, eight)), strict=True):
        assert b.shape == (8, *TARGET.shape)
        np.testing.assert_array_equal(a, b[:4])


@every
def test_new_numbers_compile_nothing(name, compilations):
    evaluated(name)
    scaled, *others = arguments(name)
    scaled = jax.tree.map(lambda number: 0.9 * number, scaled)
    with compilations() as names:
        _, (g, _, _) = evaluate(scaled, *others)
    assert not names
    expected = evaluated(name)[1][0][SCALED]
    np.testing.assert_allclose(g[PLAIN], expected, rtol=2e-5)


@every
def test_gradients_are_finite(name):
    (device, target), _ = evaluated(name)
    for path, slope in jax.tree_util.tree_leaves_with_path(device):
        assert np.isfinite(slope).all(), path
        if path[-1].name in EFFECTS & {*CASES[name]}:
            assert (slope[:CHIPS] != 0).any(), path
    while hasattr(device, "device"):
        device = device.device
    fields = {f.name for f in dataclasses.fields(device)}
    assert np.isfinite(target).all()
    # A noise of zero that adds in quadrature has no slope.
    noise = "flicker" if "flicker" in fields else "read_noise"
    noise = "read_noise" if name == "rram_wan2022" else noise
    assert (getattr(device, noise)[:CHIPS] != 0).all()
    # Of a target only the shape counts where forming decides.
    assert (target[PLAIN] != 0).any() == ("formed" not in fields)


@every
@pytest.mark.parametrize("shape", [(), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_cells_have_the_targets_shape_in_float32(name, key, shape, dtype):
    device = get(name)

    def everything(target):
        cells = device.program(key, target)
        cells = device.reset(cells, jnp.ones(shape))
        return (
            cells,
            device.conductance(cells),
            device.read_std(cells),
            device.read(key, cells),
        )

    shapes = jax.eval_shape(everything, jax.ShapeDtypeStruct(shape, dtype))
    for leaf in jax.tree.leaves(shapes):
        assert leaf.shape == shape
        counted = "verified" in name and leaf.dtype in (jnp.int32, jnp.bool_)
        assert leaf.dtype == jnp.float32 or counted


@every
def test_another_event_writes_the_same_chip(name, key):
    """What it changes is the error of writing, and nothing else."""
    device = get(name)

    def written(*event):
        cells = device.program(key, target_of(name), *event)
        return np.asarray(device.conductance(cells))

    np.testing.assert_array_equal(written(), written(0))
    np.testing.assert_array_equal(written(2), written(jnp.int32(2)))
    drawn = name.startswith(MULTILEVEL) or {"program_noise", "c2c"} & {
        *CASES[name]
    }
    assert (written(1) != written(2)).any() == bool(drawn)
    assert (written() != written(2)).any() == bool(drawn)


@every
def test_reset_is_linear_between_two_states(name, key):
    device = get(name)
    cells = device.program(key, target_of(name))

    def reset(keep):
        switched = device.reset(cells, jnp.full(TARGET.shape, keep))
        return np.asarray(device.conductance(switched))

    np.testing.assert_array_equal(reset(1.0), device.conductance(cells))
    assert (reset(0.0) != reset(1.0)).any()
    middle = (reset(0.0) + reset(1.0)) / 2
    np.testing.assert_allclose(reset(0.5), middle, rtol=1e-5)
