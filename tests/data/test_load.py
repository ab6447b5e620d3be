import subprocess
import sys

import pytest

from jaxedge import data
from jaxedge.core.checks import UsageError


def fails(match, *args):
    with pytest.raises(UsageError, match=match) as error:
        data.load(*args)
    assert "\n" not in str(error.value)


def test_unknown_data_set():
    fails(
        "'fashon_mnist'.*mean 'fashion_mnist'.*digits", "fashon_mnist", "test"
    )
    names = ", ".join(sorted([*data.BUNDLED, *data.ON_DISK]))
    assert "cifar10, cifar100, cifar100_coarse, digit" in names
    fails(f"data set 'x'. Known: {names}", "x", "test")


@pytest.mark.parametrize("name", ["digits", *data.ON_DISK])
def test_unknown_split(name):
    fails("split 'validation'.*mean 'valid'", name, "validation")
    fails("split None", name, None)


@pytest.mark.parametrize("value", [None, ""])
def test_no_root(monkeypatch, value):
    if value is None:
        monkeypatch.delenv(data.ROOT_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(data.ROOT_VARIABLE, value)
    fails("--data_root=DIR.*JAXEDGE_DATA", "fashion_mnist", "test")


def test_missing_folder(monkeypatch, tmp_path):
    absent = tmp_path / "absent"
    fails("absent' .from --data_root", "fashion_mnist", "test", absent)
    monkeypatch.setenv(data.ROOT_VARIABLE, str(absent))
    fails("absent' .from JAXEDGE_DATA", "fashion_mnist", "test")


def test_a_file_is_no_root(tmp_path):
    path = tmp_path / "file"
    path.touch()
    fails("is not a folder", "fashion_mnist", "test", path)


def test_the_argument_wins_over_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv(data.ROOT_VARIABLE, str(tmp_path / "absent"))
    fails(
        f"{tmp_path.name}/fashion_mnist does not",
        "fashion_mnist",
        "test",
        tmp_path,
    )


def test_the_variable_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv(data.ROOT_VARIABLE, str(tmp_path))
    fails(f"{tmp_path.name}/fashion_mnist does not", "fashion_mnist", "test")


def test_bundled_data_need_no_root(monkeypatch):
    monkeypatch.delenv(data.ROOT_VARIABLE, raising=False)
    assert len(data.load("digits", "valid").x) == 180


def test_import_is_light():
    code = (
        "import sys, jaxedge.data;"
        " print({'sklearn', 'tensorflow_datasets', 'tokenizers'}"
        " & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "set()"
