"""Card pages and the index: what they say of the runs, and that every link leads somewhere."""

import copy
import posixpath
import re

import pytest

from benchmark import board_page, card_pages, records
from benchmark import leaderboard as boards
from benchmark.board_pictures import pictures
from tests.benchmark.test_leaderboard import SUITES, both, run


def rendered(items):
    return board_page.render(boards.tables(records.newest(items), SUITES))


def page(items, method="a"):
    return rendered(items)[f"s/cards/{method}.md"]


def lines_of(text, run_id):
    return [line for line in text.splitlines() if line.startswith(f"| `{run_id}` |")]


def anchors(text):
    """Of GitHub's headings, by its published rule."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9_\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_method_has_a_page_with_a_line_per_run_and_what_they_share():
    text = page([*both("a", params={"alpha": 2.0, "layers": [1, 2]}), *both("b")])
    assert text.startswith("# Runs of a in s\n\n2 runs. ")
    assert text.count("- parameters: `alpha 2.0`, `layers [1, 2]`") == 1
    assert text.count(f"- commit: `{'c' * 40}`") == 1
    assert "- metrics: `words top5 version 1, bench-1`" in text
    assert "    bench rerun a-B-0\n" in text
    assert lines_of(text, "a-A-0") == ["| `a-A-0` | A | 0 | ok | 0.5 | 2.0 | 10 | 2026-01-02T03:04:05Z |"]
    assert len(lines_of(text, "a-B-0")) == 1
    assert "differs" not in text.replace("says what differs", "")


def test_what_differs_from_most_runs_stands_in_the_line_of_the_run():
    items = [run("a", s, seed=n) for s in "AB" for n in (0, 1)]
    items[1] |= {"commit": "d" * 40, "threads": 4, "versions": {"numpy": "1.9"}, "dirty": True}
    items[3]["scores"]["words"]["top5"]["version"] = 0
    for item in (items[0], items[2], items[3]):
        item["versions"] = {"numpy": "2.0", "scipy": "1.1"}
    text = page(items)
    assert "- versions: `numpy 2.0`, `scipy 1.1`" in text
    assert f"- commit: `{'c' * 40}`" in text
    assert "Where a run differs from this, its line says so." in text
    (line,) = lines_of(text, "a-A-1")
    said = (
        "commit " + "d" * 16,
        "uncommitted changes true",
        "versions numpy 1.9",
        "versions scipy nothing",
        "threads 4",
    )
    assert line.endswith("| " + "; ".join(f"`{s}`" for s in said) + " |")
    assert lines_of(text, "a-B-1")[0].endswith("| `metrics words top5 version 0, bench-1` |")
    assert lines_of(text, "a-A-0")[0].endswith("|  |")


def test_a_failed_run_has_its_reason_and_lacks_no_metric():
    text = page([run("a", "A"), run("a", "B", status="failed"), *both("b")])
    assert "| B | 0 | failed: train: it \\| broke | – |" in text
    assert "not ranked, top5 0.5; incomplete, lacks B seed 0" in text
    assert "differs" not in text.replace("says what differs", "")


def test_presets_and_splits_are_sections_of_their_own():
    items = [*both("a"), *both("a", preset="big", run_id="x"), *both("a", split="other", run_id="y")]
    text = page(items)
    assert [line for line in text.splitlines() if line.startswith("##")] == [
        "## d",
        "### split other, preset default, profile mini",
        "### split sp, preset big, profile mini",
        "### split sp, preset default, profile mini",
    ]
    assert text.startswith("# Runs of a in s\n\n6 runs. ")


def test_every_link_of_the_boards_leads_to_a_page_and_a_heading_of_it():
    items = [*both("a"), *both("b.c", dataset="Data_2.x", split="p.1"), *both("control", control=True)]
    items = [*items, run("a", "A", tracks=["words", "embedding"], dataset="e")]
    files = rendered(items)
    shown = pictures(boards.tables(records.newest(items), SUITES))
    n = 0
    for name, text in files.items():
        for target in re.findall(r"\]\(([^)]*)\)", text) if name.endswith(".md") else ():
            path, _, anchor = target.partition("#")
            place = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
            if not place.startswith("../docs/"):
                n += 1
                assert place in files or place in shown, (name, target)
                assert not anchor or anchor in anchors(files[place]), (name, target)
    assert n > 15
    assert {"s/cards/a.md", "s/cards/b.c.md", "s/cards/control.md"} <= set(files)


def test_what_a_sender_wrote_cannot_leave_its_place():
    evil = "` | [x](http://y) \n# title <b>"
    odd = both("a", params={evil: evil}, versions={"numpy": evil}, device=evil)
    text = page([*odd, *both("b")])
    assert not re.search(r"^# title", text, re.MULTILINE)
    stated = next(line for line in text.splitlines() if line.startswith("- parameters"))
    assert stated.count("`") == 2
    odd[0]["device"] = "cpu"
    (line,) = lines_of(page(odd), "a-B-0")
    assert "http" in line
    assert len(re.findall(r"(?<!\\)\|", line)) == 10


def test_predictions_made_elsewhere_are_not_said_to_be_run_again():
    items = both("a", tags=["external predictions"])
    assert "made elsewhere" in page(items)
    assert "bench rerun" not in page(items)
    assert card_pages.newest_of(items) is None
    assert "bench rerun" not in rendered(items)["README.md"]


def test_pages_are_the_same_whatever_the_order_and_leave_records_alone():
    items = [*both("a"), *both("a", preset="big"), *both("b", versions={"x": "1"})]
    items[0]["threads"] = 2
    before = copy.deepcopy(items)
    assert rendered(items) == rendered(items[::-1])
    assert items == before


def test_an_edited_or_left_over_card_page_is_stale(tmp_path):
    files = rendered([*both("a"), *both("b")])
    board_page.write(tmp_path, files)
    (tmp_path / "s/cards/a.md").write_text(files["s/cards/a.md"].replace("0.5", "0.6"))
    (tmp_path / "s/cards/gone.md").write_text("")
    assert board_page.stale(tmp_path, files) == ["s/cards/a.md", "s/cards/gone.md"]


def test_the_index_says_what_changed_newest_first():
    days = [f"2026-01-0{d}T00:00:00Z" for d in range(1, 8)]
    items = [item for d, date in enumerate(days) for item in both(f"m{d}", date=date)]
    items[0] |= {"date": days[6], "commit": "e" * 40, "dirty": True}
    text = rendered(items)["README.md"]
    changes = text.partition("## What changed")[2].splitlines()
    assert "14 runs, the last of 2026-01-07." in text
    table = [line for line in changes if line.startswith("| 20")]
    assert table[0] == "| 2026-01-07 | s | d | m0 (1 of 2 runs), m6 | cccccccccc, eeeeeeeeee+changes |"
    assert [line[2:12] for line in table] == [f"2026-01-0{d}" for d in (7, 6, 5, 4, 3)]


@pytest.mark.parametrize("n", [1, 3])
def test_the_index_names_the_leader_and_how_many_share_its_rank(n):
    text = rendered([item for i in range(n) for item in both(f"m{i}", 0.5)])["README.md"]
    more = " and 2 more of its tier" if n == 3 else ""
    assert f"| [m0](s/cards/m0.md#d){more} | 0.500 | 0.100 | {n} | 2026-01-02 |" in text
