"""A few threads that help with a job, and that nobody ever waits for in vain.

A job is cut into chunks of tasks, and whoever has time *claims* the next one:

    caller    publish | chunk | chunk | chunk | chunk | chunk | wait | done
                 wakes \\                                        ^ for the last claimed chunk
    worker    sleeps ... | chunk | chunk | ...  taken away ... | finishes its chunk | spin, sleep

The caller works like everyone else, so that a worker who sleeps, or whose processor is taken by
another program, costs nothing: the caller does the chunks itself and waits only for those that
have been claimed and not finished. (Threads that get equal shares beforehand, as OpenMP's do,
wait for the slowest.) Waiting is first a spin, as the next job of a training step mostly comes
within a millisecond, then sleep on a semaphore, which leaves the processor to others.

Which thread does a chunk is chance, but not what it does: results are bit for bit the same.
All this is compiled code on one block of shared numbers. It needs no Python and takes no lock:
a caller who finds the workers busy for another caller does its job alone.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from tinynn.kernels.cpu_llvm import INT, INT32, call_address, function_of_integers

# ---------------------------------------------------------------------------------------------
# The shared numbers: places (int64) in one block. What different threads write is kept apart, in
# lines of 128 bytes, as processors pass memory between each other line by line.
# ---------------------------------------------------------------------------------------------

LINE = 16
WORK, QUIT = 0, 1  # WORK: threads that may join, and the chunks that nobody has claimed yet
UNFINISHED = LINE  # chunks
BUSY, WORKERS = 2 * LINE, 2 * LINE + 1  # a caller is at work; workers started so far
KERNEL, JOB, TASKS, CHUNK = (3 * LINE + i for i in range(4))  # what to do; tasks in a chunk
SPINS, WAIT, POST, CAPACITY = (3 * LINE + i for i in range(4, 8))  # constant
ASKED = 3 * LINE + 8  # workers asked for: fewer come if the system grants no more
ASLEEP, SEMAPHORE, ROOM = (4 * LINE + i for i in (0, 1, 2))  # + LINE * thread

# WORK is threads << 48 | end << 24 | first: chunks first to end - 1
FIRST, END, NUMBER = 1, 1 << 24, (1 << 24) - 1

CHUNKS = 16  # so many for each thread, if there are enough tasks: the last ones end together
SPIN_MICROSECONDS = 2000  # a step's jobs come closer than that, and few last longer


def _place(builder: Any, block: Any, place: Any) -> Any:
    return builder.gep(builder.inttoptr(block, INT.as_pointer()), [place])


@intrinsic
def load(typing_context, block, place):
    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_place(builder, *arguments), "seq_cst", 8)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def exchange(typing_context, block, place, value):
    """Store, and return what was there."""

    def generate(context, builder, signature, arguments):
        return builder.atomic_rmw("xchg", _place(builder, *arguments[:2]), arguments[2], "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def add(typing_context, block, place, value):
    """Add, and return what was there."""

    def generate(context, builder, signature, arguments):
        return builder.atomic_rmw("add", _place(builder, *arguments[:2]), arguments[2], "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def replace(typing_context, block, place, old, new):
    """Store `new` if `old` is still there; was it?"""

    def generate(context, builder, signature, arguments):
        place = _place(builder, *arguments[:2])
        pair = builder.cmpxchg(place, *arguments[2:], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(*[types.int64] * 4), generate


@intrinsic
def call(typing_context, function, a, b, c, d, e):
    """function(a, b, c, d, e), for its address; a C function ignores arguments it does not have."""
    return types.void(*[types.int64] * 6), call_address


@intrinsic
def pause(typing_context):
    """Tell the processor that this is a spin: saves power, and helps the core's other thread."""

    def generate(context, builder, signature, arguments):
        machine = platform.machine().lower()
        if machine in ("x86_64", "amd64"):
            kind, name, hint = ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause", []
        elif machine in ("arm64", "aarch64"):
            kind, name, hint = ir.FunctionType(ir.VoidType(), [INT32]), "llvm.aarch64.hint", [1]
        else:
            return context.get_dummy_value()
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, [INT32(h) for h in hint])
        return context.get_dummy_value()

    return types.void(), generate


