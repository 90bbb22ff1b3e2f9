"""Provenance cards: what they hold, what is refused, and runs made again from them."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import card as cards
from benchmark import records, rerun
from benchmark.errors import BenchError
from benchmark.plan import Request, plan
from benchmark.registry import Registry
from benchmark.runner import Limits, Session, run_all
from benchmark.store import Run, Store
from tests.helpers.make_folder import make_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small dataset and a store with the runs of two methods and of one that cannot run."""
    root = tmp_path_factory.mktemp("made")
    data = make_folder(root / "tiny", image_size=16)
    request = Request(dataset="tiny", methods=("ridge", "mean"), data=data, cache=root / "cache", subjects=("S1",))
    run_all(plan(Registry(), request), Session(Store(root / "runs"), Limits()))
    return root


@pytest.fixture
def runs(made, tmp_path):
    """A copy of the store that a test may change."""
    return Path(shutil.copytree(made / "runs", tmp_path / "runs", copy_function=shutil.copy2))


def folder_of(store, method="ridge"):
    (found,) = (path for path in Store(store).folders() if path.parent.name == method)
    return found


@pytest.fixture(scope="module")
def card(made):
    return cards.read(folder_of(made / "runs"))


def test_a_card_says_what_was_run_and_what_came_of_it(made, card):
    run = Run(folder_of(made / "runs"))
    assert card["spec"] == run.spec
    assert card["run_id"] == run.id
    assert card["scores"] == run.scores["tracks"]
    for place, name in (("code", "source"), ("code", "commit"), ("machine", "threads"), ("machine", "hardware")):
        assert card[place][name] == run.provenance[name]
    assert card["dataset"]["fingerprint"] == run.provenance["dataset_fingerprint"]
    assert card["versions"]["numpy"]
    assert card["cost"]["cpu_seconds"] == run.provenance["cpu_seconds"] > 0
    assert card["ladder"] == "on"
    assert card["tracks"]["words"]["ranked"] == "top5"


def test_the_page_has_every_score_and_the_same_card_gives_the_same_page(made, card):
    text = (folder_of(made / "runs") / "card.md").read_text()
    assert text == cards.markdown(card)
    for track, scores in card["scores"].items():
        for name in scores:
            ranked = card["tracks"][track]["ranked"] == name
            assert f"| {track} | {f'**{name}**' if ranked else name} |" in text
    assert f"fingerprint `{card['dataset']['fingerprint']}`" in text


def test_a_card_is_read_from_each_of_its_places_and_made_where_it_is_not_there(runs, card):
    folder = folder_of(runs)
    assert cards.read(folder) == cards.read(folder / "card.md") == cards.read(folder / "card.json") == card
    (folder / "card.json").unlink()
    (folder / "record.json").unlink()
    assert cards.read(folder) == card


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c.pop("spec"), "'spec' is a required property"),
        (lambda c: c.update(format=2), "format"),
        (lambda c: c["spec"].update(seed=-1), "spec.seed"),
        (lambda c: c["spec"].update(method="../../x"), "spec.method"),
        (lambda c: c.update(run_id="../../../../etc"), "run_id"),
        (lambda c: c["code"].update(commit="not hex"), "code.commit"),
        (lambda c: c["scores"]["words"]["top5"].update(value="high"), "scores.words.top5.value"),
        (lambda c: c["scores"]["words"]["top5"].update(value=float("nan")), "NaN found"),
        (lambda c: c["scores"]["words"]["top5"].pop("version"), "'version' is a required property"),
    ],
)
def test_what_is_no_card_is_refused_and_the_fault_named(tmp_path, card, change, named):
    bad = copy.deepcopy(card)
    change(bad)
    (tmp_path / "card.json").write_text(json.dumps(bad))
    with pytest.raises(BenchError, match=r"card\.json") as error:
        cards.read(tmp_path / "card.json")
    assert named in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", "1e999", '{"format": 1e999}', ""])
