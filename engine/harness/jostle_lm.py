"""The model that `lm_eval` asks: what it wants in text goes to an engine as token ids.

Encoding, windows and truncation are the harness' own, as in its models of vLLM and transformers, so
that the pairs are the same and so are the accuracies.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import lru_cache, partial
from typing import Any, TypeVar

from jinja2 import TemplateError
from lm_eval.api.model import TemplateLM  # type: ignore[import-untyped,import-not-found,unused-ignore]
from lm_eval.api.registry import register_model  # type: ignore[import-untyped,import-not-found,unused-ignore]
from lm_eval.models.utils import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    has_bos_prefix,
    postprocess_generated_text,
)
from lm_eval.utils import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    get_rolling_token_windows,
    make_disjoint_window,
)
from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

from engine.errors import EngineError, InputError
from engine.harness.asking_threads import answers_in_order
from engine.harness.model_arguments import check_arguments
from engine.harness.prompt_groups import PromptGroup, group_prompts
from engine.protocol.completions import TokenPair
from engine.session.scoring_session import Scorer
from engine.weights.identity import load_tokenizer
from engine.weights.models import BUNDLED_MODEL

logger = logging.getLogger(__name__)

REQUESTS_AT_ONCE = 3
"""While one ends, the engine is busy with the others."""

PAIRS_PER_REQUEST = 512

_Part = TypeVar("_Part")
_Answer = TypeVar("_Answer")
_TokenIds = tuple[tuple[int, ...], tuple[int, ...]]
"""Of the context and of the continuation."""
_Named = tuple[tuple[str, str] | None, list[int], list[int]]
"""What the harness asks: its own key of the request, tokens of the context, of the continuation."""


@register_model("jostle")  # type: ignore[untyped-decorator,unused-ignore]
class JostleLM(TemplateLM):  # type: ignore[misc]
    """Log-probabilities and outputs from an engine, for `lm_eval`.

    Args:
        model: What to start: `smollm2-135m`, a hub id, or a folder. With a URL, where the served
            tokenizer lies; by default where the engine says.
        url: A running engine; None: one is started, and ends with this model.
        max_length: Context in tokens; by default the model's own, or the running engine's, which is
            also the longest.
        add_bos_token: Whether texts begin with the beginning of sequence; None: as the tokenizer
            has it.
        prefix_token_id: What an empty context stands for; by default the beginning of sequence, or
            the end where there is none.
        max_gen_toks: Longest output where a task names none.
        truncation_side: Where a context is cut that does not fit before an output: `left`,
            `right` or `middle`.
        chat_template_args: Goes to the chat template, such as `enable_thinking`.
        think_end_token: Text behind which the answer of a reasoning model begins.
        trust_remote_code: Whether code that comes with the model may run.
        engine_args: Flags of vLLM for an engine that is started, such as `--dtype=bfloat16`; blanks
            part them.
        api_key: Key of a running engine; by default that of the environment.
        batch_size: Of no meaning here; neither are `max_batch_size` and `device`.

    Raises:
        InputError: If an argument is unknown or of another kind, the model is not there, the
            tokenizer is not the engine's, or its context is shorter than `max_length`.
        EngineError: If the engine does not come up or does not answer.
    """

    def __init__(
        self,
        model: str | None = None,
        url: str | None = None,
        *,
        pretrained: str | None = None,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        max_gen_toks: int = 256,
        truncation_side: str = "left",
        chat_template_args: dict[str, Any] | None = None,
        think_end_token: str | None = None,
        trust_remote_code: bool = False,
        engine_args: str = "",
        api_key: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **unknown: Any,
    ) -> None:
        check_arguments(
            unknown,
            max_length=max_length,
            prefix_token_id=prefix_token_id,
            max_gen_toks=max_gen_toks,
            chat_template_args=chat_template_args,
            truncation_side=truncation_side,
            think_end_token=think_end_token,
            engine_args=engine_args,
        )
        super().__init__()
        model = model or pretrained
        if url is None:
            length = [] if max_length is None else [f"--max-model-len={max_length}"]
            self._scorer = Scorer(
                model or BUNDLED_MODEL,
                engine_args=[*engine_args.split(), *length],
                trust_remote_code=trust_remote_code,
            )
            model = None  # the tokenizer is the engine's
        else:
            self._scorer = Scorer(url=url, api_key=api_key, engine_args=engine_args.split())
        self._client = self._scorer.client()
        self.close = self._scorer.close
        served = self._client.weights().served
        if max_length and max_length > served.max_model_len:
            problem = f"the engine's context is {served.max_model_len} tokens, not {max_length}"
            raise InputError(problem, field="max_length")
        self.tokenizer: Any = load_tokenizer(served, model, trust_remote_code=trust_remote_code)
        # The harness encodes a context once for each of its continuations.
        self._encode = lru_cache(maxsize=64)(self.tokenizer.encode)
        self.max_length = max_length or served.max_model_len
        self.max_gen_toks = max_gen_toks
        self._add_bos_token = add_bos_token
        self._prefix_token_id = prefix_token_id
        self._truncation_side = truncation_side
        self._chat_template_args = chat_template_args or {}
        self._think_end_token = think_end_token

    # What the harness asks of every model.

    @property
    def eot_token_id(self) -> int:
        """The end of sequence."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands for an empty context."""
        begin = self.tokenizer.bos_token_id
        for token in (self._prefix_token_id, begin):
            if token is not None:
                return int(token)
        return self.eot_token_id

    @property
    def tokenizer_name(self) -> str:
        """By which the harness tells its caches apart."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids of a text; no beginning of sequence where it has one already."""
        if add_special_tokens is None:
            add_special_tokens = self._add_bos_token
            if has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
                add_special_tokens = False
        if add_special_tokens is not None:
            kwargs["add_special_tokens"] = add_special_tokens
        return list(self._encode(string, **kwargs))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as a text, ready for the assistant's turn or in the middle of it."""

        def laid_out(messages: list[dict[str, str]]) -> str:
            return str(
                self.tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                    **self._chat_template_args,
                )
            )

        try:
            return laid_out(chat_history)
        except TemplateError as error:  # as the harness does where a template knows no system role
            logger.warning("the chat template refuses this (%s); without its system role", error)
            return laid_out([message for message in chat_history if message["role"] != "system"])

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each whole text, in the harness' own windows."""
        windows: list[list[_TokenIds]] = []
        owners: defaultdict[_TokenIds, set[int]] = defaultdict(set)
        for number, (text,) in enumerate(request.args for request in requests):
            rolling = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 2,  # a token before, and one that vLLM generates
                context_len=1,
            )
            windows.append([self._fitting(*make_disjoint_window(each)) for each in rolling])
            for pair in windows[number]:
                owners[pair].add(number)
        missing = [len({*pairs}) for pairs in windows]
        totals = [0.0] * len(requests)
        found: dict[_TokenIds, float] = {}
        for pair, (logprob, _) in self._answers(owners, disable_tqdm):
            found[pair] = logprob
            for number in owners[pair]:
                missing[number] -= 1
                if not missing[number]:
                    totals[number] = sum(found[each] for each in windows[number])
                    key = requests[number].args
                    self.cache_hook.add_partial("loglikelihood_rolling", key, totals[number])
        return totals

    def _loglikelihood_tokens(
        self, requests: list[_Named], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether each of its tokens is a likeliest one.

        What has been answered is in the harness' cache, whatever becomes of the rest.
        """
        pairs = [
            self._fitting(context, continuation, key) for key, context, continuation in requests
        ]
        keys: defaultdict[_TokenIds, list[tuple[str, str]]] = defaultdict(list)
        for (key, *_ids), pair in zip(requests, pairs, strict=True):
            keys[pair] += [] if key is None else [key]
        found: dict[_TokenIds, tuple[float, bool]] = {}
        for pair, answer in self._answers(keys, disable_tqdm):
            found[pair] = answer
            for key in keys[pair]:
                self.cache_hook.add_partial("loglikelihood", key, answer)
        return [found[pair] for pair in pairs]

    def _answers(
        self, pairs: Iterable[_TokenIds], disable_tqdm: bool
    ) -> Iterator[tuple[_TokenIds, tuple[float, bool]]]:
        """Each pair with its log-probability and whether it is greedy, as they come.

        Pairs, each of them once, are asked in the order of their tokens, so that shared prefixes
        are computed once.
        """
        distinct = sorted(pairs, key=lambda pair: pair[0] + pair[1])
        cuts = range(0, len(distinct), PAIRS_PER_REQUEST)
        parts = [distinct[start : start + PAIRS_PER_REQUEST] for start in cuts]
        bar = tqdm(total=len(distinct), disable=disable_tqdm, desc="Scoring pairs")
        for part, scored in zip(parts, self._asked(self._score, parts, bar), strict=True):
            yield from zip(part, scored, strict=True)

    def _asked(
        self, ask: Callable[[str, _Part], list[_Answer]], parts: list[_Part], bar: Any
    ) -> Iterator[list[_Answer]]:
        """The answers of each part, in order, as they come; all by the weights that live now."""
        with bar, self._scorer.explaining():
            of_these = partial(ask, self._client.weights().version)
            with closing(answers_in_order(of_these, parts, REQUESTS_AT_ONCE)) as answers:
                for answer in answers:
                    yield answer
                    bar.update(len(answer))

    def _fitting(
        self, context: list[int], continuation: list[int], key: tuple[str, str] | None = None
    ) -> _TokenIds:
        """The pair, its context cut from the left as the harness cuts it."""
        record = key and f"{key[0][-80:]!r} + {key[1][:80]!r}"
        if not continuation:
            raise InputError("a continuation has no tokens", record=record)
        room = self.max_length - 1 - len(continuation)  # vLLM generates one
        if room < 1:
            raise InputError(
                f"a continuation has {len(continuation)} tokens, the context holds "
                f"{self.max_length}, with one before it and one behind it",
                record=record,
            )
        if len(context) > room:
            logger.warning("a context of %d tokens is cut to the last %d", len(context), room)
        # A blank context may have no tokens.
        return tuple(context[-room:] or [self.prefix_token_id]), tuple(continuation)

    def _score(self, version: str, pairs: list[_TokenIds]) -> list[tuple[float, bool]]:
        asked = [
            TokenPair(prompt_token_ids=prompt, completion_token_ids=completion)
            for prompt, completion in pairs
        ]
        found: dict[int, tuple[float, bool]] = {}
        for result in self._client.logprobs(asked):
            _check_weights(version, result.weights_version)
            if result.is_greedy is None:
                raise EngineError("this engine does not tell whether a token is a likeliest one")
            found[result.index] = (result.logprob, result.is_greedy)
        return [found[index] for index in range(len(pairs))]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """An output for each context, over before the first of the texts that end it."""
        outputs = [""] * len(requests)
        eos = self.tokenizer.decode(self.eot_token_id)
        parts = group_prompts(
            [
                (self.tok_encode(context) or [self.prefix_token_id], given)
                for context, given in (one.args for one in requests)
            ],
            eos,
            self.max_gen_toks,
            self.max_length,
            self._truncation_side,
        )
        bar = tqdm(total=len(requests), disable=disable_tqdm, desc="Generating")
        for part in self._asked(self._generate, parts, bar):
            for number, text in part:
                outputs[number] = text
                self.cache_hook.add_partial("generate_until", requests[number].args, text)
        return outputs

    def _generate(self, version: str, part: PromptGroup) -> list[tuple[int, str]]:
        """Number and output of each prompt of a part."""
        # A reasoning model would stop inside its thoughts.
        stop = [] if self._think_end_token else part.options["stop"]
        options = part.options | {"stop": stop}
        texts = self._client.complete([ids for ids, _ in part.prompts], options)
        _check_weights(version, self._client.weights().version)
        return [
            (number, postprocess_generated_text(text, part.options["stop"], self._think_end_token))
            for (_, number), text in zip(part.prompts, texts, strict=True)
        ]


def _check_weights(expected: str, found: str) -> None:
    if found != expected:
        raise EngineError(
            f"the weights changed from {expected} to {found}; "
            "what --use_cache has kept is of the former"
        )
