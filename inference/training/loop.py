"""The one training loop: seeded, resumable, with an averaged network, a progress line and loss curves as PNG."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from inference.training.curves import write_curves
from inference.training.mar_objectives import Objective

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

SAVE_EVERY_S = 120.0
AVERAGE_DECAY = 0.998
WARM_UP_STEPS = 200
LEAST_RATE_SHARE = 0.02
DISCRIMINATOR_BETAS = (0.5, 0.99)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast: steps in all, minutes of this run (0: no limit), batch size and learning rate."""

    steps: int
    minutes: float = 0.0
    scenes_a_batch: int = 4
    rate: float = 1e-3
    seed: int = 1
    device: str = "cpu"
    report_every: int = 100


@dataclass(slots=True)
class _State:
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    network: nn.Module,
    objective: Objective,
    plan: Plan,
    *,
    batches: Callable[[int, int], Batch],
    made_by: Callable[[nn.Module, torch.Tensor], torch.Tensor],
    held_out: Callable[[nn.Module], dict[str, float]],
    folder: Path,
) -> bool:
    """Trains until all steps are done (True) or this run's minutes are over (False); run again, it goes on.

    batches: step and size -> given, true, counted. made_by: the network and what is given -> what is held against the
    truth. held_out: figures of the averaged network, kept in the history.
    folder gets `checkpoint.pt`, `history.json`, `curves.png` and, at the end, `model.safetensors` (the average).
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    device = torch.device(plan.device)
    network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimizers = {"network": torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-4)}
    if objective.discriminator is not None:
        objective.discriminator.to(device).train()
        optimizers["discriminator"] = torch.optim.AdamW(
            objective.discriminator.parameters(), lr=plan.rate / 4, betas=DISCRIMINATOR_BETAS
        )
    state = _restored(folder / "checkpoint.pt", network, objective, optimizers, average)
    begun = saved = time.monotonic()
    sums: dict[str, float] = {}
    while state.step < plan.steps:
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * _rate_share(state.step, plan.steps)
        batch = tuple(part.to(device) for part in batches(state.step, plan.scenes_a_batch))
        for name, loss in _step(network, objective, optimizers, batch, made_by).items():  # type: ignore[arg-type]
            sums[name] = sums.get(name, 0.0) + loss
        state.step += 1
        _follow(average, network, min(AVERAGE_DECAY, state.step / (state.step + 10)))
        if state.step % plan.report_every == 0 or state.step == plan.steps:
            figures = {name: total / plan.report_every for name, total in sums.items()}
            sums.clear()
            with _averaged(network, average):
                figures |= held_out(network)
            state.history.append({"step": state.step, **figures})
            _tell(state, plan, time.monotonic() - begun, folder)
        over = bool(plan.minutes) and time.monotonic() - begun > 60 * plan.minutes
        if over or time.monotonic() - saved > SAVE_EVERY_S or state.step == plan.steps:
            _save(folder / "checkpoint.pt", state, network, objective, optimizers, average)
            saved = time.monotonic()
        if over and state.step < plan.steps:
            return False
    save_file({name: value.contiguous().cpu() for name, value in average.items()}, folder / "model.safetensors")
    return True


def _step(
    network: nn.Module,
    objective: Objective,
    optimizers: dict[str, torch.optim.AdamW],
    batch: Batch,
    made_by: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> dict[str, float]:
    given, true, counted = batch
    with torch.autocast(given.device.type, torch.bfloat16):
        made = made_by(network, given).float()
    loss = objective.generator_loss(made, true, given, counted)
    optimizers["network"].zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizers["network"].step()
    losses = {"loss": float(loss.detach())}
    if "discriminator" in optimizers:
        judged = objective.discriminator_loss((made * counted).detach(), true * counted, given)
        optimizers["discriminator"].zero_grad()
        judged.backward()  # type: ignore[no-untyped-call]
        optimizers["discriminator"].step()
        losses["discriminator loss"] = float(judged.detach())
    return losses


def _rate_share(step: int, steps: int) -> float:
    """Warm-up, then a cosine down to nearly nothing (Loshchilov and Hutter 2017)."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    warm_up = min(WARM_UP_STEPS, 1 + steps // 20)
    return min(1.0, (step + 1) / warm_up) * max(cosine, LEAST_RATE_SHARE)


def _follow(average: dict[str, torch.Tensor], network: nn.Module, decay: float) -> None:
    for name, value in network.state_dict().items():
        average[name].lerp_(value, 1 - decay)


@contextmanager
def _averaged(network: nn.Module, average: dict[str, torch.Tensor]) -> Iterator[None]:
    kept = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(average)
    network.eval()
    try:
        yield
    finally:
        network.load_state_dict(kept)
        network.train()


def _restored(
    path: Path,
    network: nn.Module,
    objective: Objective,
    optimizers: dict[str, torch.optim.AdamW],
    average: dict[str, torch.Tensor],
) -> _State:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
    if not path.exists():
        return _State()
    kept: dict[str, Any] = torch.load(path, weights_only=True)
    network.load_state_dict(kept["network"])
    average.update(kept["average"])
    if objective.discriminator is not None:
        objective.discriminator.load_state_dict(kept["discriminator"])
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(kept["optimizers"][name])
    return _State(kept["step"], json.loads(path.with_name("history.json").read_text(encoding="utf-8")))


def _save(
    path: Path,
    state: _State,
    network: nn.Module,
    objective: Objective,
    optimizers: dict[str, torch.optim.AdamW],
    average: dict[str, torch.Tensor],
) -> None:
    """Whole or not at all."""
    discriminator = {} if objective.discriminator is None else objective.discriminator.state_dict()
    content = {
        "step": state.step,
        "network": network.state_dict(),
        "average": average,
        "discriminator": discriminator,
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
    }
    path.with_name("history.json").write_text(json.dumps(state.history), encoding="utf-8")
    torch.save(content, path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)


def _tell(state: _State, plan: Plan, seconds: float, folder: Path) -> None:
    last = state.history[-1]
    figures = ", ".join(f"{name} {value:.4g}" for name, value in last.items() if name != "step")
    print(f"step {state.step} of {plan.steps}, {seconds / 60:.0f} min: {figures}", flush=True)
    write_curves(folder / "curves.png", state.history)
