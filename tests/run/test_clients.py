"""Tests of what is kept of clients, counted again by hand."""

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core import checks
from jaxedge.data import sites
from jaxedge.run import clients, job

NAMES = ("north", "south")
CLASSES = ("a", "b", "c")
SITE = np.array([0, 1, 0, 1, 0, 1, 0, 0])
Y = np.array([0, 1, 2, 1, 0, 2, 1, 0])
# The south chose nothing in query 2.
QUERY = np.array([0, 0, 1, 1, 2, -1, 2, -1], np.int32)
SCORE = np.array([np.nan, np.nan, 5, 7, 2, 9, 3, 1], np.float32)


def source(x, y=Y, site=SITE, classes=CLASSES, names=NAMES):
    x = np.asarray(x, np.float32)
    made = data.make_source(x, y, classes=classes, name="s", split="train")
    return sites.tagged(made, site, names)


def splits(train):
    """Six examples to validate with, none of the south to test with."""
    rows = {"valid": np.arange(6), "test": np.array([0, 2])}
    return {"train": train} | {k: train.rows(v) for k, v in rows.items()}


def images(channels=3, side=4):
    return np.random.default_rng(0).random((8, side, side, channels)) - 0.5


def memory(query=QUERY, score=SCORE):
    return {"rows": query >= 0, "read": 3, "query": query, "score": score}


def collect(train, folder, names=NAMES):
    found = clients.collect(names, splits(train), folder)
    return {k.removeprefix("clients/"): v for k, v in found.items()}


@pytest.fixture
def folder(tmp_path):
    clients.keep(tmp_path, 0, memory(np.minimum(QUERY, 0)))
    clients.keep(tmp_path, 20, memory())
    return tmp_path


def test_a_choice_is_kept_with_its_reasons(folder):
    assert {path.name for path in folder.iterdir()} == {
        f"epoch_000{epoch}.{kind}"
        for epoch in ("00", "20")
        for kind in ("npy", "npz")
    }
    rows = np.load(folder / "epoch_00020.npy")
    np.testing.assert_array_equal(rows, QUERY >= 0)
    with np.load(folder / "epoch_00020.npz") as found:
        np.testing.assert_array_equal(found["query"], QUERY)
        np.testing.assert_array_equal(found["score"], SCORE)


def test_a_coreset_has_no_queries(tmp_path):
    clients.keep(tmp_path / "chosen", 3, {"rows": np.array([4, 1]), "read": 9})
    (path,) = (tmp_path / "chosen").iterdir()
    assert path.name == "epoch_00003.npy"
    np.testing.assert_array_equal(np.load(path), [4, 1])


def test_what_clients_chose_is_counted(folder):
    found = collect(source(images()), folder)
    assert found["names"].tolist() == list(NAMES)
    np.testing.assert_array_equal(found["examples"], [[5, 3, 2], [3, 3, 0]])
    np.testing.assert_array_equal(found["labelled"], [4, 2])
    # The last query in which each chose something, and what.
    np.testing.assert_array_equal(found["query"], [2, 1])
    np.testing.assert_array_equal(found["chosen"], [2, 1])
    np.testing.assert_array_equal(found["labels"], [[2, 1, 1], [0, 2, 0]])
    np.testing.assert_array_equal(found["picked"], [[1, 1, 0], [0, 1, 0]])
    assert not found["positions"]
    # Rows 6 and 4 of the north, by their scores, and 3 of the south.
    np.testing.assert_array_equal(found["shown_client"], [0, 0, 1])
    np.testing.assert_array_equal(found["shown_label"], Y[[6, 4, 3]])
    np.testing.assert_array_equal(found["shown_score"], [3, 2, 7])
    x = images()[[6, 4, 3]]
    low, high = x.min((1, 2, 3)), x.max((1, 2, 3))
    want = 255 * (x.T - low).T / (high - low)[:, None, None, None]
    np.testing.assert_allclose(found["shown"], want, atol=0.501)


def test_a_sheet_has_the_most_uncertain_of_the_first(tmp_path):
    count, names = 40, [f"client{c}" for c in range(8)]
    site = np.repeat(np.arange(8), count)
    score = np.random.default_rng(1).permutation(len(site)).astype(np.float32)
    score[site == 1] = np.nan  # Of whom no uncertainty was computed.
    query = np.where(site == 0, -1, 1).astype(np.int32)
    clients.keep(tmp_path, 5, memory(query, score))
    train = source(np.ones((len(site), 2, 2, 1)), site % 3, site, names=names)
    found = collect(train, tmp_path, names)
    want = np.repeat(np.arange(1, 1 + clients.SHEETS), clients.SHOWN)
    np.testing.assert_array_equal(found["shown_client"], want)
    for client in range(2, 1 + clients.SHEETS):
        most = np.sort(score[site == client])[::-1][: clients.SHOWN]
        got = found["shown_score"][found["shown_client"] == client]
        np.testing.assert_array_equal(got, most)
    assert np.isnan(found["shown_score"][: clients.SHOWN]).all()
    assert not found["shown"].any()  # Constant images have no range.


