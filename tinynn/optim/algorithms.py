"""The optimisers: which moments each keeps, and the kernel that updates a stretch of weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinynn.backend import Array
from tinynn.optim.optimizer import Optimizer, ParamGroup


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov's variant and weight decay."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(
            params,
            lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    def check_options(self, options: dict[str, Any]) -> None:
        super().check_options(options)
        if options["nesterov"] and not (options["momentum"] > 0 and options["dampening"] == 0):
            raise ValueError("SGD: nesterov needs a positive momentum and no dampening")

    def moment_names(self, options: dict[str, Any]) -> list[str]:
        return ["momentum_buffer"] if options["momentum"] else []

    def update(self, group: ParamGroup, run: slice, step: Array) -> None:
        o, velocity = group.options, group.moments.get("momentum_buffer")
        group.backend.update_sgd(
            group.weights[run],
            group.grads[run],
            None if velocity is None else velocity[run],
            group.lr_array,
            step,
            o["momentum"],
            o["dampening"],
            o["weight_decay"],
            o["nesterov"],
        )


class Adam(Optimizer):
    """Adam. Source: Kingma and Ba 2015, algorithm 1; weight decay joins the gradient."""

    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            params, lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay
        )

    def moment_names(self, options: dict[str, Any]) -> list[str]:
        return ["exp_avg", "exp_avg_sq"]

    def update(self, group: ParamGroup, run: slice, step: Array) -> None:
        o, moments = group.options, group.moments
        group.backend.update_adam(
            group.weights[run],
            group.grads[run],
            moments["exp_avg"][run],
            moments["exp_avg_sq"][run],
            group.lr_array,
            step,
            o["beta1"],
            o["beta2"],
            o["eps"],
            o["weight_decay"],
            self.decoupled,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay. Source: Loshchilov and Hutter 2019."""

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """RMSprop, optionally centred and with momentum. Source: Hinton 2012, lecture 6e."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        super().__init__(
            params,
            lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    def moment_names(self, options: dict[str, Any]) -> list[str]:
        names = ["square_avg"]
        names += ["grad_avg"] if options["centered"] else []
        return names + (["momentum_buffer"] if options["momentum"] else [])

    def update(self, group: ParamGroup, run: slice, step: Array) -> None:
        o = group.options
        square, mean, velocity = (
            group.moments[name][run] if name in group.moments else None
            for name in ("square_avg", "grad_avg", "momentum_buffer")
        )
        group.backend.update_rmsprop(
            group.weights[run],
            group.grads[run],
            square,
            mean,
            velocity,
            group.lr_array,
            o["alpha"],
            o["eps"],
            o["weight_decay"],
            o["momentum"],
        )


class Adagrad(Optimizer):
    """Adagrad. Source: Duchi et al. 2011."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ):
        super().__init__(params, lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)
        for group in self.param_groups:
            group.moments["sum"][...] = initial_accumulator_value

    def moment_names(self, options: dict[str, Any]) -> list[str]:
        return ["sum"]

    def update(self, group: ParamGroup, run: slice, step: Array) -> None:
        o = group.options
        group.backend.update_adagrad(
            group.weights[run],
            group.grads[run],
            group.moments["sum"][run],
            group.lr_array,
            step,
            o["lr_decay"],
            o["weight_decay"],
            o["eps"],
        )


class Adadelta(Optimizer):
    """Adadelta. Source: Zeiler 2012, algorithm 1."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr, rho=rho, eps=eps, weight_decay=weight_decay)

    def moment_names(self, options: dict[str, Any]) -> list[str]:
        return ["square_avg", "acc_delta"]

    def update(self, group: ParamGroup, run: slice, step: Array) -> None:
        o, moments = group.options, group.moments
        group.backend.update_adadelta(
            group.weights[run],
            group.grads[run],
            moments["square_avg"][run],
            moments["acc_delta"][run],
            group.lr_array,
            o["rho"],
            o["eps"],
            o["weight_decay"],
        )
