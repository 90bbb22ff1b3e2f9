"""The command line. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from benchmark import __version__
from benchmark.errors import BenchError

KINDS = ("methods", "metrics", "datasets", "suites")
IMPORTS = ("cognival",)  # the keys of benchmark.data.imports.KINDS, whose import would slow every verb down


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="bench")
def cli() -> None:
    """Compare methods that decode words and pictures from fMRI: fixed splits, one metrics module, leaderboards."""


def main() -> None:
    """Run the command line; bad input is one sentence and exit code 2."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's way to say Ctrl-C
    try:
        cli(standalone_mode=False)
    except BenchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; finished runs are kept, the same command goes on from there", err=True)
        sys.exit(130)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        click.echo(f"error: {error.filename or 'input or output'}: {error.strerror or error}", err=True)
        sys.exit(2)


def _plugins(function):
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Python file that defines a method or a metric; may be given several times.",
    )(function)


def _data(function):
    return click.option("--data", metavar="DIR", help="A dataset's folder or a parent of several; else BENCH_DATA.")(
        function
    )


def _weights(function):
    return click.option(
        "--weights", type=click.Path(path_type=Path), metavar="DIR", help="Folder of pretrained weights."
    )(function)


def _boards(function):
    return click.option(
        "--boards",
        default="leaderboards",
        show_default=True,
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Folder of the committed boards.",
    )(function)


def _store(function):
    return click.option(
        "--store",
        default="runs",
        show_default=True,
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Folder of the run directories.",
    )(function)


