"""One job in one process of its own, with limits on time and memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

PRELOAD = "benchmark.executors.preload"
POLL_SECONDS = 0.03


@dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Attributes
    ----------
    status : str
        ``ok``, ``failed``, ``timeout`` or ``oom``.
    reason : str
        One line; empty when ok.
    stage : str
        The last stage that was reported.
    result : dict
        What the job returned; empty unless ok.
    seconds : float
        Wall time, process start included.
    peak_bytes : int
        Peak RssAnon + RssShmem summed over the process and its children; 0 where unknown.
    """

    status: str
    reason: str
    stage: str
    result: dict[str, Any]
    seconds: float
    peak_bytes: int


def start() -> multiprocessing.context.BaseContext:
    """Return the process context; on Linux a forkserver with the heavy imports done.

    Forking after importing Apple's frameworks is not safe, so macOS starts every run afresh.
    """
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    return context


def warm_up(context: multiprocessing.context.BaseContext) -> None:
    """Wait until the forkserver has done its imports."""
    process = context.Process(target=int)
    process.start()
    process.join()


def run(
    context: multiprocessing.context.BaseContext,
    function: Callable[..., dict[str, Any]],
    job: Any,
    log: Path,
    *,
    timeout: float | None = None,
    memory_limit: int | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Call ``function(job, report)`` in a new process and wait for its end.

    Parameters
    ----------
    function : callable
        Importable; ``report(stage)`` says what it is doing; returns a dictionary.
    log : Path
        Standard output and error of the process are appended here.
    timeout : float, optional
        Seconds.
    memory_limit : int, optional
        Bytes of RssAnon + RssShmem of the process and its children.
    stop : threading.Event, optional
        When set, the process is killed and KeyboardInterrupt raised.
    """
    began, stage, peak, message = time.perf_counter(), "start", 0, None
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(function, job, str(log), sender, memory_limit))
    process.start()
    sender.close()
    killed = None
    try:
        while True:
            ready = wait([receiver, process.sentinel], timeout=POLL_SECONDS)
            if receiver in ready:
                try:
                    kind, value = receiver.recv()
                except (EOFError, OSError):
                    kind = "end"
                if kind == "stage":
                    stage = value
                    on_stage(stage)
                    continue
                if kind == "done":
                    message = value
                break
            if process.sentinel in ready:
                break
            memory = tree_memory(process.pid)
            peak = max(peak, memory)
            if memory_limit and memory > memory_limit:
                killed = ("oom", f"{stage}: used {memory / 1e9:.2f} GB, the limit is {memory_limit / 1e9:.2f} GB")
            elif timeout and time.perf_counter() - began > timeout:
                killed = ("timeout", f"{stage}: not finished after {timeout:g} s")
            if killed or (stop and stop.is_set()):
                break
    finally:
        _kill(process)
        receiver.close()
    if stop and stop.is_set():
        raise KeyboardInterrupt
    seconds = time.perf_counter() - began
    if killed:
        return Outcome(*killed, stage, {}, seconds, peak)
    if message is None:
        return Outcome(*_ended(process.exitcode, stage), stage, {}, seconds, peak)
    peak = max(peak, message.pop("peak_bytes", 0))
    return Outcome(message["status"], message["reason"], stage, message["result"], seconds, peak)


def tree_memory(pid: int) -> int:
    """Return RssAnon + RssShmem in bytes, summed over a process and its descendants; 0 where unknown."""
    try:
        pids = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        pids = [pid]
    return sum(map(process_memory, pids))


def process_memory(pid: int | str = "self") -> int:
    """Return RssAnon + RssShmem of one process in bytes; 0 where the platform does not say."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            lines = dict(line.split(":", 1) for line in file if line.startswith(("RssAnon", "RssShmem")))
    except OSError:
        return 0
    return sum(int(value.split()[0]) * 1024 for value in lines.values())


def _ended(code: int | None, stage: str) -> tuple[str, str]:
    if code == -signal.SIGKILL:
        return "oom", f"{stage}: killed by the system, most likely out of memory"
    if code is not None and code < 0:
        return "failed", f"{stage}: the process died of {signal.Signals(-code).name}"
    return "failed", f"{stage}: the process ended early with exit code {code}"


def _kill(process: Any) -> None:
    """End a process and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # its own group since setsid
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.join()


def _child(function: Callable, job: Any, log: str, sender: Any, memory_limit: int | None) -> None:
    import faulthandler
    import traceback

    os.setsid()
    _die_with_parent()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush(), sys.stderr.flush()
    os.dup2(descriptor, 1), os.dup2(descriptor, 2)
    faulthandler.enable(descriptor)
    if memory_limit and sys.platform.startswith("linux"):
        import resource

        # Data already mapped (libraries, thread stacks) is not the method's; polling does the exact count.
        soft = psutil.Process().memory_info().data + memory_limit
        resource.setrlimit(resource.RLIMIT_DATA, (soft, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    stage = ["start"]

    def report(name: str) -> None:
        stage[0] = name
        sender.send(("stage", name))

    try:
        message = {"status": "ok", "reason": "", "result": function(job, report)}
    except BaseException as error:
        traceback.print_exc()
        status, reason = _classify(error)
        message = {"status": status, "reason": f"{stage[0]}: {reason}", "result": {}}
    with contextlib.suppress(BrokenPipeError, OSError):
        sender.send(("done", message | {"peak_bytes": process_memory()}))
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(0)  # threads left behind by a method must not keep the process


def _die_with_parent() -> None:
    """Have Linux kill this process when the forkserver ends, which happens when ``bench`` does."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _classify(error: BaseException) -> tuple[str, str]:
    from benchmark.errors import BenchError

    text = " ".join(str(error).split())[:400]
    if isinstance(error, BenchError):
        return "failed", text
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "not enough memory" in text.lower():
        return "oom", f"{name}: {text or 'allocation refused'}"
    if "can't allocate memory" in text.lower() or "cannot allocate memory" in text.lower():
        return "oom", f"{name}: {text}"
    return "failed", f"{name}: {text}" if text else name
