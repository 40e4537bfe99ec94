"""Training and answering on rows that share a prefix, which is computed once.

All rows of a task begin with the same tokens (instruction and examples, 121 of 140 in the bundled
pool). A pack is one sequence: the prefix, then the tails of its rows one after the other, every
tail at the positions it would have in a row of its own and with a mask that shows it the prefix and
itself. Losses, gradients and outputs are those of separate rows, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import DynamicCache

from engine.prompts.seams import shared_prefix

PREFIX, NOBODY = -2, -1
PACKS_TOGETHER, TOKENS_TOGETHER = 8, 5_000
"""Most packs that are answered side by side, and most tokens with the padding; one pack alone may
have more."""

_About = TypeVar("_About")


@dataclass(frozen=True)
class Pack:
    """Rows of one prefix.

    Attributes:
        tokens: The sequence.
        positions: Of each token, in its row.
        owners: Row of each token, or `PREFIX`.
        ends: Place of the last prompt token of each row.
        outputs: Output of each row.
    """

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    owners: tuple[int, ...]
    ends: tuple[int, ...]
    outputs: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Pack:
        """A pack of pairs of prompt and output, at least one."""
        prompts = [tuple(prompt) for prompt, _ in rows]
        # One token at least is left of each prompt: the last, which the output follows.
        shared = min(shared_prefix(min(prompts), max(prompts)), min(map(len, prompts)) - 1)
        tokens, positions = list(prompts[0][:shared]), list(range(shared))
        owners, ends = [PREFIX] * shared, []
        for row, (prompt, (_, output)) in enumerate(zip(prompts, rows, strict=True)):
            tail = [*prompt[shared:], *output[:-1]]
            ends.append(len(tokens) + len(prompt) - shared - 1)
            tokens += tail
            positions += range(shared, shared + len(tail))
            owners += [row] * len(tail)
        outputs = tuple(tuple(output) for _, output in rows)
        return cls(tuple(tokens), tuple(positions), tuple(owners), tuple(ends), outputs)

    @property
    def targets(self) -> list[tuple[int, int]]:
        """Places, and the output token that follows each of them."""
        return [
            (end + step, token)
            for end, output in zip(self.ends, self.outputs, strict=True)
            for step, token in enumerate(output)
        ]

    @property
    def n_output_tokens(self) -> int:
        return sum(map(len, self.outputs))


def causal_mask(owners: torch.Tensor) -> torch.Tensor:
    """Who sees whom in packs, shape (packs, 1, tokens, tokens)."""
    n = owners.shape[1]
    before = torch.ones(n, n, dtype=torch.bool, device=owners.device).tril()
    return (visible(owners, owners) & before)[:, None]


def visible(asking: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Rows see the prefix and themselves, shape (packs, asking, seen)."""
    return (seen[:, None, :] == PREFIX) | (seen[:, None, :] == asking[:, :, None])


