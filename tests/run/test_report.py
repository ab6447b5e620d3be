"""Tests of the report, on a workdir of known numbers."""

import base64
import html.parser
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
from PIL import Image
import pytest
import scipy.stats

from jaxedge.core import checks
from jaxedge.run import metrics, report

VOID = {"meta", "img", "br", "hr", "link", "input"}
TESTS, CHIPS, GOOD = 360, 200, 171  # 171 of 200 chips: a yield of 85.5 %


def chips():
    """Accuracies of which exactly `GOOD` reach 324/360 = 0.9, shuffled."""
    rng = np.random.default_rng(0)
    right = np.concatenate(
        [rng.integers(324, 345, GOOD), rng.integers(300, 324, CHIPS - GOOD)]
    )
    right[0] = 324  # a chip that just reaches the threshold counts
    return (rng.permutation(right) / TESTS).astype(np.float32)


def layer(name, adc):
    parts = dict(
        joules_array=1e-9, joules_adc=adc, joules_dac=2e-10,
        joules_digital=1e-10,
    )  # fmt: skip
    return dict(
        name=name, rows=64, cols=128, cells=16384, tiles=1, utilisation=0.25,
        vectors=1, conversions=1024, **parts, joules=sum(parts.values()),
    )  # fmt: skip


def summary():
    layers = [layer("dense_0/kernel", 4e-9), layer("head/kernel", 1e-9)]
    accuracy = chips()
    return {
        "score": "accuracy",
        "config": {"name": "digits", "optimizer": {"lr": 0.1}},
        "metrics": {"test_accuracy": 0.9472, "valid_accuracy": 0.95},
        "chips": {
            "n": CHIPS,
            "score_mean": float(accuracy.mean()),
            "score_std": float(accuracy.std()),
            "score_p05": float(np.percentile(accuracy, 5)),
            "score_min": float(accuracy.min()),
            "yield": GOOD / CHIPS,
            "threshold": 0.9,
            "chips_per_second": 120.0,
        },
        "energy": {
            "layers": layers,
            "joules_hardware": sum(row["joules"] for row in layers),
            "joules_digital": 2e-10,
            "joules_gpu": 2e-8,
            "reduction": 0.62,
            "gain": 2.63,
            "assumptions": {
                "read_volts": {"value": 0.15, "source": "MNSIM 2.0"},
                "read_seconds": {
                    "value": 1e-7,
                    "source": "unknown; labelled default",
                },
                "set_joules": None,
            },
        },
        "seconds": {"train": 12.3, "chips": 4.5},
        "versions": {"jax": "0.10.2", "numpy": "2.4.6"},
    }


def save(workdir, value):
    (workdir / "summary.json").write_text(json.dumps(value))


def fill(folder):
    """Makes it the workdir of a finished run."""
    rng = np.random.default_rng(1)
    save(folder, summary())
    writer = metrics.Jsonl(folder / "metrics.jsonl")
    for step in range(1, 31):
        at = {"epoch": step / 3, "loss": 2 / step, "accuracy": 1 - 1 / step}
        writer.write(step, {"phase": "train", **at, "flips": 30 - step})
        if step % 3 == 0:
            writer.write(step, {"phase": "valid", **at})
    writer.close()
    fall = np.array([[0.95], [0.9], [0.5]])
    np.savez(
        folder / "study.npz",
        score=chips(),
        read_noise_levels=np.array([0.0, 0.05, 0.2]),
        read_noise_score=fall - 0.01 * rng.random((3, 20)),
        fault_levels=np.array([0.0, 0.01, 0.1]),
        fault_score=np.repeat(fall, 10, axis=1),
    )
    np.savez(
        folder / "pictures.npz",
        **{
            "conductance/dense_0/kernel": np.where(
                rng.random((300, 64)) < 0.5, 0, 34e-6
            )
        },
        sparsity_names=np.array(["dense_0/kernel", "head/kernel"]),
        sparsity_kept=np.array([0.5, 0.3]),
    )


