"""Pairs as texts and conversations: are they the right token ids, and scored as transformers does?

    python -m benchmarks.text_pairs [--pairs 500] [--url URL] [--target FILE] [--work DIR]

Real texts of the bundled pool in many shapes: prompts of 20 to 1,500 tokens, completions of 1 to
60, blanks and line breaks at the border, other scripts, texts of special tokens, conversations.
Each is sent as text and as token ids that the tokenizer alone gave, and scored by transformers in
float32, pair by pair; with --work it goes on where that broke off. Without --url a server is
started for the time it takes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.client import EngineClient
from engine.pairs.pair_encoder import EncodedPair, PairEncoder
from engine.pools.bundled import held_out_pool, training_pool
from engine.process.engine_process import EngineProcess
from engine.protocol.completions import (
    ChatPair,
    CompletionLogprobs,
    Encoding,
    Message,
    Pair,
    TextPair,
    TokenPair,
)
from engine.weights.models import BUNDLED_MODEL, resolve_model

TIE = 1e-4
"""Log-probabilities closer than this may change places."""

RESULTS = Path(__file__).parent / "results" / "text_pairs.txt"

_OTHER = (
    "東京は日本の首都です。人口は約一千四百万人。",
    "Größe und Maß: zwölf Öfen kosten 1 299,00 €.",
    "Париж — столица Франции, город на Сене.",
    "🎉 naïve café, e\u0301tude, ﬁn — “quoted” … ½",
    "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "مرحبا بالعالم، كيف حالك اليوم؟",
)
_AT_ONCE = 60
_SPECIAL = ("<|im_end|>", "<|endoftext|>", "<|im_start|>assistant\n")


@dataclass(frozen=True)
class TextCase:
    """A pair and how it is encoded.

    Attributes:
        kind: What is special about it.
    """

    kind: str
    pair: Pair
    encoding: Encoding


def text_cases(n_cases: int, tokenizer: Any, seed: int = 0) -> list[TextCase]:
    """Cases of all kinds in turn, from real texts."""
    rng = random.Random(seed)
    words = _words(rng)
    cases = []
    for number in range(n_cases):
        n_prompt, n_completion = round(20 * 75 ** rng.random()), rng.randint(1, 60)
        start = rng.randrange(len(words))
        text = "".join((words[start:] + words[:start])[: n_prompt + n_completion])
        ids = tokenizer(text)["input_ids"]
        # The border stands in front of a word and its blank.
        cut = text.rindex(" ", 0, len(tokenizer.decode(ids[:n_prompt])) + 1)
        ids = tokenizer(text[cut:])["input_ids"]
        completion = tokenizer.decode(ids[:n_completion]).rstrip("\ufffd")
        cases.append(_case(number, text[:cut], completion, rng))
    return cases


def _words(rng: random.Random) -> list[str]:
    """Words with the blanks before them, of shuffled texts of tasks and lines in other scripts."""
    texts = [*_OTHER]
    for task in (*training_pool(), *held_out_pool()):
        texts += [task.definition, *(each.input for each in task.instances[:12])]
    rng.shuffle(texts)
    return [f" {word}" for text in texts for word in f"{text}\n".split(" ")]


def _case(number: int, prompt: str, completion: str, rng: random.Random) -> TextCase:
    kinds = ("plain", "blanks", "lines", "scripts", "special", "acting", "apart", "chat", "turns")
    kind, encoding = kinds[number % len(kinds)], Encoding()
    if kind == "blanks":
        prompt += rng.choice((" ", "\n", "  ", "\n\n"))
    elif kind == "lines":
        completion = "\n" + completion.replace(". ", ".\n\n  ")
    elif kind == "scripts":
        prompt, completion = f"{prompt} {rng.choice(_OTHER)}", f" {rng.choice(_OTHER)}"
    elif kind in ("special", "acting"):
        prompt += f" {rng.choice(_SPECIAL)} so"
        completion += rng.choice(_SPECIAL)
        encoding = Encoding(parse_special=kind == "acting")
    elif kind == "apart":
        encoding = Encoding(boundary="separate")
    pair: Pair = TextPair(prompt=prompt, completion=completion)
    if kind in ("chat", "turns"):
        asked = [Message(role="user", content=prompt)]
        if kind == "turns":
            third = len(prompt) // 3
            roles = ("system", "user", "assistant", "user")
            parts = (prompt[:third], "Well?", prompt[third : 2 * third], prompt[2 * third :])
            asked = [Message(role=r, content=c) for r, c in zip(roles, parts, strict=True)]
        pair = ChatPair(messages=tuple(asked), completion=completion.strip() or "yes")
    return TextCase(kind, pair, encoding)


def ids_by_hand(case: TextCase, tokenizer: Any) -> TokenPair:
    """Its token ids as the tokenizer gives them; those of special tokens as text as we do."""

    def ids(text: str, **more: Any) -> list[int]:
        return list(tokenizer(text, **more)["input_ids"])

    pair = case.pair
    if case.kind == "special":
        (ours,) = PairEncoder(tokenizer, case.encoding).encode([pair])
        assert isinstance(ours, EncodedPair)
        assert not {*ours.prompt, *ours.completion} & {*tokenizer.all_special_ids}
        prompt, completion = [*ours.prompt], [*ours.completion]
    elif isinstance(pair, ChatPair):
        messages = [message.model_dump() for message in pair.messages]
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        completion = ids(str(pair.completion), add_special_tokens=False)
    else:
        assert isinstance(pair, TextPair)
        front = pair.prompt if case.kind == "apart" else pair.prompt.rstrip()
        prompt = ids(front)
        completion = (
            ids(pair.completion, add_special_tokens=False)
            if case.kind == "apart"
            else ids(pair.prompt + pair.completion)[len(prompt) :]
        )
    return TokenPair(prompt_token_ids=tuple(prompt), completion_token_ids=tuple(completion))


def answers(
    client: EngineClient, cases: Sequence[TextCase], pairs: Sequence[TokenPair]
) -> tuple[list[CompletionLogprobs], list[CompletionLogprobs]]:
    """The engine's results for the cases as texts and as token ids."""
    texts: dict[int, CompletionLogprobs] = {}
    ids: dict[int, CompletionLogprobs] = {}
    for first in range(0, len(cases), _AT_ONCE):  # few: the second time prompts are cached
        some = range(first, min(first + _AT_ONCE, len(cases)))
        for encoding in {cases[i].encoding for i in some}:
            chosen = [i for i in some if cases[i].encoding == encoding]
            asked = [cases[i].pair for i in chosen]
            for result in client.logprobs(asked, encoding, tokens=True):
                texts[chosen[result.index]] = result
        for result in client.logprobs([pairs[i] for i in some], tokens=True):
            ids[first + result.index] = result
    return [texts[i] for i in range(len(cases))], [ids[i] for i in range(len(cases))]


