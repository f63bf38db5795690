"""What goes wrong on a GPU is told in words that say what to do. Runs cross from CPU to GPU."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cupy_double
import emulator
import numpy as np
import pytest

import tinynn as tn
from hwr import checkpoint, train
from hwr.errors import UserError
from hwr.estimate import STEPS, step_seconds
from hwr.evaluate import evaluate
from hwr.evaluate import parser as evaluate_options
from hwr.options import configure, parser
from hwr.run import Run, prepare
from hwr.summary import dry_run
from hwr.vision.evaluation import report_photos
from tinynn.backend import get_backend
from tinynn.capture import WARM_UP
from tinynn.kernels import cuda_launch

SMALL = "--width", "4", "--train-size", "32", "--validation", "0", "--batch-size", "16"


def a_run(*options: str) -> Run:
    return prepare(configure(vars(parser().parse_args([*SMALL, *options]))))


def a_step(run: Run) -> None:
    run.model.train()
    images, labels = next(iter(run.loader.epoch(0)))
    train.train_step(run, images, labels)


@pytest.fixture
def nothing_compiled() -> Iterator[None]:
    """Every kernel is compiled anew."""

    def forget() -> None:
        cuda_launch.kernel.cache_clear()
        cuda_launch.module.cache_clear()

    forget()
    yield
    cuda_launch.allow_reference(False)
    forget()


@pytest.mark.skipif(emulator.compiler() is None, reason="no C++ compiler to emulate kernels with")
def test_a_kernel_that_does_not_compile_names_file_and_line(
    nothing_compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = '#line 7 "activation.cu"\nextern "C" __global__ void silu(flaot* x) {}\n'
    monkeypatch.setattr(cuda_launch, "source", lambda name: code)
    check_refusal(r".*activation\.cu:7.*")


@pytest.mark.parametrize(
    "name",
    ["options", "evaluate", "predict", "reproduce", "report.__main__", "inspect.__main__",
     "svm.__main__"],
)  # fmt: skip
def test_every_command_with_a_backend_offers_the_reference(name: str) -> None:
    offered = importlib.import_module(f"hwr.{name}").parser().format_help()
    assert "--backend" in offered
    assert "--allow-reference" in offered


def test_a_command_lets_the_reference_do_the_work(
    nothing_compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for typed in ([], ["--allow-reference"]):
        given = evaluate_options().parse_args(["--photos", "photos", *typed])
        monkeypatch.setattr("hwr.vision.evaluation.Reader", stop)
        with pytest.raises(ZeroDivisionError):
            report_photos(given)
        assert cuda_launch._reference_allowed == bool(typed)


def stop(*given: Any) -> None:
    """In place of what a test does not wait for."""
    raise ZeroDivisionError


PTXAS = """ptxas application ptx input, line 99; error   : 'cp.async' requires .target sm_80
ptxas application ptx input, line 100; error   : 'cp.async' requires .target sm_80
ptxas fatal   : Ptx assembly aborted due to errors"""


@pytest.mark.skipif(emulator.compiler() is None, reason="no C++ compiler to emulate kernels with")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (cupy_double.cuda.compiler.CompileException(PTXAS), r"ptxas.*line 99; error   : [^;]*"),
        (cupy_double.cuda.driver.CUDADriverError("CUDA_ERROR_NO_BINARY"), "CUDA_ERROR_NO_BINARY"),
    ],
)
def test_what_the_assembler_or_the_driver_refuses_is_told(
    error: Exception, told: str, nothing_compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(module: Any) -> None:
        raise error

    monkeypatch.setattr(cupy_double.RawModule, "compile", refuse)
    check_refusal(told)


@pytest.mark.skipif(emulator.compiler() is None, reason="no C++ compiler to emulate kernels with")
@pytest.mark.parametrize(("status", "kind"), [(2, MemoryError), (900, RuntimeError)])
def test_a_kernel_that_cannot_be_loaded_just_now_is_tried_again(
    status: int, kind: type, nothing_compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = cupy_double.cuda.driver.CUDADriverError("CUDA_ERROR")
    error.status = status

    def refuse(module: Any) -> None:
        raise error

    backend = get_backend("emulated")
    x = backend.asarray(np.linspace(-1, 1, 5).astype(np.float32))
    with monkeypatch.context() as patch:
        patch.setattr(cupy_double.RawModule, "compile", refuse)
        with pytest.raises(kind, match=r"activation\.cu cannot be loaded: CUDA_ERROR"):
            backend.silu(x)
    np.testing.assert_allclose(backend.silu(x).get(), get_backend("reference").silu(x.get()), 1e-6)


def test_an_error_that_comes_again_keeps_no_arrays(
    nothing_compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_launch, "module", lambda *given: "activation.cu cannot be compiled")
    errors = []
    for _ in range(2):
        with pytest.raises(cuda_launch.CompileError) as caught:
            cuda_launch.kernel(cupy_double, "activation", "silu")
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def check_refusal(told: str) -> None:
    """activation.cu is refused in one line, and replaced where that is allowed."""
    backend = get_backend("emulated")
    x = backend.asarray(np.linspace(-1, 1, 5).astype(np.float32))
    told = rf"cuda.activation\.cu cannot be compiled here: {told}; update .*--allow-reference"
    with pytest.raises(cuda_launch.CompileError, match=told):
        backend.silu(x)
    cuda_launch.allow_reference()
    with pytest.warns(RuntimeWarning, match=told):
        y = backend.silu(x)
    np.testing.assert_allclose(y.get(), get_backend("reference").silu(x.get()))


def test_a_full_device_names_what_did_not_fit_and_what_would(
    tmp_path: Path,
) -> None:
    reference = get_backend("reference")

    def conv2d(x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
        if len(x) > 5:
            raise MemoryError("Out of memory allocating 1,024 bytes")
        return reference.conv2d(x, w, stride, padding, dilation, groups)

    with tn.use_backend(get_backend("double").override("full", conv2d=conv2d)):
        run = a_run()
        told = (
            r"Conv2d, forward of \(16, 28, 28, 1\) and \(4, 7, 7, 1\): Out of memory allocating "
            r"1,024 bytes; the batch is 16 images, and 4 fit"
        )
        with pytest.raises(MemoryError, match=told):
            train.train(run, tmp_path / "run", is_new=True, save_every=1e9)


def test_a_batch_that_does_not_fit_is_named(tmp_path: Path) -> None:
    def gather_images(images: Any, chosen: Any, maps: Any, moved: Any, levels: Any) -> Any:
        raise MemoryError("Out of memory allocating 1,024 bytes")

    with tn.use_backend(get_backend("double").override("full", gather_images=gather_images)):
        told = (
            r"the batch's images, \(16, 28, 28, 1\): Out of memory.*the batch is 16 images, and 8"
        )
        with pytest.raises(MemoryError, match=told):
            train.train(a_run(), tmp_path / "run", is_new=True, save_every=1e9)


def test_images_that_do_not_fit_together_are_read_in_parts() -> None:
    reference, read = get_backend("reference"), []

    def linear(x: Any, w: Any, bias: Any, relu: bool) -> Any:
        read.append(len(x))
        if len(x) > 4:
            raise MemoryError("Out of memory allocating 1,024 bytes")
        return reference.linear(x, w, bias, relu)

    results = []
    for backend in (reference, reference.override("full", linear=linear)):
        with tn.use_backend(backend):
            run = a_run("--model", "mlp", "--train-size", "18")
            read.clear()
            results.append(evaluate(run.model, run.loader))
    assert read[:3] == [16, 8, 4]
    assert max(read[3:]) == 4
    np.testing.assert_array_equal(results[0].confusion, results[1].confusion)
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-5)


def test_images_that_do_not_fit_on_on_the_device_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def asarray(values: Any, dtype: Any = None) -> Any:
        if values.nbytes > 20_000:
            raise MemoryError("Out of memory allocating 25,088 bytes")
        return cupy_double.array(values, dtype)

    with tn.use_backend("double"):
        a_run("--train-size", "8")
        monkeypatch.setattr(cupy_double, "asarray", asarray)
        told = r"the 32 images to train on, 25,088 bytes, do not fit on the GPU.*--train-size"
        with pytest.raises(UserError, match=told):
            a_run()


def test_a_dry_run_tells_the_memory_of_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    with tn.use_backend("double"):
        for how in ([], ["--no-capture"]):
            assert dry_run(a_run("--batch-size", "4", *how), train.train_step) == 0
            told = capsys.readouterr().out
            assert "MiB of the GPU, with the model" in told
            assert ("recorded step keeps up to as much again" in told) == (not how)


def test_an_estimate_times_the_step_as_training_takes_it() -> None:
    with tn.use_backend("double"):  # which records it in vain: its products are cuBLAS's
        run = a_run("--batch-size", "4", "--model", "mlp")
        with pytest.warns(RuntimeWarning, match="cannot be recorded"):
            assert step_seconds(run) > 0
        assert run.optimizer.param_groups[0].step_counts[0] == WARM_UP + 1 + STEPS


@pytest.mark.parametrize(("begun", "resumed"), [("reference", "double"), ("double", "reference")])
def test_a_run_goes_on_on_another_device(begun: str, resumed: str, tmp_path: Path) -> None:
    path, options = tmp_path / "last.safetensors", ("--optimizer", "adam", "--ema-decay", "0.9")
    with tn.use_backend(begun):
        first = a_run(*options)
        a_step(first)
        checkpoint.save(path, first.model, first.optimizer, first.ema, first.progress())
        a_step(first)
        expected = first.model.state_dict()
    with tn.use_backend(resumed):
        run = a_run(*options)
        run.restore(checkpoint.load(path, run.model, run.optimizer, run.ema))
        a_step(run)
        for name, array in run.model.state_dict().items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_bf16_is_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--amp is for a GPU, and backend reference computes in"):
        train.main(["--backend", "reference", "--amp", *SMALL])
    seen = []

    def prepared(config: Any) -> None:
        seen.append(tn.get_float32_matmul_precision())
        stop()

    monkeypatch.setattr(train, "prepare", prepared)
    for options in ((), ("--amp",)):
        with pytest.raises(ZeroDivisionError):
            train.main(["--backend", "double", *options])
    assert seen == ["highest", "medium"]
    assert tn.get_float32_matmul_precision() == "highest"
