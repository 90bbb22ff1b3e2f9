"""Pictures of all methods in one: what is on their axes, when they are drawn, and what is missed where they are not."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmark import board_figures, board_page
from benchmark import leaderboard as boards
from benchmark.board_pictures import pictures
from benchmark.figures import STIMULI, fitting, shown

N, CANDIDATES = 40, 60
FOLDER = "s/pictures/d/sp"


def run(method, subject="A", seed=0, value=0.7, track="embedding", ranks=None, **more):
    score = {"n": N, "higher_is_better": True, "version": 1, "protocol": "bench-1", "range": [0, 1], "note": ""}
    rng = np.random.default_rng([len(method), seed])
    per_item = value + 0.05 * rng.standard_normal(N)
    per_item += value - per_item.mean()
    names = [f"f/s{i}" for i in range(N)]
    items = {"two_way": dict(zip(names, per_item.round(6).tolist(), strict=True))}
    scores = {"two_way": score | {"value": value, "chance": 0.5}}
    if ranks is not None:
        items["rank_median"] = dict(zip(names, ranks, strict=True))
        middle = {"value": float(np.median(ranks)), "chance": (CANDIDATES + 1) / 2, "higher_is_better": False}
        scores["rank_median"] = score | middle
    record = {
        "suite": "s", "dataset": "d", "subject": subject, "split": "sp", "method": method, "preset": "default",
        "profile": "mini", "seed": seed, "params": {}, "run_id": f"{method}-{subject}-{seed}", "status": "ok",
        "reason": "", "tracks": [track], "scores": {track: scores}, "items": {track: items},
        "seconds": {"total": 2.0 + seed, "train": 1.0}, "date": "2026-01-02T03:04:05Z", "commit": "c" * 40,
        "dirty": False, "source": "x", "suite_version": "1.0", "dataset_version": "1.0", "dataset_fingerprint": "f",
        "split_checksum": "k", "split_unit": "stimulus", "control": False, "tags": [], "peak_mb": 10.0 + seed,
        "device": "cpu", "threads": 1, "versions": {}, "hardware": {}, "weights": {}, "preparation": [],
        "columns": {track: {"metrics": list(scores), "ranked": "two_way"}},
    }  # fmt: skip
    return record | more


def table(items):
    (found,) = boards.tables(items, {})
    return found


def controls(**more):
    mean = run("mean", value=0.5, control=True, **more)
    return [mean, run("oracle", value=1.0, control=True, tags=["oracle"], **more)]


def figure(items, name):
    drawing = board_figures.drawings(table(items))[name]
    return drawing.draw(drawing.content), drawing.content


def lines(axes, style):
    found = [line for line in axes.get_lines() if line.get_marker() == style]
    return [(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in found]


def points(axes, label):
    """Return the points of a scatter, or the ends of the lines, that have this label."""
    (found,) = [c for c in axes.collections if c.get_label() == label]
    return found.get_segments() if label == "intervals" else found.get_offsets().tolist()


def test_scores_have_a_point_an_interval_and_the_subjects_of_every_row_in_the_order_of_the_board():
    items = [
        run(m, s, value=v + d) for m, v in (("b", 0.6), ("a", 0.8)) for s, d in (("S", -0.1), ("T", 0), ("U", 0.1))
    ]
    items += [run("mean", s, value=0.5, control=True) for s in "STU"]
    t = table(items)
    drawn, _ = figure(items, "scores.png")
    (axes,) = drawn.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "mean"]
    np.testing.assert_allclose(points(axes, "values"), [(0.8, 0), (0.6, 1), (0.5, 2)])
    np.testing.assert_allclose([x for x, y in points(axes, "parts") if y < 1], [0.7, 0.8, 0.9])
    # t interval over the three subjects: scipy.stats.t.ppf(.975, 2) * .1 / sqrt(3)
    np.testing.assert_allclose(points(axes, "intervals")[0], [(0.8 - 0.248414, 0), (0.8 + 0.248414, 0)], atol=1e-5)
    assert [axes.texts[i + 1].get_text() for i in range(3)] == [str(r.rank or "") for r in t.rows]
    assert any(found[0] == [0.5, 0.5] for found in lines(axes, "None"))  # chance
    assert axes.get_xlabel() == "two_way (higher is better)"
    low, high = axes.get_xlim()
    assert low < 0.551586
    assert high > 1.04


def test_two_subjects_have_the_interval_over_items_and_a_single_one_shows_its_seeds():
    items = [run("a", s) for s in "ST"]
    drawn, content = figure(items, "scores.png")
    assert content["over"] == "test items"
    assert content["rows"][0]["interval"] == pytest.approx(table(items).rows[0].interval, rel=1e-5)
    seeds = [run("a", seed=n, value=v) for n, v in enumerate((0.6, 0.7, 0.8))]
    drawn, content = figure(seeds, "scores.png")
    assert content["part"] == "seed"
    assert [x for x, _ in points(drawn.axes[0], "parts")] == [0.6, 0.7, 0.8]


def test_an_oracle_far_from_the_rest_is_written_at_the_edge():
    items = [run("a", value=0.52), *controls()]
    drawn, _ = figure(items, "scores.png")
    assert len(points(drawn.axes[0], "values")) == 2
    assert "1 →" in [text.get_text() for text in drawn.axes[0].texts]
    assert drawn.axes[0].get_xlim()[1] < 0.7
    near, _ = figure([run("a", value=0.9), *controls()], "scores.png")
    assert len(points(near.axes[0], "values")) == 3


def test_cost_is_the_mean_of_seconds_and_the_largest_memory_without_oracles():
    items = [run("a", seed=n, value=0.7) for n in (0, 1)] + [r for n in (0, 1) for r in controls(seed=n)]
    drawn, _ = figure(items, "cost.png")
    seconds, memory = drawn.axes
    assert lines(seconds, board_figures.MARKERS[0]) == [([2.5], [0.7])]
    assert lines(memory, board_figures.MARKERS[0]) == [([11.0], [0.7])]
    assert seconds.get_xscale() == "log"
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["a", "mean"]


def test_ranks_are_counted_over_all_runs_and_chance_is_level():
    best, spread = [1.0] * N, np.linspace(1, CANDIDATES, N).tolist()
    items = [run("good", ranks=best), run("good", seed=1, ranks=spread), run("flat", ranks=spread)]
    items += [run("flat", seed=1, ranks=[[x, x] for x in spread])]
    items += [run("without", seed=seed, columns=items[0]["columns"]) for seed in (0, 1)]
    drawn, content = figure(items, "ranks.png")
    rows = {row["name"]: row for row in content["rows"]}
    assert set(rows) == {"good", "flat"}
    assert rows["good"]["n_candidates"] == CANDIDATES
    assert sum(rows["good"]["counts"]) == 2 * N
    assert rows["good"]["counts"][0] == N + 2
    assert sum(rows["flat"]["counts"]) == 3 * N  # two rows of an item are two ranks
    axes = next(axes for axes in drawn.axes if axes.get_title().startswith("good"))
    (stairs,) = axes.patches
    values, edges, _ = stairs.get_data()
    assert values[0] == pytest.approx((N + 2) / (2 * N))
    assert (edges[0], edges[-1]) == (0.5, CANDIDATES + 0.5)
    assert lines(axes, "None")[0][1] == pytest.approx([1 / board_figures.BINS] * 2)


def test_what_is_listed_is_what_records_hold():
    bare = run("a")
    del bare["items"]
    assert board_figures.listed(table([bare])) == ["scores.png", "cost.png"]
    assert board_figures.listed(table([run("a", ranks=[1.0] * N)])) == ["scores.png", "cost.png", "ranks.png"]
    failed = run("a", status="failed", reason="broke", scores={}, items={}, seconds={}, peak_mb=None)
    assert board_figures.listed(table([failed])) == []
    text = board_page.render([table([failed])])["s/embedding.md"]
    assert "![" not in text
    assert "### Pictures" not in text


def reconstructions(folder, names=("a", "b"), stimuli=True):
    """Write the predictions of runs as a store has them; returns records and the true pictures."""
    ids = [f"f/s{i}" for i in range(N)]
    truth = np.random.default_rng(0).integers(0, 256, (N, 32, 32, 3), np.uint8)
    items = [run(name, track="reconstruction", value=0.6, figures=["reconstructed.png"]) for name in names]
    extra = [run("nearest-train", track="reconstruction", value=0.55, control=True)]
    extra += [run("oracle", track="reconstruction", value=1.0, control=True, tags=["oracle"])]
    for number, item in enumerate([*items, *extra]):
        here = folder / "s/d" / item["method"] / item["run_id"]
        (here / "predictions/f").mkdir(parents=True)
        (here / "predictions/f/items.json").write_text(json.dumps(ids))
        mine = truth if item["method"] == "oracle" else np.full_like(truth, 40 * number)
        np.save(here / "predictions/f/images.npy", mine)
        (here / "reconstructed.png").write_bytes(b"picture")
        if stimuli and item in items:
            rows = shown(ids)
            np.savez(here / STIMULI, ids=np.array(ids)[rows], images=truth[rows])
    return [*items, *extra], truth


@pytest.mark.parametrize("stimuli", [True, False])
def test_the_grid_has_the_stimuli_and_every_methods_pictures_of_them(tmp_path, stimuli):
    """With the stimuli that runs keep; where they are of an older version, from the oracle."""
    items, truth = reconstructions(tmp_path, stimuli=stimuli)
    t = table(items)
    content = board_figures.drawings(t)["grid.png"].store(tmp_path, True)
    assert content["names"] == ["stimulus", "a", "b", "nearest-train"]
    rows = shown([f"f/s{i}" for i in range(N)])
    np.testing.assert_array_equal(content["columns"][0], truth[rows])
    assert [int(column.min()) for column in content["columns"][1:]] == [0, 40, 80]
    axes = board_figures.draw_grid(content).axes[0]
    (image,) = axes.get_images()
    assert [text.get_text() for text in axes.texts] == ["stimulus", "a", "b", "nearest-\ntrain"]
    pixels = image.get_array()
    np.testing.assert_array_equal(pixels[1:128:4, 2:128:4], truth[rows[0]])  # every pixel is four wide and high
    assert (pixels[132:260, 264:392] == 40).all()


def test_the_board_links_the_same_pictures_with_and_without_a_store(tmp_path):
    items, _ = reconstructions(tmp_path / "store")
    t = table(items)
    text = board_page.render([t])
    links = {part.partition(")")[0] for part in text["s/reconstruction.md"].split("](pictures/")[1:]}
    assert links == {name.removeprefix("s/pictures/") for name in pictures([t])}
    assert "d/sp/reconstruction/grid.png" in links
    out = tmp_path / "out"
    board_page.write(out, text, pictures([t]))  # from records alone
    assert board_page.stale(out, text, pictures([t])) == [
        f"{FOLDER}/a-reconstructed.png", f"{FOLDER}/b-reconstructed.png", f"{FOLDER}/reconstruction/grid.png",
    ]  # fmt: skip
    board_page.write(out, text, pictures([t]), tmp_path / "store")
    assert board_page.stale(out, text, pictures([t])) == []
    with Image.open(out / FOLDER / "reconstruction/grid.png") as picture:
        assert picture.size[1] > 700


def test_a_committed_grid_stays_where_the_store_lacks_a_method(tmp_path):
    items, _ = reconstructions(tmp_path / "store")
    files, out = board_page.render([table(items)]), tmp_path / "out"
    board_page.write(out, files, pictures([table(items)]), tmp_path / "store")
    path = out / FOLDER / "reconstruction/grid.png"
    before = path.read_bytes()
    (tmp_path / "store/s/d/a/a-A-0/predictions/f/images.npy").unlink()
    board_page.write(out, files, pictures([table(items)]), tmp_path / "store")
    assert path.read_bytes() == before
    path.unlink()
    board_page.write(out, files, pictures([table(items)]), tmp_path / "store")
    assert path.is_file()  # what there is
    path.unlink()
    board_page.write(out, files, pictures([table(items)]), tmp_path / "nowhere")
    assert not path.exists()


def test_check_names_a_picture_that_is_missing_or_of_other_records_and_only_that_is_drawn_again(tmp_path):
    items = [run("a"), run("b", value=0.6), *controls()]
    t = table(items)
    files = board_page.render([t])
    board_page.write(tmp_path, files, pictures([t]))
    assert board_page.stale(tmp_path, files, pictures([t])) == []
    scores, cost = (tmp_path / FOLDER / "embedding" / name for name in ("scores.png", "cost.png"))
    old = scores.stat().st_mtime_ns, cost.stat().st_mtime_ns
    board_page.write(tmp_path, files, pictures([t]))
    assert (scores.stat().st_mtime_ns, cost.stat().st_mtime_ns) == old
    slower = table([item | {"seconds": {"total": 9.0}} for item in items])
    new = board_page.render([slower])
    stale = board_page.stale(tmp_path, new, pictures([slower]))
    assert [name for name in stale if name.endswith(".png")] == [f"{FOLDER}/embedding/cost.png"]
    board_page.write(tmp_path, new, pictures([slower]))
    assert scores.stat().st_mtime_ns == old[0]
    assert cost.stat().st_mtime_ns != old[1]
    scores.unlink()
    assert board_page.stale(tmp_path, new, pictures([slower])) == [f"{FOLDER}/embedding/scores.png"]


def test_the_same_records_draw_the_same_bytes(tmp_path):
    items = [run("a", ranks=[2.0] * N), run("b", value=0.6, ranks=[5.0] * N), *controls(ranks=[3.0] * N)]
    for folder, given in (("one", items), ("two", items[::-1])):
        board_page.write(tmp_path / folder, {}, pictures([table(given)]))
    names = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png")]
    assert len(names) == 3
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)


def test_long_names_and_many_methods_are_not_cut_off():
    items = [run(f"a-method-with-a-very-long-name-{i:02d}", value=0.5 + 0.01 * i, ranks=[3.0] * N) for i in range(25)]
    for name, given in (("scores.png", items), ("cost.png", items), ("ranks.png", items[:7])):
        drawn, _ = figure(given, name)
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        renderer = FigureCanvasAgg(drawn).get_renderer()
        box = drawn.get_tightbbox(renderer)
        assert (box.x0, box.y0) >= (0, 0), name
        assert box.x1 <= board_figures.WIDE, name
        assert box.y1 <= drawn.get_figheight(), name


def test_large_pictures_are_made_smaller_and_small_ones_stay():
    large = np.full((2, 300, 600, 3), 7, np.uint8)
    assert fitting(large, 128).shape == (2, 64, 128, 3)
    grey = np.full((2, 200, 200, 1), 7, np.uint8)
    assert fitting(grey, 100).shape == (2, 100, 100, 1)
    assert (fitting(grey, 100) == 7).all()
    assert fitting(grey, 200) is grey
