"""Worker threads and the life of a process: idle, fork, several threads, signals, the end."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTS = """
import os, signal, threading, time
import numpy as np
"""
START = """
from tinynn.kernels import cpu_conv, cpu_threads

x, w = np.ones((16, 7, 7, 64), np.float32), np.ones((64, 3, 3, 64), np.float32)

def work():
    y = cpu_conv.conv2d(x, w, (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert y[3, 3, 3, 3] == 9 * 64

def work_for(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        work()

work()
"""


def python(script: str, start: str = START) -> None:
    """Run START and the script in an interpreter of their own; it must end by itself, and well."""
    script = IMPORTS + start + script
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    subprocess.run(command, timeout=60, check=True)


def test_no_spinning_when_idle(monkeypatch):
    """Nor do BLAS's threads, which small products and recurrences would wake."""
    for name in "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS":
        monkeypatch.delenv(name, raising=False)  # or BLAS might have one thread anyway
    python("""
import hwr.models, tinynn as tn
from tinynn import functional as F, nn, optim

def step(model, samples):
    images = tn.Tensor(np.ones((samples, 28, 28, 1), np.float32))
    optimizer = optim.SGD(model.parameters(), lr=.1)
    F.cross_entropy(model(images), np.arange(samples) % 10).backward()
    optimizer.step()

def rest(after):
    time.sleep(.01)
    start = time.process_time()
    time.sleep(.5)
    took = time.process_time() - start
    assert took < .02, f"{took} s after {after}"

work()
rest("a convolution")
mlp = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
models = {"mlp": mlp, **{name: hwr.models.create(name) for name in ("resnet18", "simple-rnn")}}
for name, model in models.items():
    step(model, 64)
    rest(name)
""")


def test_exit_while_others_work():
    python("""
for _ in range(3):
    threading.Thread(target=work_for, args=[1e9], daemon=True).start()
time.sleep(.1)
""")


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_fork():
    python("""
threading.Thread(target=work_for, args=[.2]).start()  # the workers may be busy at the time
for _ in range(5):
    child = os.fork()
    if not child:
        work_for(.02)
        os._exit(cpu_threads.pool.threads[0].is_alive() - 1 if cpu_threads.pool.capacity > 1 else 0)
    assert os.waitpid(child, 0)[1] == 0
work()
""")


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_fork_while_another_thread_holds_a_lock():
    python("""
import tinynn
from tinynn import backend
from tinynn.kernels import cpu_llvm, memory

locks, held = (memory.pool.lock, cpu_llvm._compiling, backend._loading), threading.Event()

def hold():
    for lock in locks:
        lock.__enter__()
    held.set()
    time.sleep(10)

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(5)
    for lock in locks:
        with lock:
            pass
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
os._exit(0)
""")


def test_first_use_by_several_threads_at_once():
    """Each finds the same machine code, and it stays."""
    python(
        """
import tinynn
from tinynn import functional as F, nn

found, start = [], threading.Barrier(4)

def first_use():
    start.wait()
    layers = nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.Conv2d(32, 32, 3, padding=1)
    x = tinynn.Tensor(np.ones((8, 8, 8, 1), np.float32))
    for layer in layers:
        for parameter in layer.parameters():
            parameter.data[...] = .01
        x = layer(x)
    F.cross_entropy(x.reshape(8, -1), np.arange(8)).backward()
    found.append((id(tinynn.get_backend("numpy")), x.numpy().tobytes()))

threads = [threading.Thread(target=first_use) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(found) == 4 and len(set(found)) == 1
""",
        start="",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no signal of another thread")
def test_interrupt():
    python("""
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it
for _ in range(20):
    timer = threading.Timer(.01, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    try:
        work_for(5)
        raise SystemExit("not interrupted")
    except KeyboardInterrupt:
        timer.join()
assert cpu_threads.pool.block[cpu_threads.BUSY] == 0
work()
""")
