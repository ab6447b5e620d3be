"""Tests of `jaxedge study`: pages without answers, and their scores."""

import base64
import json
from pathlib import Path
import re
import struct
import zlib

import jax
import numpy as np
import pytest
from scipy import special

from jaxedge import data
from jaxedge.core.checks import UsageError
from jaxedge.models import arrays
from jaxedge.recipes import sequential_gan
from jaxedge.run import forced_choice, forced_choice_page, main, workdir

pytestmark = pytest.mark.usefixtures("compile_quickly")

CONFIG = Path(__file__).parents[2] / "configs" / "sequential_gan.py"
FLAGS = (
    f"--config={CONFIG}:quick,reversed",
    "--config.data.n=24",
    "--config.gan.conditional=true",
    "--workdir=unused",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What a finished run leaves of its network, here of drawn weights."""
    folder = tmp_path_factory.mktemp("run")
    config = main.parse(FLAGS).config
    given = sequential_gan.parse(config)
    train = data.load("joint_pairs", "train", **given.data.options)
    recipe = sequential_gan.build(given, train.x[:1], 2, 3)
    like = jax.eval_shape(lambda: recipe.finish(recipe.init(jax.random.key(0))))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda a: rng.normal(0, 0.3, a.shape).astype(np.float32), like
    )
    workdir.write_json(folder / "config.json", workdir.plain(config))
    arrays.save(folder / arrays.FILE, variables)
    return folder


@pytest.fixture(scope="module")
def study(finished):
    out = finished / "study"
    forced_choice.export(finished, out, 10)
    return out


def pixels(uri):
    """A PNG picture of ours, uint8 [H, W], and how long its file is."""
    raw = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    at, body, size = 8, b"", (0, 0)
    while at < len(raw):
        length, kind = struct.unpack(">I4s", raw[at : at + 8])
        part = raw[at + 8 : at + 8 + length]
        (check,) = struct.unpack(">I", raw[at + 8 + length : at + 12 + length])
        assert check == zlib.crc32(kind + part)
        if kind == b"IHDR":
            size = struct.unpack(">II", part[:8])
            assert tuple(part[8:]) == (8, 0, 0, 0, 0)
        body += part if kind == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(body), np.uint8)
    lines = lines.reshape(size[1], size[0] + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:], len(raw)


def told(page):
    """What the page holds, as its own script reads it."""
    (found,) = re.findall(r'id="data">(.*?)</script>', page)
    return json.loads(found)


def test_the_page_has_the_pairs_and_the_key_the_answers(study, finished):
    page = (study / "study.html").read_text(encoding="utf-8")
    key = json.loads((study / "answers.json").read_text(encoding="utf-8"))
    shown = told(page)
    assert shown["name"] == key["study"] and len(shown["pictures"]) == 10
    assert len(set(key["rows"])) == 10  # No real pair twice.
    test = data.load("joint_pairs", "test", n=24)
    sizes = set()
    for question, side, row in zip(
        shown["pictures"], key["real"], key["rows"], strict=True
    ):
        seen = dict(zip(("left", "right"), map(pixels, question), strict=True))
        grey = np.rint((test.x[row].astype(float) + 1) * 127.5)
        # The other modality is in front: the run is of the reversed order.
        wanted = np.concatenate(
            [grey[..., 1], np.full((16, 1), 255), grey[..., 0]], 1
        )
        other = {"left": "right", "right": "left"}[side]
        assert np.abs(seen[side][0] - wanted).max() <= 1
        assert np.abs(seen[other][0] - wanted).max() > 50
        sizes |= {length for _, length in seen.values()}
    assert len(sizes) == 1  # Files do not tell.
    assert sorted(key["real"]) == 5 * ["left"] + 5 * ["right"]
    assert "plateau on the left and blob on the right" in page


def test_the_page_needs_nothing_and_tells_nothing(study):
    page = (study / "study.html").read_text(encoding="utf-8")
    assert "http" not in page and "src=" not in page.split("<script")[0]
    key = json.loads((study / "answers.json").read_text(encoding="utf-8"))
    rest = page.replace(json.dumps(told(page)), "")
    for secret in (str(key["rows"]), json.dumps(key["real"]), key["run"]):
        assert secret not in rest
    assert set(told(page)) == {"name", "pictures"}


def test_a_seed_is_a_study(study, finished, tmp_path):
    pages = []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        path = forced_choice.export(finished, out, 10, seed)
        pages.append(path.read_bytes())
    assert pages[0] == (study / "study.html").read_bytes() != pages[1]
    with pytest.raises(UsageError, match=r"answers of another study.*--out"):
        forced_choice.export(finished, study, 10, 1)


def test_order_and_sides_come_from_the_weights_too(finished, study, tmp_path):
    """Who has the page and the seed, but not the run, cannot find them."""
    with np.load(finished / arrays.FILE) as file:
        known = {name: file[name] for name in file.files}
    name = next(iter(known))
    known[name] = np.nextafter(known[name], np.float32(9))
    np.savez(tmp_path / arrays.FILE, **known)
    config = (finished / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(config)
    forced_choice.export(tmp_path, tmp_path / "out", 10)
    keys = [
        json.loads((folder / "answers.json").read_bytes())
        for folder in (study, tmp_path / "out")
    ]
    assert keys[0]["rows"] != keys[1]["rows"]
    assert keys[0]["real"] != keys[1]["real"]


@pytest.mark.parametrize("hits", [0, 5, 9, 10])
def test_hits_have_an_exact_interval_and_test(study, tmp_path, hits):
    key = json.loads((study / "answers.json").read_text(encoding="utf-8"))
    other = {"left": "right", "right": "left"}
    lines = ["study,question,answer"]
    for i, side in enumerate(key["real"]):
        said = side if i < hits else other[side]
        lines.append(f"{key['study']},{i + 1},{said}")
    path = tmp_path / "answers.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = forced_choice.score(path, study / "answers.json")
    assert found[:3] == (hits, 10, 10)
    # By the binomial law itself: the ends leave 2.5 % beyond.
    if hits:
        tail = special.bdtrc(hits - 1, 10, found.low)
        assert tail == pytest.approx(0.025, rel=1e-6)
    else:
        assert found.low == 0
    if hits < 10:
        tail = special.bdtr(hits, 10, found.high)
        assert tail == pytest.approx(0.025, rel=1e-6)
    else:
        assert found.high == 1
    # 2^-10 times all counts that are as unlikely.
    counts = special.binom(10, np.arange(11))
    p = counts[counts <= counts[hits] + 0.5].sum() / 2**10
    assert found.p == pytest.approx(p)
    share = f"{hits} of 10 right, {10 * hits:.1f} %"
    assert forced_choice.told(found).startswith(share)


def test_some_questions_may_be_left_out(study, tmp_path, capsys):
    key = json.loads((study / "answers.json").read_text(encoding="utf-8"))
    path = tmp_path / "answers.csv"
    text = f"study,question,answer\n{key['study']},3,{key['real'][2]}\n"
    path.write_text(text, encoding="utf-8")
    flags = [f"--score={path},{path}", f"--key={study / 'answers.json'}"]
    assert main.console(["study", *flags]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and first.startswith(f"{path}: 1 of 1 right")
    assert first.endswith("9 of 10 not answered")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "has no answers"),
        (["{},11,left"], "line 2 .* question '11', but there are 1 to 10"),
        (["{},x,left"], "question 'x'"),
        (["{},1,up"], "unknown answer in line 2"),
        (["{},1,left", "{},1,left"], "line 3 .* question 1 again"),
        (["other,1,left"], "of the study 'other'"),
        (["{},1"], "must have the columns study,question,answer"),
    ],
)
def test_bad_answers_are_named(study, tmp_path, lines, says):
    name = json.loads((study / "answers.json").read_bytes())["study"]
    path = tmp_path / "answers.csv"
    text = "\n".join(["study,question,answer", *lines]).format(*[name] * 2)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=says):
        forced_choice.score(path, study / "answers.json")


@pytest.mark.parametrize("kind", ["empty", "missing", "other"])
def test_files_that_are_none_are_named(study, tmp_path, kind):
    path = tmp_path / "answers.csv"
    if kind != "missing":
        path.write_text("a,b" * (kind == "other"), encoding="utf-8")
    with pytest.raises(UsageError, match="--score .*answers.csv"):
        forced_choice.score(path, study / "answers.json")
    with pytest.raises(UsageError, match="--key .* cannot be read"):
        forced_choice.score(path, path)


def test_a_run_must_be_one(finished, tmp_path, capsys):
    out = f"--out={tmp_path / 'out'}"

    def fails(folder, *more):
        assert main.console(["study", f"--workdir={folder}", out, *more]) == 2
        return capsys.readouterr().err

    assert "no run in" in fails(tmp_path / "none")
    assert "has 24 pairs" in fails(finished, "--questions=25")
    assert "--questions is 0" in fails(finished, "--questions=0")
    config = json.loads((finished / "config.json").read_bytes())
    other = tmp_path / "other"
    other.mkdir()
    workdir.write_json(other / "config.json", config)
    # It is not finished.
    assert "network.npz" in fails(other, "--questions=5")
    workdir.write_json(other / "config.json", {**config, "recipe": "ridl"})
    assert "only 'sequential_gan' makes images" in fails(other)
    (other / "config.json").write_text("{", encoding="utf-8")
    assert "cannot be read" in fails(other)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "no --workdir"),
        (["--workdir=a"], "no --out"),
        (["--score=a.csv"], "no --key"),
        (["--key=a.json"], "no --score"),
        (["--score=a", "--key=b", "--seed=1"], "--seed makes a page"),
        (["--questions=x", "--workdir=a", "--out=b"], "questions"),
        (["--quest=4"], "quest"),
        (["a"], "'a' is no flag"),
    ],
)
def test_bad_flags(flags, says, capsys):
    assert main.console(["study", *flags]) == 2
    assert says in capsys.readouterr().err


def test_images_must_fit_each_other():
    small, large = np.zeros((4, 4, 2)), np.zeros((5, 4, 2))
    question = forced_choice_page.Question(small, large)
    for questions in ([], [question]):
        with pytest.raises(UsageError, match="images of a study"):
            forced_choice_page.document("a", questions, ("b", "c"))
