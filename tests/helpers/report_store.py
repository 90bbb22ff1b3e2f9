"""What tests of reports read from a store and from a page."""

import json
from functools import partial

import numpy as np
from PIL import Image

from benchmark import leaderboard as boards
from benchmark import records, report, report_gallery
from benchmark.registry import Registry
from benchmark.store import Store

METHODS = ("ridge", "oracle", "staged", "broken")


def tables_of(made):
    return boards.tables(records.from_store(Store(made / "runs")), {})


def write(made, out, data="tiny", **more):
    truth = partial(report_gallery.truth_of, Registry(), data=data and made / data, cache=made / "cache")
    return report.write(out, tables_of(made), made / "runs", truth, **more)


def content(path):
    """Return what a data file assigns."""
    return json.loads(path.read_text().partition(" = ")[2].rstrip(";\n"))


def gallery(page, number=0):
    return content(page / f"data/tiny/{number}.js")


def of(found, label):
    return next(r for r in found["runs"] if r["label"] == label)


def folder_of(made, run):
    (path,) = (made / "runs").glob(f"tiny/tiny/*/{run['run_id']}")
    return path


def tile(page, sheet, row):
    """Return one picture of a sheet, by the rule that the page uses."""
    line, column = divmod(row % sheet["per"], sheet["columns"])
    x, y = (k * pitch + sheet["margin"] for k, pitch in zip((column, line), sheet["pitch"], strict=True))
    with Image.open(page / sheet["files"][row // sheet["per"]]) as picture:
        return np.asarray(picture)[y : y + sheet["size"][1], x : x + sheet["size"][0]]


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
