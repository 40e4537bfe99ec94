"""Packs of rows that share a prefix, against every row for itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.evidence.shared_prefix import Answering, Pack, output_logprobs, train_step
from tests.training.tiny import make_tiny_model

END = 5
PREFIX = (7, 8, 9, 10, 11)
TAILS = ((12, 13), (14,), (15, 16, 17))
GOLDS = ((20, 21, END), (22, END), (23, 24, 25, END))
ROWS = [((*PREFIX, *tail), gold) for tail, gold in zip(TAILS, GOLDS, strict=True)]
OTHERS = [((30, 31, 32), (40, END)), ((30, 33, 34, 35), (41, 42, END))]


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return make_tiny_model(tied=True, initializer_range=0.3).eval()


def alone(model: Any, prompt: tuple[int, ...], output: tuple[int, ...]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([[*prompt, *output]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(output)[:, None])[:, 0]


def greedy(model: Any, prompt: tuple[int, ...], n: int) -> list[int]:
    found: list[int] = []
    for _ in range(n):
        token = int(model(torch.tensor([[*prompt, *found]])).logits[0, -1].argmax())
        if token == END:
            break
        found.append(token)
    return found


def test_losses_and_gradients_are_those_of_separate_rows(model: Any) -> None:
    pack = Pack.of(ROWS)
    assert len(pack.tokens) == len(PREFIX) + sum(map(len, TAILS)) + sum(len(g) - 1 for g in GOLDS)
    packed = output_logprobs(model, pack)
    separate = torch.cat([alone(model, *row) for row in ROWS])
    torch.testing.assert_close(packed, separate, atol=1e-5, rtol=0)
    gradients = []
    for loss in (packed.sum(), separate.sum()):
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append([each.grad.clone() for each in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_step_lowers_the_mean_loss_of_all_packs(model: Any) -> None:
    packs = [Pack.of(ROWS), Pack.of(OTHERS)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    losses = [train_step(model, optimiser, packs) for _ in range(5)]
    whole = torch.cat([alone(model, *row) for row in (*ROWS, *OTHERS)])
    assert losses[-1] < losses[0]
    assert -float(whole.mean().detach()) < losses[-1]


def test_answers_are_those_of_separate_rows(model: Any) -> None:
    """Also where rows end at different tokens, and packs are left out one after the other."""
    ends = 0
    for seed in range(6):
        torch.manual_seed(seed)
        for weights in model.parameters():
            torch.nn.init.normal_(weights, std=0.3)
        packs = [Pack.of(ROWS), Pack.of(OTHERS)]
        for pack, rows, answers in zip(
            packs, (ROWS, OTHERS), Answering(model, packs, END).run(7), strict=True
        ):
            assert len(pack.ends) == len(rows)
            for row, output, gold in zip(rows, answers.outputs, answers.gold_logprobs, strict=True):
                assert output == greedy(model, row[0], 7)
                assert gold == pytest.approx(float(alone(model, *row).mean().detach()), abs=1e-4)
                ends += len(output) < 7
    assert ends