@cli.command()
@click.option("--suite", help="Suite to run; without --dataset: mini.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=("all",),
    show_default="all",
    metavar="NAME[:PRESET],...",
    help="Methods by name, or all.",
)
@click.option("--dataset", help="Only this dataset (of the suite, or a folder dataset under --data).")
@click.option("--split", help="Split of the dataset; else all of its suite, or the first of a folder's header.")
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    metavar="NAME,...|all",
    help="Subjects; all: those of the published boards. Default: the main job's.",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="The seed of every random draw. [default: 0]")
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Seeds 0 to N-1.")
@click.option("--profile", default="mini", show_default=True, help="mini: small settings; full: the published ones.")
@_weights
@click.option(
    "--ladder",
    type=click.Choice(["off", "on", "full"]),
    default="on",
    show_default=True,
    help="What reconstructions are compared with; full: also the same method trained on permuted pairs.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time. [default: mini: cores, at most 8; full: 1]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of a run. [default: cores / jobs]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Seconds a run may take to train and predict, and again to be scored. [default: mini: 900; full: no limit]",
)
@click.option(
    "--memory-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="Memory a run may use (RssAnon + RssShmem of its processes).",
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first run that fails.")
@click.option("--force", is_flag=True, help="Run again what is finished.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the table as JSON, one object per run and track.",
)
@_plugins
@_data
@_store
def run(**options: Any) -> None:
    """Run methods on a suite, then print and write its leaderboards.

    A finished run is not made again; failed ones are tried anew. Exit code 1 where a run failed.
    """
    from benchmark.commands import run as command

    sys.exit(command(**options))


@cli.command()
@click.argument("paths", nargs=-1, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--suite", help="Suite of the dataset; without --dataset and --suite: mini.")
@click.option("--dataset", help="Dataset whose test set was predicted, where the suite has several.")
@click.option("--split", help="Split of the dataset, instead of --suite.")
@click.option("--subject", required=True, help="Subject whose test set was predicted.")
@click.option("--track", help="Where vectors could stand in two tracks: words or embedding.")
@click.option("--name", default="external", show_default=True, help="What the row is called.")
@click.option("--ids", type=click.Path(path_type=Path), metavar="FILE", help="Stimulus ids in the order of rows.")
@click.option("--order", type=click.Choice(["split"]), help="Say that rows are in the split's order.")
@click.option("--key", metavar="NAME", help="Which array of a file with several.")
@click.option("--trained-on", default="", metavar="TEXT", help="What the pipeline was trained on; kept with the row.")
@click.option("--show-ids", is_flag=True, help="Print the test items' ids in the split's order, and stop.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="The seed of the predictions.")
@click.option("--profile", default="mini", show_default=True, help="Which frozen models metrics use: mini or full.")
@_weights
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--threads", default=os.cpu_count() or 1, type=click.IntRange(min=1), help="[default: cores]")
@_plugins
@_data
@_store
def score(**options: Any) -> None:
    """Score reconstructions or embeddings that another pipeline made.

    PATH is a folder of pictures whose names carry stimulus ids, or an .npy, .npz or .pt file with one row per test
    item; several where the pipeline stands in several tracks. See docs/scoring-your-own.md.
    """
    from benchmark.commands import score as command

    sys.exit(command(**options))


@cli.command()
@click.option(
    "--baseline",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Committed records (a folder or .jsonl), or the table of bench run --json.",
)
@click.option("--method", "methods", multiple=True, metavar="NAME,...", help="Only these methods. [default: all]")
@click.option("--strict", is_flag=True, help="Rows that the store lacks count too.")
@_store
def regress(**options: Any) -> None:
    """Compare a store's scores with committed ones; exit 1 where one moved by more than its noise."""
    from benchmark.commands import regress as command

    sys.exit(command(**options))


@cli.command()
@click.argument("run", metavar="RUN")
@_weights
@click.option("--device", help="Default: the card's.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: the card's.")
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the new run here. [default: it is compared and removed]",
)
@_boards
@click.option(
    "--from",
    "source",
    default="runs",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Store that a run id is looked up in next.",
)
@_plugins
@_data
def rerun(**options: Any) -> None:
    """Make a run again and compare the scores.

    RUN is the id of a run, as the boards' card pages and bench list runs show it, or a run directory or its card.
    Says first what differs in code, versions and machine; where nothing does, scores must be the same to the last
    digit. Exit code 0: they agree, 1: they differ, 2: it cannot be run here.
    """
    from benchmark.rerun import rerun as command

    sys.exit(command(**options))


@cli.command("list")
@click.argument("kind", required=False, type=click.Choice((*KINDS, "runs")))
@_plugins
@_store
def list_(kind: str | None, plugins: tuple[Path, ...], store: Path) -> None:
    """List methods, metrics, datasets or suites (all four where none is named), or the runs of a store."""
    if kind == "runs":
        from benchmark.listing import lines

        return click.echo("\n".join(lines(store)))
    from benchmark.registry import Registry

    registry = Registry(plugins)
    for title in (kind,) if kind else KINDS:
        if not kind:
            click.secho(title, bold=True)
        entries = registry.entries(title[:-1])
        width = max((len(e.name) for e in entries), default=0)
        for entry in entries:
            tracks = ", ".join(entry.meta.get("tracks", ()))
            tail = f" [{tracks}{'; control' if entry.meta.get('control') else ''}]" if tracks else ""
            click.echo(f"{'' if kind else '  '}{entry.name:<{width}}  {entry.summary}{tail}")


@cli.command()
@click.argument("kind", type=click.Choice([k[:-1] for k in KINDS]))
@click.argument("name")
@_plugins
def info(kind: str, name: str, plugins: tuple[Path, ...]) -> None:
    """Say everything about one method, metric, dataset or suite."""
    from benchmark.describe import describe
    from benchmark.registry import Registry

    click.echo(describe(Registry(plugins), kind, name))


@cli.command()
@click.option("--publish", is_flag=True, help="Merge the store's records into the committed ones and render both.")
@click.option("--check", is_flag=True, help="Exit 1 where the committed boards differ from their records.")
@click.option("--submit", metavar="RUN|FILTER", help="Bundle runs: a run, its id, method[:preset] or name=value,...")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.zip", help="The bundle to write.")
@click.option(
    "--accept",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="BUNDLE",
    help="Score a bundle's predictions again; where the scores agree, its runs join the committed records.",
)
@_weights
@click.option("--suite", help="Only this suite.")
@_boards
@_plugins
@_data
@_store
def leaderboard(**options: Any) -> None:
    """Render leaderboards from the store, publish them, check the published ones, or send and take runs of others."""
    from benchmark.commands import leaderboard as command

    sys.exit(command(**options))


@cli.command()
@click.option("--suite", help="Only this suite.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder of the page; an earlier report there is replaced. [default: report, in the store]",
)
@click.option("--all", "everything", is_flag=True, help="Every subject and seed in the gallery, not only the first.")
@_plugins
@_data
@_store
def report(**options: Any) -> None:
    """Make a folder of HTML to open in a browser: sortable boards, and every test item with its predictions."""
    from benchmark.commands import report as command

    command(**options)


@cli.command()
@click.argument("a")
@click.argument("b")
@click.option("--metric", help="Only this metric.")
@click.option("--track", help="Only this track.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the comparison as JSON.",
)
@_store
def compare(**options: Any) -> None:
    """Compare methods A and B of a store: METHOD[:PRESET], or the id of a run.

    Prints the difference A - B with interval, p-value and effect size, over test items and, from three subjects on,
    over subjects, and the items where the two differ most.
    """
    from benchmark.commands import compare as command

    command(**options)


@cli.group()
def data() -> None:
    """Check datasets, look at them, and import files of others."""


@data.command("check")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@_plugins
@_data
def data_check(folder: Path | None, plugins: tuple[Path, ...], data: str | None) -> None:
    """Name every fault of the datasets in FOLDER (or --data, BENCH_DATA) at once; exit 2 where there is one."""
    from benchmark.commands import data_check as command

    sys.exit(command(folder, plugins, data))


@data.command("show")
@click.argument("dataset")
@click.option("--subject", help="Default: the first.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.png", help="Default: DATASET-SUBJECT.png."
)
@_plugins
@_data
def data_show(dataset: str, subject: str | None, out: Path | None, plugins, data: str | None) -> None:
    """Draw one picture of responses, ROI masks and stimuli, to confirm that loading was right."""
    from benchmark.commands import data_show as command

    click.echo(command(dataset, subject, out, plugins, data))


@data.command("import")
@click.argument("kind", type=click.Choice(IMPORTS))
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", type=click.Path(path_type=Path))
@click.option("--vectors", type=click.Path(path_type=Path), metavar="FILE", help="Word vectors, as text.")
@click.option(
    "--words",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The words of the vectors, one per line; not needed where each vector's line starts with its word.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder dataset to make, which must not be there yet; its last part is the dataset's name.",
)
def data_import(kind: str, sources: tuple[Path, ...], out: Path, **options: Path | None) -> None:
    """Make a folder dataset of files as others publish them.

    KIND cognival: Pereira et al. 2018 of the CogniVal collection, see docs/cognival.md.
    """
    from benchmark.commands import data_import as command

    command(kind, sources, out, options)


@data.command("prepare")
@click.argument("name")
@click.option("--subject", type=click.IntRange(min=1), required=True, metavar="N", help="Subject's number.")
@click.option("--data", "source", required=True, metavar="DIR|URL", help="Released files: a folder or an fsspec URL.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--sessions", default=37, show_default=True, type=click.IntRange(min=1), help="The first N sessions.")
@click.option("--size", type=click.IntRange(min=1), metavar="PIXELS", help="Store smaller pictures, antialiased.")
@click.option("--betas", metavar="NAME", help="Version of the betas. [default: betas_fithrf_GLMdenoise_RR]")
@click.option("--captions", metavar="FILE", help="Captions, where they are not among the released files.")
@click.option("--stimuli", metavar="FILE", help="Pictures, where they are not among the released files.")
def data_prepare(**options: Any) -> None:
    """Make a compact folder of a large dataset's released files; after a kill, the same command goes on."""
    from benchmark.commands import data_prepare as command

    command(**options)


@cli.command()
@click.argument("dataset", required=False)
@click.option("--subject", "subjects", multiple=True, metavar="NAME,...|all", help="Default: the first.")
@click.option("--split", help="Split of the dataset; else that of its suite, or the first of a folder's header.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=".", metavar="DIR", help="Where pictures go."
)
@click.option("--models", is_flag=True, help="Check the frozen models of profile mini instead.")
@click.option("--only", multiple=True, metavar="NAME,...", help="With --models: only these models.")
@_weights
@_plugins
@_data
def doctor(dataset: str | None, models: bool, only: tuple[str, ...], weights: Path | None, **options: Any) -> None:
    """Say whether DATASET is sane, in sentences and with a picture: alignment, repeats, leaks, shifts.

    With --models: show what the frozen models do from true features, the upper bounds of every reconstruction.
    Exit code 1 where a fault is found, or a model's figure is below its aim.
    """
    from benchmark.commands import doctor_data, doctor_models

    if models == bool(dataset):
        raise BenchError("bench doctor: expected a DATASET or --models, one of them")
    sys.exit(doctor_models(only, weights) if models else doctor_data(dataset, weights=weights, **options))


@cli.group()
def cache() -> None:
    """List, verify or clear the features of pretrained models kept in BENCH_CACHE."""


@cache.command("list")
def cache_list() -> None:
    """Show what is kept: model, output, rows, size."""
    from benchmark.commands import cache_list as command

    command()


@cache.command("verify")
def cache_verify() -> None:
    """Read every row again; exit 1 where one is damaged."""
    from benchmark.commands import cache_verify as command

    sys.exit(command())


@cache.command("clear")
@click.option("--model", help="Only this model, as bench cache list names it.")
def cache_clear(model: str | None) -> None:
    """Remove the features; they are computed again when needed."""
    from benchmark.commands import cache_clear as command

    command(model)


if __name__ == "__main__":
    main()