def test_damaged_cards_are_refused(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(BenchError, match=r"card\.json: not"):
        cards.read(tmp_path / "card.json")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(BenchError, match="no run directory"):
        cards.read(tmp_path)


def test_the_record_is_that_of_the_files_and_follows_them(runs):
    folder = folder_of(runs)
    before = records.of_run(folder)
    assert before == records.record(Run(folder)) == json.loads((folder / "record.json").read_text())
    scores = json.loads((folder / "scores.json").read_text())
    scores["tracks"]["words"]["top1"]["value"] = 0.125
    (folder / "scores.json").write_text(json.dumps(scores))  # newer than the record from here on
    assert records.of_run(folder)["scores"]["words"]["top1"]["value"] == 0.125
    (folder / "record.json").write_text("{")
    assert records.of_run(folder)["scores"]["words"]["top1"]["value"] == 0.125


def test_boards_are_the_same_bytes_with_and_without_kept_records_and_in_any_process(made, runs):
    """Also with another order of sets: the hash seed of strings changes with the process."""
    command = [sys.executable, "-m", "benchmark.cli", "leaderboard", "--store", str(runs)]
    found = []
    for seed in "12":
        environment = {"PATH": "", "PYTHONPATH": str(Path(cards.__file__).parents[1]), "PYTHONHASHSEED": seed}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        boards = runs / "leaderboards"
        found.append({p.relative_to(boards): p.read_bytes() for p in sorted(boards.rglob("*")) if p.is_file()})
        shutil.rmtree(boards)
        for path in runs.rglob("record.json"):
            path.unlink()
    assert found[0] == found[1]
    assert {path.suffix for path in found[0]} >= {".md", ".json"}


def test_list_runs_has_a_line_a_run(bench, runs, card):
    code, out, _ = bench("list", "runs", "--store", runs)
    head, *lines = out.splitlines()
    assert code == 0
    assert head.split() == ["suite", "dataset", "subject", "method", "seed", "status", "ranked", "by", "date", "id"]
    assert [line.split()[3] for line in lines] == ["mean", "ridge"]
    assert f"top5 {card['scores']['words']['top5']['value']:.3f}" in lines[1]
    assert lines[1].endswith(f"{card['date'][:10]}  {card['run_id']}")
    (folder_of(runs) / "card.json").write_text("{")
    assert bench("list", "runs", "--store", runs)[1] == out
    assert bench("list", "runs", "--store", "nowhere")[0] == 2


def test_a_damaged_run_and_a_nan_are_named(bench, runs):
    path = folder_of(runs) / "scores.json"
    path.write_text(path.read_text().replace('"value": 1.0', '"value": NaN', 1))
    assert "NaN" in path.read_text()
    code, out, _ = bench("leaderboard", "--store", runs)
    assert code == 0
    assert "note: a damaged run is left out" in out
    assert "scores.json: NaN found" in out
    assert [r["method"] for r in json.loads((runs / "leaderboards/tiny/words.json").read_text())["rows"]] == ["mean"]


def test_rerun_gives_the_same_scores_to_the_last_digit(bench, made, runs):
    code, out, err = bench("rerun", folder_of(runs, "mean"), "--data", made / "tiny")
    assert (code, err.count("error")) == (0, 0), out
    assert ", 0 differ, largest difference 0 (tolerance 0" in out
    assert "differs:" not in out


def test_rerun_names_what_differs_first_and_keeps_the_run_where_asked(bench, made, runs, card, tmp_path):
    changed = copy.deepcopy(card)
    changed["versions"]["numpy"] = "0.9"
    changed["scores"]["words"]["top5"]["value"] -= 0.5
    (tmp_path / "card.json").write_text(json.dumps(changed))
    arguments = ("rerun", tmp_path / "card.json", "--data", made / "tiny", "--store", tmp_path / "again")
    code, out, _ = bench(*arguments)
    lines = out.splitlines()
    assert code == 1
    assert lines[1].startswith("differs: versions: numpy 0.9 then, ")
    assert "words top5: 0.5 then, 1 now, differs by +0.5" in lines
    assert "1 differ, largest difference 0.5 (tolerance 0.005" in lines[-1]
    assert (tmp_path / "again/tiny/tiny/ridge" / card["run_id"] / "card.json").is_file()
    code, _, err = bench(*arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert "has run" in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["spec"].update(method="rigde"), "unknown method 'rigde', did you mean 'ridge'?"),
        (lambda c: c["spec"].update(dataset="tinny"), "tinny"),
        (lambda c: c["spec"].update(subject="S9"), "unknown subject"),
        (lambda c: c["spec"].update(split="other"), "unknown split"),
        (lambda c: c["spec"]["params"].update(nothing=1), "Params"),
        (lambda c: c["dataset"].update(fingerprint="0" * 64), "the dataset here has checksum"),
        (lambda c: c["split"].update(checksum="0" * 64), "the split here has checksum"),
        (lambda c: (c["tags"].append("external predictions"), c["spec"].update(method="x")), "made elsewhere"),
    ],
)
def test_what_cannot_be_run_again_is_one_sentence(bench, made, card, tmp_path, change, said):
    bad = copy.deepcopy(card)
    change(bad)
    (tmp_path / "card.json").write_text(json.dumps(bad))
    code, out, err = bench("rerun", tmp_path / "card.json", "--data", made / "tiny")
    assert (code, out) == (2, "")
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [err.strip()]
    assert said in err


