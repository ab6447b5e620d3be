import csv

import numpy as np
import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.data import heart

HEADER = ",".join(heart.COLUMNS)
LINE = "63,1,1,145,233,1,2,150,0,2.3,3,0,6"


def write(root, lines):
    folder = root / "uci_heart_4sites"
    folder.mkdir()
    (folder / "heart_disease.csv").write_text("\n".join(lines) + "\n")


def lines(each=20):
    """Patients of four sites; their age and oldpeak tell them apart."""
    found, number = [HEADER], 0
    for site in heart.SITES:
        for i in range(each):
            number += 1
            rest = "1,1,145,0,1,2,150,0" if i % 2 else "0,4,,250,,0,,1"
            tail = "3,9,6" if i % 2 else ",2,"
            num = 2 * (i % 4 == 3)
            found.append(f"{site},{number},{rest},{-number / 10},{tail},{num}")
    return found


def column(source, name):
    return source.x[:, heart.FEATURES.index(name)]


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    root = tmp_path_factory.mktemp("heart")
    write(root, lines())
    return {s: data.load("heart", s, root) for s in data.SPLITS}


def test_features_of_known_and_missing_values(splits):
    for source in splits.values():
        assert source.x.shape[1] == len(heart.FEATURES) == 38
        full = column(source, "sex=1") == 1
        assert full.any() and not full.all()
        np.testing.assert_array_equal(column(source, "sex=0"), ~full)
        np.testing.assert_array_equal(column(source, "thal=6"), full)
        # A missing code is no code.
        for name in ("thal=3", "thal=7", "cp=2", "slope=1"):
            np.testing.assert_array_equal(column(source, name), 0)
        for name in ("trestbps", "fbs", "thalach", "slope", "thal"):
            np.testing.assert_array_equal(
                column(source, f"{name} missing"), ~full
            )
        # 0 mg/dl and 9 of 3 vessels are no measurements.
        for name in ("chol", "ca"):
            np.testing.assert_array_equal(
                column(source, f"{name} missing"), full
            )
            np.testing.assert_array_equal(column(source, name)[full], 0)


def test_numbers_are_standardised_by_the_training_rows_of_all_sites(splits):
    train = splits["train"]
    np.testing.assert_allclose(column(train, "age").mean(), 0, atol=1e-6)
    np.testing.assert_allclose(column(train, "age").std(), 1, rtol=1e-6)
    # Age and -10 oldpeak are equal, so their columns are opposite.
    for source in splits.values():
        np.testing.assert_allclose(
            column(source, "age"), -column(source, "oldpeak"), atol=1e-6
        )
    # The number of a patient again, from the spread of equal steps: the line
    # through all columns of age has the training rows' moments.
    every = np.concatenate([column(s, "age") for s in splits.values()])
    step = np.diff(np.sort(every.astype(np.float64)))
    np.testing.assert_allclose(step, step[0], rtol=1e-4)
    ages = 1 + (every - every.min()) / step[0]
    trained = ages[: len(train.y)]
    np.testing.assert_allclose(1 / step[0], trained.std(), rtol=1e-5)
    # Of one value there is no spread to divide by.
    np.testing.assert_array_equal(column(train, "trestbps"), 0)


def test_stages_are_of_the_same_rows(tmp_path):
    write(tmp_path, lines())
    for split in data.SPLITS:
        two = data.load("heart", split, tmp_path)
        five = data.load("heart_stages", split, tmp_path)
        np.testing.assert_array_equal(two.x, five.x)
        np.testing.assert_array_equal(two.y, five.y > 0)
        np.testing.assert_array_equal(two.aux["site"], five.aux["site"])
        assert five.name == "heart_stages" and len(five.classes) == 5


def test_the_real_set(real_file):
    path = real_file("uci_heart_4sites/heart_disease.csv")
    stages = np.zeros((4, 5), int)
    parts = [data.load("heart_stages", s, path.parents[1]) for s in data.SPLITS]
    assert [len(p.y) for p in parts] == [659, 83, 178]
    for part in parts:
        np.add.at(stages, (part.aux["site"], part.y), 1)
    # Of heart-disease.names.
    want = [
        [164, 55, 36, 35, 13],
        [188, 37, 26, 28, 15],
        [8, 48, 32, 30, 5],
        [51, 56, 41, 42, 10],
    ]
    np.testing.assert_array_equal(stages, want)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for name, odd in (("thal", ()), ("chol", ("0",)), ("ca", ("9",))):
        missing = sum(row[name] in ("", *odd) for row in rows)
        found = sum(column(p, f"{name} missing").sum() for p in parts)
        assert found == missing


BAD = {
    "site": (f"boston,{LINE},0", "line 2.*'boston'.*cleveland"),
    "label": (f"hungary,{LINE},5", "num in .*line 2.*'5'.*0, 1, 2, 3, 4"),
    "code": (
        f"hungary,{LINE[:-1]}5,0",
        "line 2 has 5 for thal, but its codes are 3, 6, 7",
    ),
    "word": (f"hungary,old{LINE[2:]},0", "'old' for age.*leave it empty"),
    "inf": (f"hungary,inf{LINE[2:]},0", "'inf' for age"),
    "short": (f"hungary,{LINE}", "line 2 has 14 values instead of 15"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_lines_are_named(tmp_path, kind):
    line, match = BAD[kind]
    write(tmp_path, [HEADER, line])
    with pytest.raises(UsageError, match=match) as error:
        data.load("heart", "train", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [["a,b"], [HEADER]])
def test_other_columns_or_no_rows(tmp_path, content):
    write(tmp_path, content)
    with pytest.raises(UsageError, match="0 rows, but must have site, age"):
        data.load("heart", "train", tmp_path)


def test_no_file(tmp_path):
    with pytest.raises(UsageError, match="heart_disease.csv cannot be read"):
        data.load("heart", "train", tmp_path)
