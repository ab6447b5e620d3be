"""Tests of the section on clients: its tables, pictures and sentences."""

import json
import re

import numpy as np
import pytest

from jaxedge.core import checks
from jaxedge.run import clients_page, clients_scores, metrics, report

NAMES = ("north", "<b>", "east")
CLASSES = ("cat", "dog")
SUMMARY = {
    "config": {"train": {"select_on": "valid"}, "active": {"method": "feal"}}
}


def arrays(names=NAMES, **changes):
    """Of clients with 10, 20, ... examples, 4 labelled each, 2 chosen last."""
    count = len(names)
    held = 10 * np.arange(1, count + 1)
    found = {
        "names": np.array(names),
        "examples": np.stack([held, held // 10, held // 5], 1),
        "labelled": np.full(count, 4), "query": np.full(count, 3),
        "chosen": np.full(count, 2), "classes": np.array(CLASSES),
        "positions": np.array(False), "labels": np.tile([3, 1], (count, 1)),
        "picked": np.tile([0, 2], (count, 1)), **changes,
    }  # fmt: skip
    return {
        f"clients/{k}": np.asarray(v) for k, v in found.items() if v is not None
    }


def shown(clients=3, scores=(2.5, 0.25), label=1):
    """Two examples of each of the first clients."""
    size = 2 * clients
    return {
        "shown": np.full((size, 4, 4, 3), 100, np.uint8),
        "shown_client": np.repeat(np.arange(clients), 2),
        "shown_label": np.full(size, label),
        "shown_score": np.tile(np.array(scores, np.float32), clients),
    }


def trained(epoch, labelled=12, clients=3.0, rejected=0.0, drift=0.5):
    return {
        "step": epoch, "phase": "train", "epoch": epoch, "loss": 1.0,
        "labelled": float(labelled), "clients": clients,
        "rejected": rejected, "drift": drift,
    }  # fmt: skip


def judged(epoch, *scores, phase="valid", names=NAMES, metric="site_dice"):
    row = {f"{metric}/{n}": s for n, s in zip(names, scores, strict=True)}
    known = [s for s in scores if s is not None]
    both = {metric: float(np.mean(known)), f"worst_{metric}": min(known)}
    at = {"step": epoch, "phase": phase, "epoch": epoch, "loss": 1.0}
    return {**at, **row, **both}


ROWS = [
    trained(1, 6), judged(1, 0.1, 0.2, 0.3),
    trained(2, 6), judged(2, 0.2, 0.3, 0.4),
    trained(3, 12), judged(3, 0.5, 0.5, 0.5),
    trained(4, 12, drift=0.25), judged(4, 0.6, 0.4, 0.8),
]  # fmt: skip


def section(pictures, rows=ROWS, summary=SUMMARY):
    return clients_page.section(pictures, rows, summary).replace("\u00a0", " ")


def cells(found, name):
    """Of the line of a table that begins with a name."""
    (line,) = re.findall(rf'<th scope="row">{name}</th>(.*?)</tr>', found)
    return re.findall(r"<td>(.*?)</td>", line)


def drawn(monkeypatch, name="scores"):
    """What is drawn from now on."""
    seen, draw = [], getattr(clients_page.clients_figures, name)

    def look(*given):
        seen.append(given)
        return draw(*given)

    monkeypatch.setattr(clients_page.clients_figures, name, look)
    return seen


def test_other_runs_have_no_such_section():
    assert section({}) == ""
    assert section({"classes": np.array(["a"])}) == ""
    partly = arrays()
    del partly["clients/labelled"]
    assert section(partly) == ""


def test_the_last_evaluation_with_as_many_labels_counts(monkeypatch):
    seen = drawn(monkeypatch)
    found = section(arrays())
    ((x, lines, label, words),) = seen
    assert x == [6, 12] and words == "site dice" and "Labelled" in label
    assert list(lines) == ["mean", *NAMES]
    np.testing.assert_allclose(lines["mean"], [0.3, 0.6])
    np.testing.assert_allclose(lines["<b>"], [0.3, 0.4])
    assert "network on the validation split, at the last" in found
    assert "With 12 of 60 training examples labelled (20.0 %)" in found
    assert "is in the end 60.0 % on average over the clients" in found
    assert "lowest at &lt;b&gt; with 40.0 %." in found
    assert "<b>" not in found


def test_one_number_of_labels_goes_over_rounds(monkeypatch):
    seen = drawn(monkeypatch)
    rows = [trained(1), judged(1, 0, 0, 0.6), trained(5), judged(5, 0, 0, 0.3)]
    found = section(arrays(), rows)
    assert seen[0][0] == [1, 5] and seen[0][2] == "Round"
    assert "on the validation split. With 12 of 60" in found
    assert "site dice of the clients over rounds" in found


def test_what_was_watched_is_shown(monkeypatch):
    seen = drawn(monkeypatch)
    rows = [*ROWS, judged(4, 0.9, 0.9, 0.6, phase="test")]
    found = section(arrays(), rows)
    assert seen[0][0] == [4]
    assert "on the test split. With" in found
    assert "lowest at east with 60.0 %" in found
    summary = {"config": {"train": {"select_on": "test"}}}
    assert "on the test split" in section(arrays(), ROWS, summary)


def test_clients_without_examples_there_are_not_drawn(monkeypatch):
    seen = drawn(monkeypatch)
    held = np.array([[10, 1, 1], [20, 0, 2], [30, 3, 0]])
    found = section(arrays(examples=held))
    assert list(seen[0][1]) == ["mean", "north", "east"]
    assert "&lt;b&gt; has no example in that split." in found
    assert cells(found.split("<table>")[-1], "&lt;b&gt;")[-3] == "–"
    held[:, 1] = 0
    found = section(arrays(examples=held))
    assert "3 clients have no example in that split." in found


def test_a_score_that_is_unknown_breaks_its_line(monkeypatch):
    seen = drawn(monkeypatch)
    rows = [*ROWS[:6], trained(4), judged(4, 0.6, None, 0.8)]
    found = section(arrays(), rows)
    np.testing.assert_array_equal(np.isnan(seen[0][1]["<b>"]), [False, True])
    assert "lowest at north with 60.0 %" in found


def test_one_client_is_no_mean(monkeypatch):
    seen = drawn(monkeypatch)
    rows = [trained(1, 4, 1.0), judged(1, 0.5, names=["only"])]
    found = section(arrays(["only"]), rows)
    assert list(seen[0][1]) == ["only"]
    assert "average over the clients," not in found
    assert "site dice is in the end 50.0 %." in found
    assert "1 client took part in every round." in found
    assert "<tfoot>" not in found


def test_many_clients_are_folded_away(monkeypatch):
    seen = drawn(monkeypatch)
    names = [f"client{c}" for c in range(100)]
    rows = [
        trained(1, 400, 90.0, 3.0),
        {"step": 1, "phase": "valid", "epoch": 1, "balanced_accuracy": 0.75,
         "worst_balanced_accuracy": 0.25},
    ]  # fmt: skip
    given = arrays(names, **shown(6))
    found = section(given, rows)
    assert list(seen[0][1]) == ["mean", "worst client"]
    assert (
        "is in the end 75.0 % on average over the clients, and that of the"
        in (found)
    )
    assert "worst 25.0 %." in found
    assert "<summary>Labelled in the end: 100 clients</summary>" in found
    assert found.count("had annotated in query 3") == 6
    assert "<p>94 more clients are not shown.</p>" in found
    assert "1 of 1 round there were clients that took no part" in found
    assert "over all rounds 7 of 100. 3 replies were rejected" in found
    assert cells(found, "client99")[:3] == ["1,000", "4", "0.4 %"]


def test_sheets_name_what_they_show(monkeypatch):
    seen = drawn(monkeypatch, "sheet")
    found = section(arrays(**shown(2), chosen=[2, 30, 0]))
    assert [words for _, words in seen] == [["dog\n2.50", "dog\n0.250"]] * 2
    assert (
        "north: the 2 examples that it had annotated in query 3, the" in found
    )
    assert "&lt;b&gt;: 2 of the 30 examples that" in found
    assert "uncertainty as feal computed it." in found
    assert "not shown" not in found and "Annotated last" not in found


def test_sheets_without_uncertainty_say_so(monkeypatch):
    seen = drawn(monkeypatch, "sheet")
    given = shown(3, (np.nan, np.nan), -1)
    summary = {"config": {"active": {"method": "random"}}}
    found = section(
        arrays(**given, query=[0, 1, 1], chosen=[2, 2, 2]), ROWS, summary
    )
    assert [words for _, words in seen] == [["", ""]] * 3
    assert "north: the 2 examples that it began with, drawn at random." in found
    assert "in query 1; random computed no uncertainty of single" in found


def test_sheets_without_names_of_classes_number_them(monkeypatch):
    seen = drawn(monkeypatch, "sheet")
    none = dict.fromkeys(("classes", "labels", "picked", "positions"))
    found = section(arrays(**shown(1), **none))
    assert seen[0][1] == ["class 1\n2.50", "class 1\n0.250"]
    assert "by class" not in found and "Labelled in the end" in found


@pytest.mark.parametrize(
    ("scores", "want"),
    [
        ((2.5712, 2.5711), ["2.571200", "2.571100"]),
        ((3e-5, 1e-5), ["3.00e-05", "1.00e-05"]),
        ((-0.5, np.nan), ["-0.500", ""]),
        ((100, 100), ["100", "100"]),
        ((0, 0), ["0.00", "0.00"]),
    ],
)
def test_uncertainties_have_digits_that_tell_them_apart(scores, want):
    assert clients_page._numbers(np.array(scores)) == want


def test_other_data_has_a_table_of_what_was_chosen():
    found = section(arrays(query=[0, 3, -1], chosen=[2, 2, 0]), [])
    table, labels = found.split("<table>")[1:]
    assert "Annotated last by each client; by class, the number" in table
    assert cells(table, "north") == ["start", "2", "0", "2"]
    assert cells(table, "&lt;b&gt;") == ["3", "2", "0", "2"]
    assert "east" not in table and "<img" not in found
    assert cells(labels, "All") == ["60", "12", "20.0 %", "9", "3"]
    none = section(arrays(query=[-1] * 3, chosen=[0] * 3), [])
    assert "Annotated" not in none


def test_rare_classes_are_counted_together():
    counts = np.arange(1, 13)[None].repeat(3, 0)  # The first two are rarest.
    found = section(
        arrays(
            classes=[f"c{k}" for k in range(12)], labels=counts, picked=counts
        )
    )
    head = re.findall(r'<th scope="col">(.*?)</th>', found)
    assert head[-12:] == [
        "Site dice, validation", *(f"c{k}" for k in range(2, 12)),
        "Other classes",
    ]  # fmt: skip
    total = cells(found, "All")
    assert total[-11:] == [*(f"{3 * k}" for k in range(3, 13)), "9"]
    assert total[3] == "60.0 %"


def test_labels_by_position_are_shares():
    labels = np.array([[30, 10], [0, 0], [10, 0]])
    found = section(arrays(positions=True, labels=labels, picked=labels))
    last = found.split("<table>")[-1]
    assert "by class, the share of the labelled positions" in last
    assert cells(last, "north")[-2:] == ["75.0 %", "25.0 %"]
    assert cells(last, "&lt;b&gt;")[-2:] == ["0.0 %", "0.0 %"]
    assert cells(last, "All")[-2:] == ["80.0 %", "20.0 %"]


def test_rounds_tell_who_is_missing(monkeypatch):
    seen = drawn(monkeypatch, "rounds")
    rows = [
        trained(1, clients=3.0),
        trained(2, clients=1.0, rejected=1.0),
        trained(3, clients=0.0, drift=0.0),
    ]
    found = section(arrays(), rows)
    ((x, drift), counts) = seen[0]
    np.testing.assert_array_equal(x, [1, 2, 3])
    np.testing.assert_array_equal(drift, [0.5, 0.5, np.nan])
    np.testing.assert_array_equal(counts["took no part"][1], [0, 1, 3])
    np.testing.assert_array_equal(counts["rejected"][1], [0, 1, 0])
    assert "whose reply was used. In 2 of 3 rounds there were" in found
    assert "1.33 of 3. 1 reply was rejected for not being finite." in found
    found = section(arrays(), rows[:1])
    assert (
        seen[1][1] == {} and "used: 0.5 in the last round. 3 clients" in found
    )


def test_rows_that_lack_something_are_left_out():
    rows = [{"step": 1, "phase": "train", "loss": 1.0}, judged(1, 0, 0, 0)]
    assert section(arrays(), rows).count("<img") == 0
    rows[0]["labelled"] = None
    assert section(arrays(), rows).count("<img") == 0
    found = clients_scores.read(NAMES, np.ones((3, 3)), ROWS[:1], SUMMARY)
    assert found is None


def test_arrays_of_other_clients_are_named():
    with pytest.raises(checks.UsageError, match="do not fit; delete it"):
        section(arrays(labelled=[1, 2]))
    given = shown()
    given["shown_score"] = given["shown_score"][:-1]
    with pytest.raises(checks.UsageError, match="do not fit; delete it"):
        section(arrays(**given))


def test_a_report_has_the_section(tmp_path):
    summary = {
        "score": "site_dice", "metrics": {"test_site_dice": 0.6}, **SUMMARY,
        "seconds": {}, "versions": {},
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    writer = metrics.Jsonl(tmp_path / "metrics.jsonl")
    for row in ROWS:
        writer.write(row["step"], {k: v for k, v in row.items() if k != "step"})
    writer.close()
    np.savez(tmp_path / "pictures.npz", **arrays(**shown()))  # type: ignore[arg-type]
    text = report.write(tmp_path).read_text(encoding="utf-8")
    assert text.index("<h2>Training") < text.index("<h2>Clients")
    # Learning curve, scores, three sheets, rounds.
    assert text.count("<img") == 6
    assert report.write(tmp_path).read_text(encoding="utf-8") == text
    (tmp_path / "pictures.npz").unlink()
    report.write(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h2>Clients" not in text