def test_all_is_labelled_where_nobody_asks():
    found = collect(source(images()), None)
    np.testing.assert_array_equal(found["labelled"], [5, 3])
    np.testing.assert_array_equal(found["labels"], [[3, 1, 1], [0, 2, 1]])
    np.testing.assert_array_equal(found["query"], [-1, -1])
    assert not found["chosen"].any() and not found["picked"].any()
    assert "shown" not in found


def test_nothing_is_labelled_before_the_first_round(tmp_path):
    found = collect(source(images()), tmp_path / "chosen")
    assert not found["labelled"].any() and not found["labels"].any()
    assert "shown" not in found and (found["query"] == -1).all()


def test_masks_are_counted_by_position(folder):
    y = np.random.default_rng(2).integers(-1, 3, (8, 4, 4))
    found = collect(source(images(1), y), folder)
    assert found["positions"] and (found["shown_label"] == -1).all()
    assert found["shown"].shape == (3, 4, 4, 1)
    north = y[[0, 2, 4, 6]]
    np.testing.assert_array_equal(
        found["labels"][0], [(north == k).sum() for k in range(3)]
    )
    np.testing.assert_array_equal(
        found["picked"][1], [(y[3] == k).sum() for k in range(3)]
    )


@pytest.mark.parametrize("shape", [(5,), (6, 3), (4, 4, 2), (2, 4, 4, 3)])
def test_other_inputs_have_no_sheet(folder, shape):
    found = collect(source(np.ones((8, *shape))), folder)
    assert "shown" not in found and found["picked"].sum() == 3


def test_many_classes_are_not_counted(folder):
    classes = tuple(f"c{k}" for k in range(clients.CLASSES + 1))
    found = collect(source(images(), classes=classes), folder)
    assert not {"classes", "labels", "picked", "positions"} & found.keys()
    assert len(found["shown"]) == 3


def test_a_record_of_other_data_is_named(tmp_path):
    clients.keep(tmp_path, 0, memory(QUERY[:7], SCORE[:7]))
    with pytest.raises(checks.UsageError, match=r"\(7,\), but.* 8 examples"):
        collect(source(images()), tmp_path)


@pytest.mark.parametrize(
    ("shape", "want"),
    [((160, 90), (160, 90)), ((330, 200), (110, 66)), ((1, 400), (1, 133))],
)
def test_images_become_small(shape, want):
    x = np.random.default_rng(0).normal(size=(*shape, 3))
    found = clients.thumbnails(np.stack([x, -3 * x + 1]))
    assert found.shape == (2, *want, 3) and found.dtype == np.uint8
    down, right = shape[0] // want[0], shape[1] // want[1]
    means = np.array(
        [
            [
                x[down * i : down * (i + 1), right * j : right * (j + 1)].mean(
                    (0, 1)
                )
                for j in range(want[1])
            ]
            for i in range(want[0])
        ]
    )
    share = (means - means.min()) / np.ptp(means)
    np.testing.assert_allclose(found[0], 255 * share, atol=0.501)
    np.testing.assert_allclose(found[1], 255 * (1 - share), atol=0.501)


def test_a_job_of_clients_collects_them(resolve, small, tmp_path):
    """Of its own names and splits; other recipes have none."""
    federated = [
        f"--config={small[0].split('=')[1].replace('edge_pruning', 'feal')}",
        "--config.data.name=digits",
        "--config.federated.clients=3",
    ]
    resolved = resolve(*federated)
    train = resolved.splits["train"]
    assert train.aux is not None and resolved.recipe.subset is not None
    query = np.where(np.arange(len(train.y)) % 9, -1, 0).astype(np.int32)
    score = np.full(len(query), np.nan, np.float32)
    job._record(tmp_path, 0, memory(query, score))
    found = job._clients(resolved, tmp_path / "chosen")
    assert found["clients/names"].tolist() == ["client0", "client1", "client2"]
    site = train.aux["site"]
    np.testing.assert_array_equal(
        found["clients/labelled"], np.bincount(site[::9], minlength=3)
    )
    everything = resolved._replace(recipe=resolved.recipe._replace(subset=None))
    found = job._clients(everything, tmp_path / "chosen")
    np.testing.assert_array_equal(
        found["clients/labelled"], np.bincount(site, minlength=3)
    )
    assert job._clients(resolve(*small), tmp_path) == {}