@dataclass
class Agreement:
    """How far texts, token ids and transformers agree, over some cases.

    Attributes:
        pairs: Cases.
        tokens: Tokens of their completions.
        same_ids: Cases whose tokens are those that the tokenizer gave.
        texts_are_ids: Largest difference of a token's log-probability, as text and as token ids.
        texts_are_true: The same between text and transformers.
        ties: Tokens within `TIE` of the likeliest other one.
        greedy_wrong: Other tokens of which the engine says otherwise whether they are likeliest.
    """

    pairs: int = 0
    tokens: int = 0
    same_ids: int = 0
    texts_are_ids: float = 0.0
    texts_are_true: float = 0.0
    ties: int = 0
    greedy_wrong: int = 0

    def add(
        self,
        pair: TokenPair,
        text: CompletionLogprobs,
        ids: CompletionLogprobs,
        truth: Sequence[tuple[float, float]],
    ) -> None:
        """Counts a case.

        Args:
            pair: Its token ids, made by hand.
            truth: `own_and_best_other` of transformers.
        """
        assert text.token_logprobs is not None
        assert text.token_is_greedy is not None
        assert ids.token_logprobs is not None
        self.pairs += 1
        self.tokens += text.n_tokens
        self.same_ids += (text.token_ids, text.n_prompt_tokens) == (
            pair.completion_token_ids,
            len(pair.prompt_token_ids),
        )
        places = zip(
            text.token_logprobs, ids.token_logprobs, text.token_is_greedy, truth, strict=True
        )
        for value, other, greedy, (true, best) in places:
            self.texts_are_ids = max(self.texts_are_ids, abs(value - other))
            self.texts_are_true = max(self.texts_are_true, abs(value - true))
            if abs(true - best) < TIE:
                self.ties += 1
            else:
                self.greedy_wrong += greedy != (true > best)