def output_rows(model: Any, pack: Pack) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of all tokens in each place of the outputs, row after row, and the
    outputs' tokens; gradients flow.
    """
    device = model.device
    owners = torch.tensor([pack.owners], device=device)
    hidden = model.model(
        input_ids=torch.tensor([pack.tokens], device=device),
        position_ids=torch.tensor([pack.positions], device=device),
        attention_mask=causal_mask(owners),
        use_cache=False,
    ).last_hidden_state[0]
    places, tokens = (torch.tensor(each, device=device) for each in zip(*pack.targets, strict=True))
    return model.lm_head(hidden[places]).float().log_softmax(-1), tokens


def output_logprobs(model: Any, pack: Pack) -> torch.Tensor:
    """Log-probability of each output token, row after row; gradients flow."""
    rows, tokens = output_rows(model, pack)
    return rows.gather(1, tokens[:, None])[:, 0]


def train_step(model: Any, optimiser: Any, packs: Sequence[Pack]) -> float:
    """One step on the mean loss over all output tokens of the packs; that loss."""
    n_tokens = sum(pack.n_output_tokens for pack in packs)
    total = 0.0
    for pack in packs:
        loss = -output_logprobs(model, pack).sum() / n_tokens
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return total


def side_by_side(
    packs: Iterable[tuple[_About, Pack]],
) -> Iterator[list[tuple[_About, Pack]]]:
    """Groups of packs of about one length, each with what it is about."""
    group: list[tuple[_About, Pack]] = []
    for about, pack in sorted(packs, key=lambda each: len(each[1].tokens)):
        n_tokens = (len(group) + 1) * len(pack.tokens)
        if group and (len(group) == PACKS_TOGETHER or n_tokens > TOKENS_TOGETHER):
            yield group
            group = []
        group.append((about, pack))
    if group:
        yield group


@dataclass
class Answers:
    """What a model makes of a pack.

    Attributes:
        outputs: Greedy output of each row, without the token that ends it.
        gold_logprobs: Mean log-probability of the tokens of each row's own output.
    """

    outputs: list[list[int]]
    gold_logprobs: list[float]


class Answering:
    """Greedy answers to packs side by side, a cache entry for each token of prefix and tails.

    Args:
        packs: The rows; those of about the same length, for shorter ones are padded.
        end: The token that ends an output.
    """

    def __init__(self, model: Any, packs: Sequence[Pack], end: int) -> None:
        self.model, self.packs, self.end = model, packs, end
        self.cache = DynamicCache(config=model.config)
        self.answers = [Answers([[] for _ in pack.ends], []) for pack in packs]
        self.alive = list(range(len(packs)))
        self.owners = torch.full((len(packs), 0), NOBODY, device=model.device)

    def run(self, max_new_tokens: int) -> list[Answers]:
        """Generate until every row has ended, or has so many tokens."""
        with torch.inference_mode():
            following = self._prefill()
            for n_tokens in range(1, max_new_tokens + 1):
                rows = self._take(following)
                if not self.alive or n_tokens == max_new_tokens:
                    break
                following = self._step(rows)
        return self.answers

    def _prefill(self) -> list[dict[int, int]]:
        """Computes the packs and scores their outputs; the first token of each row's answer."""
        length = max(len(pack.tokens) for pack in self.packs)
        owners = self._table([list(pack.owners) for pack in self.packs], length, NOBODY)
        hidden = self.model.model(
            input_ids=self._table([list(pack.tokens) for pack in self.packs], length, 0),
            position_ids=self._table([list(pack.positions) for pack in self.packs], length, 0),
            attention_mask=causal_mask(owners),
            past_key_values=self.cache,
        ).last_hidden_state
        following: list[dict[int, int]] = []
        for index, pack in enumerate(self.packs):
            places = [place for place, _ in pack.targets]
            tokens = torch.tensor([token for _, token in pack.targets], device=hidden.device)
            logprobs = self.model.lm_head(hidden[index, places]).float().log_softmax(-1)
            found = logprobs.gather(1, tokens[:, None])[:, 0].tolist()
            best = logprobs.argmax(-1).tolist()
            firsts, at = {}, 0
            for row, output in enumerate(pack.outputs):
                mean = sum(found[at : at + len(output)]) / len(output)
                self.answers[index].gold_logprobs.append(mean)
                firsts[row] = best[at]
                # What follows the prompt in the cache is the gold output: no answer may see it.
                owners[index, pack.ends[row] + 1 : pack.ends[row] + len(output)] = NOBODY
                at += len(output)
            following.append(firsts)
        self.owners = owners
        return following

    def _take(self, following: list[dict[int, int]]) -> list[dict[int, int]]:
        """Writes the tokens down; those of the rows that go on. Packs that ended are left out."""
        kept, rows = [], []
        for place, (index, tokens) in enumerate(zip(self.alive, following, strict=True)):
            going = {row: token for row, token in tokens.items() if token != self.end}
            for row, token in going.items():
                self.answers[index].outputs[row].append(token)
            if going:
                kept.append(place)
                rows.append(going)
        if len(kept) < len(self.alive):
            self.alive = [self.alive[place] for place in kept]
            chosen = torch.tensor(kept, dtype=torch.long, device=self.owners.device)
            self.owners = self.owners[chosen]
            if kept:
                self.cache.batch_select_indices(chosen)
        return rows

    def _step(self, rows: list[dict[int, int]]) -> list[dict[int, int]]:
        """One more token of every row that goes on."""
        width = max(map(len, rows))
        asking = self._table([list(each) for each in rows], width, NOBODY)
        positions = [
            [self._start(index, row) + len(self.answers[index].outputs[row]) - 1 for row in each]
            for index, each in zip(self.alive, rows, strict=True)
        ]
        self.owners = torch.cat([self.owners, asking], dim=1)
        hidden = self.model.model(
            input_ids=self._table([list(each.values()) for each in rows], width, 0),
            position_ids=self._table(positions, width, 0),
            attention_mask=visible(asking, self.owners)[:, None],
            past_key_values=self.cache,
        ).last_hidden_state
        best = self.model.lm_head(hidden).argmax(-1).tolist()
        return [
            dict(zip(each, found, strict=False)) for each, found in zip(rows, best, strict=True)
        ]

    def _start(self, index: int, row: int) -> int:
        """Position of the first token of a row's answer."""
        pack = self.packs[index]
        return pack.positions[pack.ends[row]] + 1

    def _table(self, rows: list[list[int]], width: int, fill: int) -> torch.Tensor:
        padded = [[*row, *[fill] * (width - len(row))] for row in rows]
        return torch.tensor(padded, device=self.model.device)
