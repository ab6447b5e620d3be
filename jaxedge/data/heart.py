"""UCI Heart Disease: 920 patients of four hospitals, 13 attributes.

(Janosi, Steinbrunn, Pfisterer and Detrano 1988.) It is read from
`uci_heart_4sites/heart_disease.csv`: one line of names, then site, the 13
attributes and num (0 is healthy, 1 to 4 diseased), where nothing between two
commas is a missing value. Hospitals differ in what they did not measure: 99 %
of Hungary's ca, all of Switzerland's chol.
"""

import csv
from pathlib import Path

import numpy as np

from jaxedge.core import checks
from jaxedge.data import sites, tables
from jaxedge.data.source import Source, make_source

CLASSES = ("healthy", "diseased")
STAGES = ("0", "1", "2", "3", "4")
SITES = ("cleveland", "hungary", "switzerland", "va_long_beach")
NUMERIC = ("age", "trestbps", "chol", "thalach", "oldpeak", "ca")
# The codes of heart-disease.names.
CODES = {
    "sex": (0, 1),
    "cp": (1, 2, 3, 4),
    "fbs": (0, 1),
    "restecg": (0, 1, 2),
    "exang": (0, 1),
    "slope": (1, 2, 3),
    "thal": (3, 6, 7),
}
ATTRIBUTES = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
)
COLUMNS = ("site", *ATTRIBUTES, "num")
FEATURES = (
    *NUMERIC,
    *(f"{name}={code}" for name, codes in CODES.items() for code in codes),
    *(f"{name} missing" for name in ATTRIBUTES),
)
# Values that cannot be measurements, and so are missing ones.
_IMPOSSIBLE = {"trestbps": 0, "chol": 0, "ca": 9}


def read(split: str, root: Path, *, stages: bool = False) -> Source:
    """Patients, x [N, 38] float32, columns as in `FEATURES`; `aux["site"]`.

    A number has the mean and standard deviation of its known values in the
    training rows of all sites taken off; a code is one-hot; a missing value is
    0 there, and 1 in its own column. A blood pressure or cholesterol of 0 (one
    and 172 patients) and 9 vessels (one; the documentation has 0 to 3) count as
    missing.

    Args:
        split: "train" (659 patients), "valid" (83) or "test" (178), see
            `sites.split_rows`: ours, by site and num.
        root: the folder that holds `uci_heart_4sites/`.
        stages: False labels num > 0, True num itself; the rows are the same.

    Returns:
        The source, named "heart", or "heart_stages" of five classes.

    Raises:
        UsageError: for a missing file, or naming the line that is damaged.
    """
    path = root / "uci_heart_4sites" / "heart_disease.csv"
    site_N, values_NxA, num_N = _table(path)
    strata = [f"{SITES[s]}/{n}" for s, n in zip(site_N, num_N, strict=True)]
    rows = sites.split_rows(split, "heart", strata)
    trained = sites.split_rows("train", "heart", strata)
    x = _features(values_NxA, trained)[rows]
    source = make_source(
        x,
        (num_N if stages else num_N > 0)[rows].astype(np.int32),
        classes=STAGES if stages else CLASSES,
        name="heart_stages" if stages else "heart",
        split=split,
    )
    return sites.tagged(source, site_N[rows], SITES)


def _features(values_NxA: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Columns in the order of FEATURES, [N, F]."""
    column = {name: values_NxA[:, i] for i, name in enumerate(ATTRIBUTES)}
    columns = []
    for name in NUMERIC:
        known = column[name][trained]
        known = known[np.isfinite(known)]
        # A column without spread, or known nowhere, says nothing.
        mean, std = (known.mean(), known.std()) if known.size else (0, 0)
        scaled = (column[name] - mean) / (std if std > 0 else 1)
        columns.append(np.nan_to_num(scaled, nan=0.0))
    for name, codes in CODES.items():
        columns += [column[name] == code for code in codes]
    columns += [np.isnan(column[name]) for name in ATTRIBUTES]
    return np.stack(columns, 1).astype(np.float32)


def _table(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sites [N], attributes [N, 13] with NaN where missing, and num [N]."""
    header, *lines = csv.reader(tables.lines(path))
    if tuple(header) != COLUMNS or not lines:
        raise checks.UsageError(
            f"{path} has the columns {', '.join(header)} and {len(lines)} rows,"
            f" but must have {', '.join(COLUMNS)}; fetch it again."
        )
    site, values, num = [], [], []
    for number, line in enumerate(lines, 2):
        where = f"{path}, line {number}"
        if len(line) != len(COLUMNS):
            raise checks.UsageError(
                f"{where} has {len(line)} values instead of {len(COLUMNS)};"
                " fetch it again."
            )
        checks.choice(f"site in {where},", line[0], SITES)
        site.append(SITES.index(line[0]))
        values.append(
            [
                _value(where, name, text)
                for name, text in zip(ATTRIBUTES, line[1:-1], strict=True)
            ]
        )
        checks.choice(f"num in {where},", line[-1], STAGES)
        num.append(int(line[-1]))
    return np.array(site), np.array(values), np.array(num)


def _value(where: str, name: str, text: str) -> float:
    if not text:
        return np.nan
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise checks.UsageError(
            f"{where} has {text!r} for {name}, which is no number; leave it"
            " empty where it is missing."
        )
    if value == _IMPOSSIBLE.get(name):
        return np.nan
    if name in CODES and value not in CODES[name]:
        known = ", ".join(str(code) for code in CODES[name])
        raise checks.UsageError(
            f"{where} has {text} for {name}, but its codes are {known}."
        )
    return value