def test_parameters_of_the_card_are_those_of_the_run(made, card):
    changed = copy.deepcopy(card)
    changed["spec"]["params"]["penalties"] = [1.0, 10.0]
    request = Request(data=made / "tiny", cache=made / "cache")
    params = rerun.find(Registry(), changed, request).spec.params
    assert params["penalties"] == (1.0, 10.0)
    assert rerun.find(Registry(), card, request).spec.to_json() == card["spec"]


def test_versions_values_and_gaps_are_compared(card):
    now = copy.deepcopy(card)
    words = now["scores"]["words"]
    words["top1"]["version"] += 1
    words["top10"]["value"] = None
    del words["mrr"]
    words["l1"]["value"] += 0.004
    words["rank_median"]["value"] += 1.0
    why = {c.metric: c.why for c in rerun.compare(card, now, 0.005) if c.why}
    assert set(why) == {"top1", "top10", "mrr", "rank_median"}
    assert why["top1"] == "version 1 (bench-1) then, 2 (bench-1) now"
    assert (why["top10"], why["mrr"]) == ("no value now", "not scored now")
    assert {c.metric for c in rerun.compare(card, now, 0.0) if c.why} == {*why, "l1"}


def test_only_the_commit_does_not_make_scores_inexact(card):
    now = copy.deepcopy(card)
    now["code"]["commit"] = "0" * 40
    assert [(name, matters) for name, _, matters in rerun.differences(card, now)] == [("commit", False)]
    now["machine"]["hardware"]["processor"] = "another"
    assert [name for name, _, matters in rerun.differences(card, now) if matters] == ["hardware"]


def test_a_run_is_made_again_by_its_id_alone_from_the_boards_or_a_store(bench, made, runs, tmp_path):
    folder = folder_of(runs, "mean")
    code, _, err = bench("rerun", folder.name, "--data", made / "tiny", "--from", "elsewhere")
    assert (code, err.count("\n")) == (2, 1)
    assert f"error: {folder.name}: no such run in the records of leaderboards or in elsewhere, expected" in err
    records.write(tmp_path / "boards/records", [records.record(Run(folder))])
    for where in (("--boards", "boards"), ("--from", runs)):
        code, out, err = bench("rerun", folder.name, "--data", made / "tiny", *where)
        assert (code, err.count("error")) == (0, 0), out
        assert out.startswith(f"card: mean on tiny/S1 seed 0, run {folder.name} of ")
        assert ", 0 differ, largest difference 0 (tolerance 0" in out


@pytest.mark.parametrize("text", ["ridge", "0123", "0123456789ABCDEF", "0123456789abcdef0", "none/card.json"])
def test_what_is_no_id_and_no_file_is_one_sentence(bench, text):
    code, out, err = bench("rerun", text)
    assert (code, out) == (2, "")
    said = "no such file, expected a run directory, its card.json or a run id (16 hex digits)"
    assert err == f"error: {text}: {said}\n"


def test_an_id_that_another_record_only_mentions_is_not_that_run(tmp_path, runs):
    item = records.record(Run(folder_of(runs)))
    records.write(tmp_path, [item | {"reason": "see 0123456789abcdef"}])
    assert records.find(tmp_path, "0123456789abcdef") is None
    assert records.find(tmp_path, item["run_id"])["method"] == "ridge"


def test_a_committed_record_that_makes_no_card_is_named(tmp_path, runs):
    item = records.record(Run(folder_of(runs)))
    for bad, said in (({"versions": 3}, "versions: 3 is not of type"), ({"tags": 7}, "tags")):
        records.write(tmp_path / "records", [item | bad])
        with pytest.raises(BenchError, match=r"tiny.ridge\.jsonl: run .*: not a card") as error:
            cards.find(item["run_id"], tmp_path, tmp_path)
        assert said in str(error.value)
        (tmp_path / "records/tiny/ridge.jsonl").unlink()


def test_a_score_edited_by_hand_in_a_store_is_named_and_made_again(bench, made, runs):
    path = folder_of(runs) / "scores.json"
    scores = json.loads(path.read_text())
    scores["tracks"]["words"]["top5"]["value"] = 0.75
    path.write_text(json.dumps(scores))
    code, out, _ = bench("leaderboard", "--store", runs)
    assert code == 0
    assert "scores.json: words top5 is 0.75, its items give 1" in out.replace("\n", "")
    assert bench("leaderboard", "--submit", "ridge", "--out", "x.zip", "--store", runs)[0] == 2
    arguments = ("run", "--dataset", "tiny", "--method", "ridge", "--subject", "S1", "--data", made / "tiny")
    code, out, _ = bench(*arguments, "--store", runs)
    assert code == 0
    assert "1 runs, 0 kept from before" in out
    assert cards.read(folder_of(runs))["scores"]["words"]["top5"]["value"] == 1
