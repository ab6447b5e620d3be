"""`jaxedge quantize` and `jaxedge eval`, from the command line to a folder."""

import json
from pathlib import Path
import shutil
import string

import jax
import numpy as np
import pytest

from jaxedge.data import docstrings
from jaxedge.models import packed, quantized
from jaxedge.recipes import llm_fp4
from jaxedge.run import loop, main, quantize

library = pytest.importorskip("tokenizers")
tensors = pytest.importorskip("safetensors.numpy")

pytestmark = pytest.mark.usefixtures("compile_quickly")

FOLDERS = Path(__file__).parents[1] / "models" / "hugging_face"
WORDS = ["[PAD]", "[UNK]", *string.ascii_lowercase]
PATHS = [f"params/layer_{i}/attention/q/kernel" for i in (0, 1)]
FLAGS = (
    "--config.quantize.method=minmax",
    "--config.quantize.layers=attention/q",
    "--config.calibration.text=text.txt",
    "--config.calibration.sequences=4",
    "--config.calibration.tokens=8",
)
QUICK = ["quantize", "--model=bert", "--out=out", *FLAGS]


def network(folder, kind):
    shutil.copytree(FOLDERS / kind, folder)
    places = {word: i for i, word in enumerate(WORDS)}
    inner = library.Tokenizer(
        library.models.WordLevel(places, unk_token="[UNK]")
    )
    inner.pre_tokenizer = library.pre_tokenizers.Split(
        library.Regex("."), "isolated"
    )
    inner.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two networks and a text; do not write here."""
    folder = tmp_path_factory.mktemp("made")
    for kind in ("bert", "llama"):
        network(folder / kind, kind)
    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice([*"abcdefgh"], 12)) for _ in range(20)]
    (folder / "text.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of it as the current folder, without a data root."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("JAXEDGE_DATA", raising=False)
    lines = tuple(
        f"{a} {b} sentence" for a in "abcdef" for b in string.ascii_lowercase
    )
    monkeypatch.setattr(docstrings, "sentences", lambda: lines)
    return tmp_path / "here"


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


NEEDED = ["quantize", "--model=bert"]
# Arguments, and what the one line has to hold.
MISTAKES = {
    "flag": ([*QUICK, "--oot=x"], "oot", "Did you mean"),
    "stray": ([*QUICK, "stray"], "'stray' is no flag"),
    "no model": (["quantize", "--out=out"], "no --model was given"),
    "no out": (NEEDED, "no --out was given"),
    "empty out": ([*NEEDED, "--out="], "no --out was given"),
    "no model to score": (["eval"], "no --model was given"),
    "field": (
        [*QUICK, "--config.quantize.methid=fpq"],
        "'quantize.methid'",
        "Did you mean 'quantize.method'",
    ),
    "section": (
        [*QUICK, "--config.quantize=3"],
        "config.quantize is a section",
        "weight_bits",
    ),
    "type": ([*QUICK, "--config.quantize.weight_bits=x"], "weight_bits"),
    "bits": ([*QUICK, "--config.quantize.weight_bits=9"], "weight_bits is 9"),
    "none": (
        [*QUICK, "--config.quantize.method=None"],
        "config.quantize.method is None",
    ),
    "seed": ([*QUICK, "--config.seed=-1"], "config.seed is -1"),
    "grain": ([*QUICK, "--config.quantize.grain=mxfp"], "Did you mean 'mxfp4'"),
    "pattern": ([*QUICK, "--config.quantize.layers=z"], "'z' names no matrix"),
    "expression": ([*QUICK, "--config.quantize.layers=("], "no regular expr"),
    "table": (
        [*QUICK, "--config.quantize.embedding_bits=4"],
        "it is for decoders",
    ),
    "keys": ([*QUICK, "--config.quantize.kv=mxfp4"], "keeps no keys"),
    "keys of a kind": ([*QUICK, "--config.quantize.kv=nvfp4"], "kv is 'nvfp4'"),
    "text": ([*QUICK, "--config.calibration.text=no"], "text (and no file)"),
    "few lines": (
        [*QUICK, "--config.calibration.sequences=21"],
        "has 20 lines",
    ),
    "model": (["quantize", "--model=no", "--out=out"], "'no' is no folder"),
    "model is no network": (["quantize", "--model=.", "--out=out"], "config."),
    "out is taken": (
        ["quantize", "--model=bert", "--out=llama"],
        "llama exists and holds no network of jaxedge",
    ),
    "out in a file": (
        [*QUICK, "--out=text.txt/out"],
        "text.txt/out.partial cannot be written",
    ),
    "no config": ([*QUICK, "--config=no.py"], "no.py"),
    "another config": (
        [*NEEDED, "--out=out", "--config=mine.py"],
        "dict",
        "ConfigDict",
    ),
    "eval has no config": (["eval", "--model=bert", "--config.seed=1"], "conf"),
    "task": (["eval", "--model=no", "--tasks=piqua"], "Did you mean 'piqa'"),
    "task of another": (
        ["eval", "--model=bert", "--tasks=own"],
        "unknown task 'own'",
        "Known: docstrings",
    ),
    "no data": (
        ["eval", "--model=llama", "--tasks=own,piqa"],
        "needs a data root",
    ),
    "no reference": (["eval", "--model=bert"], "give --reference"),
    "reference": (
        ["eval", "--model=bert", "--reference=no"],
        "'no' is no folder",
    ),
    "other reference": (
        ["eval", "--model=bert", "--reference=llama"],
        "is an encoder of 37 tokens, but its reference a decoder",
    ),
    "few": (["eval", "--model=bert", "--reference=bert", "--most=3"], "11"),
    "most": (["eval", "--model=bert", "--most=1"], "most"),
    "length": (["eval", "--model=bert", "--length=x"], "length"),
    "scores": (
        ["eval", "--model=bert", "--out=no/scores.json"],
        "no/scores.json cannot be written",
    ),
    "scores in a folder": (["eval", "--model=bert", "--out=llama"], "llama ca"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_creates_nothing(here, capsys, mistake):
    (here / "mine.py").write_text("def get_config(): return {'seed': 0}")
    before = names(here)
    arguments, *parts = MISTAKES[mistake]
    assert main.console(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("jaxedge: error: ") and err.count("\n") == 1
    assert "Traceback" not in err
    for part in parts:
        assert part in err
    found = [name for name in names(here) if "__pycache__" not in name]
    assert found == before


def test_fields_are_set_and_emptied():
    values = main.parse_model(
        "quantize",
        [
            *QUICK[1:],
            "--config.quantize.embedding_bits=4",
            "--config.quantize.embedding_bits=None",
            "--config.quantize.kv=mxfp4",
            "--config.calibration.vectors", "9",
        ],
    )  # fmt: skip
    given = llm_fp4.parse(values.config)
    assert given.quantize.embedding_bits is None
    assert given.quantize.kv == "mxfp4" and given.calibration.vectors == 9
    assert values.model == "bert" and values.data_root is None
    values = main.parse_model("eval", ["--model=a", "--most=5"])
    assert (values.length, values.most, values.tasks) == (128, 5, None)


def test_a_config_may_be_a_file(here):
    (here / "mine.py").write_text(
        "from jaxedge.recipes import llm_fp4\n"
        "def get_config():\n"
        "  c = llm_fp4.defaults()\n  c.quantize.weight_bits = 3\n  return c\n"
    )
    values = main.parse_model(
        "quantize", ["--config=mine.py", *QUICK[1:], "--config.seed=7"]
    )
    assert values.config.quantize.weight_bits == 3 and values.config.seed == 7
    assert values.config.quantize.method == "minmax"


class Asked:
    """A stop that was asked for."""

    asked = True


def config():
    return main.parse_model("quantize", QUICK[1:]).config


def content(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_goes_on_where_it_was_stopped(here, monkeypatch):
    whole = quantize.quantize("bert", "whole", config()).parent
    with pytest.raises(loop.Preempted, match=f"stopped after {PATHS[0]}"):
        quantize.quantize("bert", "out", config(), stop=Asked())
    partial = here / "out.partial"
    assert names(partial) == [
        "params.layer_0.attention.q.kernel.safetensors", "plan.json"
    ]  # fmt: skip
    assert not (here / "out").exists()
    done = []
    once = quantized.quantise

    def noted(path, *args, **how):
        done.append(path)
        return once(path, *args, **how)

    monkeypatch.setattr(quantized, "quantise", noted)
    # From another place, as another name of the same network.
    monkeypatch.chdir(here / "llama")
    given = config()
    given.calibration.text = "text.txt"
    shutil.copy(here / "text.txt", "text.txt")
    page = quantize.quantize("../bert", "../out", given)
    assert done == PATHS[1:]
    assert page == here / "out" / "report.html" and not partial.exists()
    name = packed.TENSORS
    assert (here / "out" / name).read_bytes() == (whole / name).read_bytes()

    # A matrix that is damaged, and one of another seed, are done again.
    done.clear()
    with pytest.raises(loop.Preempted):
        quantize.quantize("../bert", "../out", given, stop=Asked())
    (file,) = partial.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(loop.Preempted):
        quantize.quantize("../bert", "../out", given, stop=Asked())
    assert packed.load_leaf(file) is not None
    given.seed = 1
    with pytest.raises(loop.Preempted):
        quantize.quantize("../bert", "../out", given, stop=Asked())
    assert done == 3 * PATHS[:1]
    # What was there all the time is as it was.
    assert (here / "out" / name).read_bytes() == (whole / name).read_bytes()


def test_another_network_of_that_name_is_another(here):
    with pytest.raises(loop.Preempted):
        quantize.quantize("bert", "out", config(), stop=Asked())
    before = content(here / "out.partial")
    path = here / "bert" / packed.TENSORS
    arrays = tensors.load_file(path)
    arrays["encoder.layer.0.attention.self.query.weight"] *= 2
    tensors.save_file(arrays, path)
    with pytest.raises(loop.Preempted):
        quantize.quantize("bert", "out", config(), stop=Asked())
    after = content(here / "out.partial")
    assert all(after[name] != before[name] for name in before)


def test_folders_of_others_are_left_alone(here, capsys):
    (here / "out.partial").mkdir()
    (here / "out.partial" / "mine").write_text("mine")
    assert main.console(QUICK) == 2
    assert "out.partial holds something else" in capsys.readouterr().err
    assert (here / "out.partial" / "mine").read_text() == "mine"


def test_a_disk_that_is_full_is_one_line(here, capsys, monkeypatch):
    assert main.console(QUICK) == 0
    before = content(here / "out")

    def save_file(arrays, path, metadata=None):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensors, "save_file", save_file)
    assert main.console([*QUICK, "--config.seed=2"]) == 2
    err = capsys.readouterr().err
    assert "No space left" in err and "goes on from there" in err
    assert content(here / "out") == before


def test_an_encoder_becomes_small_and_is_scored(here, capsys):
    assert main.console(QUICK) == 0
    assert f"report: {here}/out/report.html" in capsys.readouterr().out
    assert names(here / "out") == [
        "jaxedge.json", "model.safetensors", "report.html", "tokenizer.json"
    ]  # fmt: skip
    page = (here / "out" / "report.html").read_text("utf-8")
    assert "<h1>bert in small numbers</h1>" in page
    for path in PATHS:
        assert path in page
    note = packed.load("out").note
    assert note["config"]["quantize"]["method"] == "minmax"
    assert [*note["layers"]] == PATHS
    for one in note["layers"].values():
        assert f"{one['error']:.2e}" in page and 0 < one["error"] < 0.5
    # It is no network to begin with.
    assert main.console(["quantize", "--model=out", "--out=more"]) == 2
    assert "holds small numbers already" in capsys.readouterr().err
    # The folder knows what it was made of.
    score = ["eval", "--model=out", "--most=12", "--out=scores.json"]
    assert main.console(score) == 0
    out = capsys.readouterr().out
    assert "model" in out and "cosine_p05" in out
    said = json.loads((here / "scores.json").read_text())
    assert said["model"] == "out" and said["reference"] == str(here / "bert")
    (scores,) = said["scores"]["model"].values()
    assert 0.9 < scores["cosine"] < 1
    # Where that is gone it has to be given.
    (here / "bert").rename(here / "moved")
    assert main.console(score) == 2
    assert "give --reference" in capsys.readouterr().err
    assert main.console([*score, "--reference=moved"]) == 0
    again = json.loads((here / "scores.json").read_text())
    assert again["scores"] == said["scores"]


def test_a_decoder_has_tables_and_keys_and_two_columns(here, capsys):
    flags = [f for f in QUICK if not f.startswith("--model")]
    more = ["--model=llama", "--config.quantize.kv=mxfp4"]
    more += ["--config.quantize.embedding_bits=2"]
    assert main.console([*flags, *more]) == 0
    found = packed.load("out")
    assert found.model.kv == "mxfp4"
    assert [path for path, _ in quantized.leaves(found.variables)] == PATHS
    arrays = tensors.load_file(here / "out" / packed.TENSORS)
    assert arrays["params/embedding#codes"].shape == (37, 16)
    capsys.readouterr()
    score = ["eval", "--model=out", "--length=8", "--most=4"]
    assert main.console([*score, "--tasks=own", "--out=scores.json"]) == 0
    out = capsys.readouterr().out
    assert "reference" in out and "perplexity" in out
    scores = json.loads((here / "scores.json").read_text())["scores"]
    assert [*scores] == ["reference", "model"]
    exact, small = (scores[name]["own"]["perplexity"] for name in scores)
    assert np.isfinite([exact, small]).all() and exact != small
    # Both are shown to four places.
    assert f"{exact:.4f}" in out and f"{small:.4f}" in out


def test_the_digest_is_of_all_numbers():
    trees = {"a": np.arange(6.0), "b": jax.numpy.ones((2, 2))}
    one = quantize._digest(trees)
    assert one == quantize._digest({k: v.copy() for k, v in trees.items()})
    trees["a"][3] += 1e-9
    assert one != quantize._digest(trees)
