"""Training in memory: what the cells get, and what they make of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxedge import core, models
from jaxedge.recipes import in_memory

IDEAL = {
    "recipe": "in_memory",
    "cell.name": "ideal_step",
    "cell.overrides": {"dw_min": 1e-5},
    "model.bits": None,
}


def kernels(recipe, state):
    params = recipe.finish(state)["params"]
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params)]


def steps(recipe, batch, n):
    states = [jax.jit(recipe.init)(jax.random.key(0))]
    update = jax.jit(recipe.update)
    for step in range(n):
        states.append(update(states[-1], batch(step))[0])
    return states


@pytest.mark.parametrize("widths", [(), (6,)])
def test_the_baseline_is_gradient_descent(recipe, batch, widths):
    """Taps give every layer's x and d: their product is JAX's gradient."""
    made = recipe({**IDEAL, "learn.rule": "float", "model.widths": widths})
    start, after = steps(made, batch, 1)

    def loss(params):
        variables = {"params": params, "batch_stats": start.stats}
        logits, _ = made.forward(
            variables, batch(0).x, train=True, mutable=["batch_stats"]
        )
        right = jax.nn.log_softmax(logits)[jnp.arange(20), batch(0).y]
        return -right.mean()

    slopes = jax.jit(jax.grad(loss))(made.finish(start)["params"])
    for w, slope, new in zip(
        kernels(made, start),
        jax.tree.leaves(slopes),
        kernels(made, after),
        strict=True,
    ):
        np.testing.assert_allclose(new, w - 0.1 * slope, atol=1e-6)


def test_fine_pulses_are_gradient_descent(recipe, batch):
    """Steps of 1e-5 without spread: what is left is the trains' own chance.

    20 vectors of at most L coincidences each have a std below sqrt(20 L / 4)
    steps; with digital factors below 1 and 5 standard errors: 2e-3.
    """
    fine = {
        "learn.rule": "sgd",
        "learn.slots": 2000,
        "learn.rate": 0.05,
        "model.widths": (),
    }
    pulsed = recipe({**IDEAL, **fine})
    exact = recipe({**IDEAL, **fine, "learn.rule": "float"})
    _, a = steps(pulsed, batch, 1)
    start, b = steps(exact, batch, 1)
    for w, x, y in zip(
        kernels(exact, start),
        kernels(pulsed, a),
        kernels(exact, b),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, atol=2e-3)
        assert np.abs(y - w).max() > 5e-3  # Something was learned.


def test_the_weights_are_the_cells(recipe, batch):
    made = recipe({"recipe": "in_memory", "learn.rule": "sgd"})
    *_, last = steps(made, batch, 3)
    device = in_memory.make_device(
        in_memory.Cell("rram_array_gong2022", {"dw_min": None}, None, 0.0)
    )
    for name, kernel in last.kernels.items():
        scaled = kernel["kernel"]
        cells = scaled.state.cells
        shown = scaled.scale * device.weights(cells)
        np.testing.assert_allclose(
            made.finish(last)["params"][name]["kernel"], shown, rtol=1e-6
        )
    found = jax.jit(made.summary)(last)
    counts = [
        np.asarray(k["kernel"].state.cells.pulses)
        for k in last.kernels.values()
    ]
    size = sum(c.size for c in counts)
    total = sum(c.sum() for c in counts)
    assert total > 0
    np.testing.assert_allclose(found["pulses_per_cell"], total / size)
    np.testing.assert_allclose(found["pulses_up"] + found["pulses_down"], total)
    assert found["pulses_of_the_busiest_cell"] == max(c.max() for c in counts)
    assert found["worn_out"] == 0


def test_cells_wear_out_where_the_config_says_so(recipe, batch):
    worn = {"cell.endurance": 3.0, "learn.rate": 5.0, "model.widths": ()}
    made = recipe({"recipe": "in_memory", "learn.rule": "sgd", **worn})
    *_, before, last = steps(made, batch, 4)
    summary = jax.jit(made.summary)
    share = summary(last)["worn_out"]
    assert 0 < summary(before)["worn_out"] <= share <= 1
    for old, new in zip(
        before.kernels.values(), last.kernels.values(), strict=True
    ):
        a, b = (k["kernel"].state.cells for k in (old, new))
        np.testing.assert_array_equal(a.w[a.stuck], b.w[a.stuck])


def test_every_layer_is_another_chip(recipe):
    made = recipe({"recipe": "in_memory", "model.widths": (4, 4)})
    state = made.init(jax.random.key(0))
    high = [
        np.asarray(array.high)
        for kernel in state.kernels.values()
        for array in (
            kernel["kernel"].state.fast,
            kernel["kernel"].state.slow,
        )
    ]
    square = [h for h in high if h.shape == (4, 4)]
    assert len(square) == 4
    assert len({h.tobytes() for h in square}) == 4


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            {"model.name": "cnn", "model.widths": (2, 2, 4)},
            ["dense layers alone", "'mlp'"],
        ),
        ({"train.hardware": "fresh_chips"}, ["config.cell", "'ideal'"]),
        ({"learn.rule": "adam"}, ["unknown learn.rule 'adam'", "tiki_taka"]),
        ({"learn.rate": 0.0}, ["learn.rate is 0.0"]),
        ({"learn.fill": 0.0}, ["learn.fill is 0.0"]),
        ({"learn.every": 0}, ["every is 0"]),
        ({"learn.slots": 0}, ["learn.slots is 0"]),
        ({"cell.name": "rram"}, ["config.cell", "pulsed device 'rram'"]),
        ({"cell.overrides": {"dw": 1.0}}, ["'dw'", "dw_min"]),
        ({"cell.overrides": {"dw_min": -1.0}}, ["dw_min is -1.0"]),
        ({"cell.endurance": 0.0}, ["median is 0.0"]),
    ],
    ids=str,
)
def test_configs_that_cannot_be(config, changes, words):
    with pytest.raises(core.UsageError) as caught:
        in_memory.parse(config({"recipe": "in_memory", **changes}))
    for word in words:
        assert word in str(caught.value)


def test_a_network_of_more_than_matrices_is_refused(config):
    given = in_memory.parse(config({"recipe": "in_memory"}))
    rule = in_memory.make_rule(given.cell, given.learn)
    image = jnp.ones((1, 28, 28, 1))
    model = models.Cnn(3, (2, 2), 4)
    made = in_memory.make(model, image, rule, lambda step: 0.1)
    with pytest.raises(core.UsageError, match="Conv_0/kernel has shape"):
        jax.eval_shape(made.init, jax.random.key(0))


def test_a_schedule_ends_at_nothing(recipe, batch):
    """Two steps an epoch, three epochs: 1, 3/4 and 1/4 of the rate."""
    made = recipe({**IDEAL, "learn.rule": "float", "model.widths": ()})
    states = steps(made, batch, 6)
    plain = recipe(
        {
            **IDEAL,
            "learn.rule": "float",
            "model.widths": (),
            "train.epochs": 10**6,
        }
    )
    update = jax.jit(plain.update)
    for step, share in enumerate((1, 1, 0.75, 0.75, 0.25, 0.25)):
        full = update(states[step], batch(step))[0]
        for a, b, c in zip(
            kernels(made, states[step]),
            kernels(made, states[step + 1]),
            kernels(plain, full),
            strict=True,
        ):
            np.testing.assert_allclose(b - a, share * (c - a), atol=1e-6)