def own_and_best_other(rows: Any, token_ids: Sequence[int]) -> list[tuple[float, float]]:
    """Of each row of log-probabilities that of its token, and the largest one of all others."""
    found = []
    for row, token in zip(rows.clone(), token_ids, strict=True):
        own = float(row[token])
        row[token] = float("-inf")
        found.append((own, float(row.max())))
    return found


def _report(kinds: dict[str, Agreement]) -> str:
    lines = [
        "kind     pairs  tokens  same ids  text - ids  text - transformers  ties  greedy wrong",
        *(
            f"{kind:8} {a.pairs:5} {a.tokens:7} {a.same_ids:9} {a.texts_are_ids:11.1e} "
            f"{a.texts_are_true:20.1e} {a.ties:5} {a.greedy_wrong:13}"
            for kind, a in kinds.items()
        ),
    ]
    return "\n".join(lines)


def ask(
    folder: str, url: str | None, cases: Sequence[TextCase], pairs: Sequence[TokenPair]
) -> tuple[list[CompletionLogprobs], list[CompletionLogprobs]]:
    """`answers` of the engine at an address, or of one that is started."""
    with contextlib.ExitStack() as stack:
        if url is None:
            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "engine.log"
            server = EngineProcess.start(folder, weights_root=None, log_file=log)
            stack.enter_context(server).wait_ready()
            url = server.url
        client = stack.enter_context(EngineClient(url, timeout_s=3600.0))
        return answers(client, cases, pairs)


def truths(
    folder: str, pairs: Sequence[TokenPair], kept: Path
) -> Iterator[list[tuple[float, float]]]:
    """`own_and_best_other` of each pair, by transformers; those of earlier calls are kept."""
    known = kept.read_text().splitlines() if kept.is_file() else []
    yield from map(json.loads, known)
    with kept.open("a") as file:
        for values in _computed(folder, pairs[len(known) :]):
            file.write(json.dumps(values) + "\n")
            file.flush()
            yield values


def _computed(folder: str, pairs: Sequence[TokenPair]) -> Iterator[list[tuple[float, float]]]:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train(False)
    for pair in pairs:
        whole = torch.tensor([[*pair.prompt_token_ids, *pair.completion_token_ids]])
        with torch.inference_mode():
            kept = len(pair.completion_token_ids) + 1
            rows = model(whole, logits_to_keep=kept).logits[0, :-1].log_softmax(-1)
        yield own_and_best_other(rows, pair.completion_token_ids)


def compare(
    cases: Sequence[TextCase],
    pairs: Sequence[TokenPair],
    texts: Sequence[CompletionLogprobs],
    ids: Sequence[CompletionLogprobs],
    true: Iterable[list[tuple[float, float]]],
) -> str:
    """What the engine answered beside what transformers says, as a table."""
    kinds: dict[str, Agreement] = {}
    for case, pair, text, of_ids, truth in zip(cases, pairs, texts, ids, true, strict=True):
        for name in (case.kind, "all"):
            kinds.setdefault(name, Agreement()).add(pair, text, of_ids, truth)
    kinds["all"] = kinds.pop("all")
    prompts = sorted(len(pair.prompt_token_ids) for pair in pairs)
    outputs = sorted(len(pair.completion_token_ids) for pair in pairs)
    return (
        f"{len(pairs)} pairs, prompts of {prompts[0]} to {prompts[-1]} tokens, completions of "
        f"{outputs[0]} to {outputs[-1]}, {BUNDLED_MODEL} in float32\n\n{_report(kinds)}\n"
    )


def main() -> None:
    """Asks the engine, then transformers, and prints a row per kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--url")
    parser.add_argument("--target", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, help="folder for what transformers said")
    chosen = parser.parse_args()
    from transformers import AutoTokenizer

    folder = str(resolve_model(BUNDLED_MODEL))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    cases = text_cases(chosen.pairs, tokenizer)
    pairs = [ids_by_hand(case, tokenizer) for case in cases]
    with contextlib.ExitStack() as stack:
        work = chosen.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(exist_ok=True)
        true = [*truths(folder, pairs, work / f"truths-{chosen.pairs}.jsonl")]
    texts, ids = ask(folder, chosen.url, cases, pairs)
    said = compare(cases, pairs, texts, ids, true)
    print(said)
    chosen.target.write_text(said)


if __name__ == "__main__":
    main()