@pytest.fixture
def workdir(tmp_path):
    fill(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The report of `workdir` as it is, drawn once; do not write here."""
    folder = tmp_path_factory.mktemp("written")
    fill(folder)
    return report.write(folder)


class Page(html.parser.HTMLParser):
    """Collects text, images and references; fails on unbalanced tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.references, self.texts = [], [], [], []
        self.tags = set()
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).split())
        self.alts = " ".join(image["alt"] for image in self.images)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        attrs = dict(attrs)
        if tag == "img":
            self.images.append(attrs)
        self.references += [
            value for name, value in attrs.items() if name in ("src", "href")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


def parse(path):
    return Page(path.read_text(encoding="utf-8"))


def page(workdir):
    return parse(report.write(workdir))


def decode(uri):
    """(kind, size) of an image in a data URI, by decoding it."""
    kind, data = re.fullmatch(r"data:image/([a-z+]+);base64,(.+)", uri).groups()
    data = base64.b64decode(data, validate=True)
    if kind == "svg+xml":
        root = xml.etree.ElementTree.fromstring(data)
        assert root.tag.endswith("svg")
        return kind, len(list(root.iter()))
    image = Image.open(io.BytesIO(data))
    image.load()
    return kind, image.size


def test_report_is_whole_and_self_contained(written):
    text = written.read_text(encoding="utf-8")
    found = Page(text)  # balanced
    assert not re.search(r"https?://", text)
    assert all(uri.startswith("data:image/") for uri in found.references)
    assert not found.tags & {"script", "link", "iframe", "object"}
    assert "url(" not in text and "@import" not in text
    # Learning curve, histogram, yield, two sweeps, mask, one map, energy.
    kinds = [decode(image["src"])[0] for image in found.images]
    assert sorted(kinds) == ["png"] + 7 * ["svg+xml"]
    assert all(image["alt"] for image in found.images)
    assert written.stat().st_size < 3e6
    assert list(written.parent.glob(".*")) == []  # no temporary file left


def test_numbers_stated_are_those_of_the_data(written):
    text = parse(written).text.replace("\u00a0", " ")
    accuracy = chips().astype(float)
    # Counted by hand over integers: 324 of 360 right is 90 %.
    good = sum(round(value * TESTS) >= 324 for value in accuracy)
    assert good == GOOD
    assert f"{good} of {CHIPS} chips ({100 * good / CHIPS:.1f} %)" in text
    assert "Yield 85.5 % reach 90.0 %" in text
    assert f"the mean is {100 * accuracy.mean():.1f} %" in text
    assert f"the worst chip has {100 * accuracy.min():.1f} %" in text
    assert "Test accuracy 94.7 %" in text
    # 1 - 1/30 at step 30, both the last and the best.
    assert "ends at 96.7 % after 30 steps and was best at step 30" in text
    assert "from 95.0 % at 0 % stuck cells to 50.0 % at 10 %" in text
    assert "fewest weights in head/kernel (30.0 %)" in text
    # (1 + 4 + .2 + .1) + (1 + 1 + .2 + .1) = 7.6 nJ; ADC 5/7.6 = 65.8 %.
    assert "costs 7.6 nJ, of which the ADCs take 65.8 %" in text
    assert "dense_0/kernel 69.7 %" in text
    assert "20 nJ on a GPU" in text


def test_intervals_stated_are_those_of_scipy(written):
    text = parse(written).text.replace("\u00a0", " ")
    test = scipy.stats.binomtest(GOOD, CHIPS).proportion_ci(0.95, "exact")
    yields = f"{100 * test.low:.1f}-{100 * test.high:.1f} %"
    assert f"the yield lies in {yields} (exact binomial interval)" in text
    accuracy = chips().astype(float)
    low, high = scipy.stats.t.interval(
        0.95, CHIPS - 1, accuracy.mean(), scipy.stats.sem(accuracy)
    )
    assert f"the mean over chips in {100 * low:.1f}-{100 * high:.1f} %" in text


def test_sweeps_have_tables(written):
    text = written.read_text(encoding="utf-8")
    rows = re.findall(r'<tr><th scope="row">10\u00a0%</th>(.*?)</tr>', text)
    (row,) = rows  # of the stuck cells: 10 chips of 50 %, none of them good
    cells = re.findall("<td>(.*?)</td>", row.replace("\u00a0", " "))
    # No chip of ten: 1 - .025^(1/10).
    assert cells == [
        "50.0 %", "50.0-50.0 %", "50.0-50.0 %", "0.0 %", "0.0-30.8 %",
    ]  # fmt: skip


def another_study(workdir, **changes):
    """Notes a finished study beside that of the summary."""
    (workdir / "studies").mkdir(exist_ok=True)
    found = {
        "study": "seconds-1", "words": "time", "hardware": {"rows": 64},
        "score": "accuracy",
        "chips": summary()["chips"] | {"score_mean": 0.77},
        "sweeps": {"seconds": {}}, **changes,
    }  # fmt: skip
    path = workdir / "studies" / f"{found['study']}.json"
    path.write_text(json.dumps(found))
    levels = np.array([25.0, 86400.0])
    np.savez(
        path.with_suffix(".npz"),
        seconds_levels=levels,
        seconds_score=np.array([[0.75, 0.75], [0.25, 0.75]]),
        only_layer_levels=np.array(["a/kernel", "b"]),
        only_layer_score=np.array([[0.75, 0.75], [0.25, 0.75]]),
    )
    return path


def test_other_studies_are_shown(workdir):
    value = summary() | {"study": "noise-1"}
    value["config"]["hardware"] = {"rows": 512, "device": {"g_max": 1.0}}
    save(workdir, value)
    another_study(workdir, hardware={"rows": 64, "device": {"g_max": 1.0}})
    another_study(workdir, study="noise-1")  # that of the summary
    found = page(workdir)
    text = found.text.replace("\u00a0", " ")
    assert len(found.images) == 8 + 2
    assert text.count("Other studies") == 1 and "time (rows 64)" in text
    assert "accuracy is on average 77.0 %" in text
    assert "from 75.0 % at 25 s after programming to 50.0 % at 1 day" in text
    assert "hardware: b is worst, with 50.0 % on average" in text


def test_the_score_of_the_task_is_named(workdir):
    value = summary() | {"score": "roc_auc"}
    value["metrics"]["test_roc_auc"] = 0.9
    save(workdir, value)
    found = page(workdir)
    text = found.text.replace("\u00a0", " ")
    words = "area under the ROC curve"
    assert f"Test {words} 90.0 %" in text and "accuracy" not in found.alts
    assert f"threshold of 90.0 % ({words});" in text
    assert f"The {words} goes on average from 95.0 %" in text
    assert f"Histogram of the {words} of 200 chips" in found.alts


def test_a_run_of_another_version_is_named(workdir):
    """From when every score was called accuracy."""
    value = summary()
    del value["score"]
    save(workdir, value)
    says = "lacks the entry 'score'; repeat `jaxedge run`"
    with pytest.raises(checks.UsageError, match=says):
        report.write(workdir)
    save(workdir, summary())
    path = another_study(workdir)
    record = json.loads(path.read_text())
    del record["score"]
    path.write_text(json.dumps(record))
    with pytest.raises(checks.UsageError, match="'score'.*delete it"):
        report.write(workdir)


@pytest.mark.parametrize("content", ["", "[1]", '{"study": "a"}'])
def test_a_damaged_record_of_a_study_is_named(workdir, content):
    another_study(workdir).write_text(content)
    with pytest.raises(checks.UsageError, match="seconds-1.json.*delete it"):
        report.write(workdir)


def test_energy_table_adds_up(written):
    text = written.read_text(encoding="utf-8")
    foot = re.search(r"<tfoot>(.*?)</tfoot>", text).group(1)
    cells = re.findall(r"<td>(.*?)</td>", foot)
    assert cells[1:3] == ["32,768", "2"]  # cells, tiles
    # ADC, DAC, array, digital, total in nJ.
    assert cells[-5:] == ["5", "0.4", "2", "0.2", "7.6"]


def searched(workdir, **energy):
    """The page of a run that searched a mask of 1000 weights."""
    value = summary()
    value["metrics"] |= dict(
        sets=30, resets=20, initial_resets=500, flips_per_weight=0.05
    )
    value["energy"] |= energy
    save(workdir, value)
    return report.write(workdir).read_text(encoding="utf-8")


def test_programming_is_priced_where_the_prices_are_known(workdir):
    text = searched(workdir, joules_programming=2.5e-6)
    assert "0.05 flips per weight, or 0.55 with the 500 pruned" in text
    assert "<span>All of it cost 2.5\u00a0µJ.</span>" in text
    Page(text)  # balanced


def test_programming_of_unknown_price_is_marked(workdir):
    text = searched(workdir, joules_programming=None)
    unpriced = "It is unpriced: the energy of SET and RESET is unknown."
    assert f'<span class="doubtful">{unpriced}</span>' in text


def test_programming_is_left_out_where_it_was_not_counted(workdir, written):
    assert "Programming" not in parse(written).text
    text = searched(workdir)  # counted, but from before it was priced
    assert "flips per weight" in text and "unpriced" not in text
    # A recipe without a mask has a null in place of the joules.
    value = summary()
    value["energy"]["joules_programming"] = None
    save(workdir, value)
    assert "Programming" not in page(workdir).text


def test_what_is_unknown_is_marked(written):
    text = written.read_text(encoding="utf-8")
    assert 'class="doubtful">1e-07, source: unknown; labelled' in text
    assert '<th scope="row">set_joules</th><td class="doubtful">unknown' in text
    assert "<td>0.15, source: MNSIM 2.0</td>" in text


def test_every_text_is_escaped(workdir):
    evil = '<script>alert("x")</script>&'
    value = summary()
    value["config"]["name"] = evil
    value["versions"][evil] = evil
    value["seconds"][evil] = 1.0
    value["metrics"][evil] = evil
    value["energy"]["assumptions"][evil] = evil
    value["energy"]["layers"][0]["name"] = evil + "$x_1$"
    save(workdir, value)
    np.savez(
        workdir / "pictures.npz",
        **{"conductance/<b>$\\frac$": np.ones((4, 4)) * 1e-6},
        sparsity_names=np.array(["<b>$\\frac$"]),
        sparsity_kept=np.array([0.5]),
    )
    found = page(workdir)
    assert not found.tags & {"script", "b"}
    assert found.text.count(evil) >= 8


def test_a_mask_of_one_density_is_said_once(workdir):
    np.savez(
        workdir / "pictures.npz",
        sparsity_names=np.array(["a", "b"]),
        sparsity_kept=np.array([0.5, 0.5001]),
    )
    text = page(workdir).text.replace("\u00a0", " ")
    assert "The mask keeps 50.0 % of every layer." in text


def test_the_same_workdir_gives_the_same_file(workdir):
    path = report.write(workdir)
    assert path == workdir / "report.html"
    first = path.read_bytes()
    assert report.write(workdir).read_bytes() == first


def test_a_run_without_chips_says_so(workdir):
    value = summary()
    del value["chips"]
    value["energy"] = None
    save(workdir, value)
    for name in ("study.npz", "pictures.npz", "metrics.jsonl"):
        (workdir / name).unlink()
    found = page(workdir)
    assert found.images == []
    for part in (
        "No metrics yet: run jaxedge run",
        "No chips were studied yet: run jaxedge chips",
        "No sweep was studied yet: run jaxedge chips",
        "No mask was stored yet",
        "No conductances were stored yet",
        "No energy was counted yet",
    ):
        assert part in found.text


def test_a_run_that_trained_nothing_says_so(workdir):
    value = summary()
    value["config"]["train"] = {"epochs": 0}
    value["chips"]["images"] = 1500
    save(workdir, value)
    (workdir / "metrics.jsonl").unlink()
    with np.load(workdir / "pictures.npz") as file:
        arrays = dict(file)
    empty = dict.fromkeys(("sparsity_names", "sparsity_kept"), np.zeros(0))
    np.savez(workdir / "pictures.npz", **arrays | empty)
    text = page(workdir).text
    assert "Nothing was trained" in text and "No metrics" not in text
    assert "Each has read 1,500 test examples." in text
    assert "No layer has a mask" in text


def test_the_chip_that_a_network_was_trained_for_is_told_apart(workdir):
    assert "trained for" not in page(workdir).text
    value = summary()
    value["chips"]["trained_chip"] = 0.9875
    save(workdir, value)
    found = page(workdir).text
    assert re.search(r"The chip it was trained for\s+98\.8", found)


def test_numbers_that_do_not_exist_are_dashes(workdir):
    value = summary()
    value["metrics"]["test_accuracy"] = None
    value["energy"] |= {"joules_gpu": None, "reduction": None, "gain": None}
    save(workdir, value)
    assert "Test accuracy –" in page(workdir).text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no file .*summary.json.*repeat `jaxedge run`"),
        (b'{"config": {}, "metr', "summary.json.*is not JSON.*repeat"),
        (b"\xff\x00", "summary.json.*is not JSON.*repeat"),
        (b"[1]", r"summary.json.* holds no JSON object but \[1\]; repeat"),
        (b"{}", "config in .*summary.json.* is None, not an object; repeat"),
    ],
)
def test_a_bad_summary_is_named(workdir, content, says):
    path = workdir / "summary.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(checks.UsageError, match=says):
        report.write(workdir)
    assert not (workdir / "report.html").exists()


