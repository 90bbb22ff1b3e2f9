"""Planned runs become run directories: resumed, locked, limited, never half."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import filelock

from benchmark import card, provenance
from benchmark.executors import local
from benchmark.plan import Planned
from benchmark.store import FAILED, FINISHED, Run, Store, write_json
from benchmark.worker import score, train_and_predict


@dataclass(frozen=True)
class Limits:
    """How runs are carried out.

    Attributes
    ----------
    jobs : int
        Runs at a time.
    timeout : float or None
        Seconds for training and prediction, and again for scoring.
    memory_limit : int or None
        Bytes.
    fail_fast, force : bool
    """

    jobs: int = 1
    timeout: float | None = None
    memory_limit: int | None = None
    fail_fast: bool = False
    force: bool = False


@dataclass
class Session:
    """One call of ``bench run``: the processes' context and what listens to it."""

    store: Store
    limits: Limits
    on_event: Callable[[str, Planned, str], None] = lambda kind, planned, text: None
    predict: Callable = train_and_predict  # what makes the predictions
    stop: threading.Event = field(default_factory=threading.Event)
    _context: Any = None
    _starting: threading.Lock = field(default_factory=threading.Lock)
    start_seconds: float = 0.0

    def context(self) -> Any:
        """Return the process context, its imports done; started when the first run needs it."""
        with self._starting:
            if self._context is None:
                began = time.perf_counter()
                self._context = local.start()
                local.warm_up(self._context)
                self.start_seconds = time.perf_counter() - began
        return self._context


def run_all(planned: Sequence[Planned], session: Session) -> list[Run]:
    """Carry out every planned run that is not finished, and return all of them in order.

    A run that another process is making is waited for, after the others. On Ctrl-C the processes are
    killed, their scratch directories removed, and every finished run stays.
    """
    results: dict[int, Run] = {}
    waiting = deque(enumerate(planned))
    for index, item in list(waiting):
        if (run := _finished(item, session)) is not None:
            results[index] = run
            waiting.remove((index, item))
            session.on_event("kept", item, run.status["status"])
    if waiting:
        session.store.sweep()

    def work() -> None:
        while not session.stop.is_set():
            try:
                index, item = waiting.popleft()
            except IndexError:
                return
            run = _attempt(item, session)
            if run is None:  # another process has it: let the others go first
                waiting.append((index, item))
                session.on_event("waiting", item, "another bench run is making it")
                time.sleep(0.2)
                continue
            results[index] = run
            session.on_event("end", item, run.status["status"])
            if session.limits.fail_fast and run.status["status"] in FAILED:
                waiting.clear()

    with ThreadPoolExecutor(max(1, session.limits.jobs)) as pool:
        futures = [pool.submit(work) for _ in range(max(1, session.limits.jobs))]
        try:
            for future in futures:
                future.result()
        except BaseException:
            session.stop.set()
            raise
    return [results[i] for i in sorted(results)]


def _finished(item: Planned, session: Session) -> Run | None:
    """Return the stored run where nothing is left to do."""
    run = session.store.get(item.spec, item.id)
    if run is None or session.limits.force or run.status["status"] not in FINISHED:
        return None
    if run.status["status"] == "skipped":
        return run if item.skip else None
    return run if run.has_predictions and run.scores.get("score_id") == item.score_id else None


def _attempt(item: Planned, session: Session) -> Run | None:
    """Make, score or find one run; None where another process holds its lock."""
    lock = session.store.lock(item.id)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return None
    try:
        if (run := _finished(item, session)) is not None:
            return run
        session.on_event("start", item, "")
        run = session.store.get(item.spec, item.id)
        if run and run.status.get("predicted") and run.has_predictions and not session.limits.force:
            return _score_again(item, run, session)
        return _make(item, session)
    finally:
        lock.release()


def _make(item: Planned, session: Session) -> Run:
    scratch = session.store.scratch(item.spec, item.id)
    try:
        write_json(scratch / "spec.json", item.spec.to_json())
        if item.skip:
            return _commit(item, session, scratch, {"status": "skipped", "reason": item.skip}, {}, 0)
        context, began = session.context(), time.perf_counter()
        job = dataclasses.replace(item.job, scratch=scratch)
        first = _process(session.predict, job, item, session, context)
        done, seconds, peak = dict(first.result), dict(first.result.get("seconds", {})), first.peak_bytes
        outcome = first
        if first.status == "ok":
            outcome = _process(score, job, item, session, context)
            seconds |= outcome.result.get("seconds", {})
            done["cpu_seconds"] = done.get("cpu_seconds", 0) + outcome.result.get("cpu_seconds", 0)
            peak = max(peak, outcome.peak_bytes)
        else:
            shutil.rmtree(scratch / "predictions", ignore_errors=True)
        wall = time.perf_counter() - began
        done["seconds"] = seconds | {"total": wall, "overhead": wall - sum(seconds.values())}
        status = {"status": outcome.status, "reason": outcome.reason, "predicted": first.status == "ok"}
        return _commit(item, session, scratch, status | {"stage": outcome.stage}, done, peak)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _score_again(item: Planned, run: Run, session: Session) -> Run:
    """Score the stored predictions; training is not repeated."""
    outcome = _process(score, dataclasses.replace(item.job, scratch=run.path), item, session, session.context())
    status = {"status": outcome.status, "reason": outcome.reason, "predicted": True, "stage": outcome.stage}
    write_json(run.path / "status.json", status)
    card.write(run.path)
    return Run(run.path)


def _process(function, job, item: Planned, session: Session, context) -> local.Outcome:
    return local.run(
        context,
        function,
        job,
        job.scratch / "log.txt",
        timeout=session.limits.timeout,
        memory_limit=session.limits.memory_limit,
        on_stage=lambda stage: session.on_event("stage", item, stage),
        stop=session.stop,
    )


def _commit(item: Planned, session: Session, scratch, status: dict, done: dict, peak: int) -> Run:
    record = {
        "run_id": item.id,
        "date": provenance.now(),
        **provenance.commit(),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
        "threads": item.job.threads,
        "seed": item.spec.seed,
        "tracks": sorted(item.job.tracks),
        "session_start_seconds": round(session.start_seconds, 3),
        "peak_mb": round(peak / 1e6, 1),
        **item.facts,
        **done,
    }
    write_json(scratch / "provenance.json", record)
    write_json(scratch / "status.json", status)
    card.write(scratch)
    return session.store.commit(scratch, item.spec, item.id)