# ---------------------------------------------------------------------------------------------
# Working and waiting. Thread 0 is the caller.
# ---------------------------------------------------------------------------------------------


@njit
def claim(block, thread):
    """Take a chunk: its number, or -1 if there are none, or none for this thread.

    Every other thread begins at the end: so from job to job each does mostly the same part of the
    images, and finds it in its own cache. One word holds all that decides, and `replace` fails if
    it changed: a worker that was away for a while cannot take a chunk of the next job for one of
    the last.
    """
    while True:
        work = load(block, WORK)
        first, end = work & NUMBER, work >> 24 & NUMBER
        if first == end or thread >= work >> 48:
            return -1
        if thread % 2:
            chunk, rest = end - 1, work - END
        else:
            chunk, rest = first, work + FIRST
        if replace(block, WORK, work, rest):
            return chunk


@njit
def do_chunks(block, thread):
    """Do chunks of the job until none is left. Was the last one to be finished among them?"""
    done = 0
    chunk = claim(block, thread)
    while chunk >= 0:
        lo = chunk * load(block, CHUNK)
        hi = min(load(block, TASKS), lo + load(block, CHUNK))
        call(load(block, KERNEL), lo, hi, thread, load(block, JOB), 0)
        done += 1
        chunk = claim(block, thread)
    return done > 0 and add(block, UNFINISHED, -done) == done


@njit
def ready(block, thread):
    """Has what the thread waits for happened?"""
    if thread == 0:
        return load(block, UNFINISHED) == 0
    work = load(block, WORK)
    some = work & NUMBER < work >> 24 & NUMBER
    return (some and thread < work >> 48) or load(block, QUIT) > 0


@njit
def wait(block, thread):
    """Return when the thread is `ready` (or, now and then, for no reason)."""
    for _ in range(load(block, SPINS)):
        if ready(block, thread):
            return
        pause()
    asleep = ASLEEP + LINE * thread
    exchange(block, asleep, 1)  # from here on `wake` posts
    while load(block, asleep) == 1 and not ready(block, thread):
        call(load(block, WAIT), load(block, SEMAPHORE + LINE * thread), -1, 0, 0, 0)
    exchange(block, asleep, 0)


@njit
def wake(block, thread):
    asleep = ASLEEP + LINE * thread
    if load(block, asleep) == 1 and exchange(block, asleep, 0) == 1:
        call(load(block, POST), load(block, SEMAPHORE + LINE * thread), 1, 0, 0, 0)


@function_of_integers(2)
def work(block, threads, version):
    """The life of a worker; there is room for `threads` threads."""
    caller, thread = types.int64(0), add(block, WORKERS, 1) + 1
    while thread < threads and load(block, QUIT) == 0:
        wait(block, thread)
        if do_chunks(block, thread):
            wake(block, caller)