def test_a_summary_without_a_number_is_named(workdir):
    value = summary()
    del value["chips"]["threshold"]
    save(workdir, value)
    with pytest.raises(checks.UsageError, match="lacks the entry 'threshold'"):
        report.write(workdir)


@pytest.mark.parametrize("name", ["study.npz", "pictures.npz"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_truncated_npz_is_named(workdir, name, share):
    data = (workdir / name).read_bytes()
    (workdir / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(checks.UsageError, match=f"{name}.*delete it"):
        report.write(workdir)


def test_a_study_of_another_run_is_refused(workdir):
    value = summary()
    value["chips"]["yield"] = 0.99
    save(workdir, value)
    with pytest.raises(checks.UsageError, match="yield of 0.8550.*0.99"):
        report.write(workdir)


def test_a_failed_report_leaves_the_old_one(workdir):
    old = report.write(workdir).read_bytes()
    (workdir / "study.npz").write_bytes(b"")
    with pytest.raises(checks.UsageError):
        report.write(workdir)
    assert (workdir / "report.html").read_bytes() == old


def test_importing_is_light_and_pyplot_is_never_used(workdir):
    code = (
        "import sys; from jaxedge.run import metrics, report;"
        "assert not {'matplotlib', 'tensorboardX'} & set(sys.modules);"
        f"report.write({str(workdir)!r});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