@function_of_integers(5)
def call_with_workers(block, kernel, job, tasks, threads, version):
    """kernel(0, tasks, thread, job) in chunks, by this thread and up to `threads` - 1 workers."""
    if not replace(block, BUSY, 0, 1):
        call(kernel, 0, tasks, 0, job, 0)
        return
    chunk = max(1, tasks // (CHUNKS * threads))
    chunks = (tasks + chunk - 1) // chunk
    exchange(block, KERNEL, kernel)
    exchange(block, JOB, job)
    exchange(block, TASKS, tasks)
    exchange(block, CHUNK, chunk)
    exchange(block, UNFINISHED, chunks)
    exchange(block, WORK, threads << 48 | chunks * END)
    for thread in range(1, threads):
        wake(block, thread)
    caller = types.int64(0)
    do_chunks(block, caller)
    while not ready(block, caller):
        wait(block, caller)
    exchange(block, BUSY, 0)


@function_of_integers(2)
def stop_workers(block, threads, version):
    """Let the workers finish their chunks and end."""
    exchange(block, QUIT, 1)
    for thread in range(1, threads):
        wake(block, thread)


@function_of_integers(1)
def spin(count, version):
    for _ in range(count):
        pause()


# ---------------------------------------------------------------------------------------------
# The pool
# ---------------------------------------------------------------------------------------------


class Pool:
    """The workers of this process. They start when first wanted, and end when Python does."""

    def __init__(self, capacity: int = os.cpu_count() or 1) -> None:
        self.most = capacity  # threads, with the caller
        memory = np.zeros((5 + capacity) * LINE, np.int64)
        self.block = memory[-memory.ctypes.data // 8 % LINE :][: (4 + capacity) * LINE]
        self.address = self.block.ctypes.data
        self.renew()

    def renew(self) -> None:
        """Begin anew at the same address: a forked child has the block, but none of the threads."""
        self.block[:] = 0
        self.block[CAPACITY] = self.most
        try:
            create, self.block[WAIT], self.block[POST] = semaphores()
            for place in range(SEMAPHORE, len(self.block), LINE):
                self.block[place] = create(self.address + 8 * (place + 1))
        except (AttributeError, OSError):  # a system without them: callers do their jobs alone
            self.block[CAPACITY] = 1
        self.block[SPINS] = SPIN_MICROSECONDS / pause_microseconds()
        self.threads: list[threading.Thread] = []
        self.starting = threading.Lock()

    @property
    def capacity(self) -> int:
        """The most threads that can work, with the caller."""
        return int(self.block[CAPACITY])

    def start(self, workers: int) -> None:
        """Have at least so many, or as many as the system grants: the caller does the rest."""
        with self.starting:
            while len(self.threads) < min(workers, self.capacity - 1):
                name = f"tinynn worker {len(self.threads) + 1}"
                self.threads.append(threading.Thread(target=self.work, name=name, daemon=True))
                with suppress(RuntimeError):
                    self.threads[-1].start()
            self.block[ASKED] = len(self.threads)

    def work(self) -> None:
        work.ctypes(self.address, self.capacity, None)

    def stop(self) -> None:
        """For good: from now on callers do their jobs alone."""
        stop_workers.ctypes(self.address, self.capacity, None)
        for thread in self.threads:
            if thread.is_alive():
                thread.join(timeout=1)


def semaphores() -> tuple[Callable[[int], int], int, int]:
    """How to create one (there is room for it at an address) and get its handle; the addresses of
    `wait` and `post`. Called as wait(handle, -1) and post(handle, 1, 0) they suit all systems."""
    library: Any = ctypes.CDLL("kernel32" if sys.platform == "win32" else None)
    names = {
        "win32": "CreateSemaphoreW WaitForSingleObject ReleaseSemaphore",
        "darwin": "dispatch_semaphore_create dispatch_semaphore_wait dispatch_semaphore_signal",
    }
    init, wait, post = (
        getattr(library, name)
        for name in names.get(sys.platform, "sem_init sem_wait sem_post").split()
    )
    init.restype = ctypes.c_void_p

    def create(room: int) -> int:
        if sys.platform == "win32":
            handle = init(None, 0, 1 << 30, None)
        elif sys.platform == "darwin":
            handle = init(ctypes.c_long(0))
        else:  # the room becomes the semaphore, and its address the handle
            handle = None if init(ctypes.c_void_p(room), 0, 0) else room
        if not handle:
            raise OSError("no semaphores")
        return handle

    wait_address, post_address = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in (wait, post))
    return create, wait_address, post_address


def pause_microseconds() -> float:
    """How long a pause takes here: 10 to 140 cycles, by processor."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        spin.ctypes(1000, None)
        times.append(time.perf_counter() - start)
    return max(1e3 * min(times), 1e-3)


pool = Pool()
atexit.register(lambda: pool.stop())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.renew)
