"""How likely gold outputs are with and without the prompt that asks for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from engine.errors import InputError
from engine.measures.instruction_difficulty import DIFFICULTY_MEASURES, GOLD_ANSWERS
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.protocol.score_config import ScoreConfig
from engine.questions.pair_plan import Pair, TaskPlan, check_length, missing_gold
from engine.questions.question import Asked, Counts, Question, QuestionRow
from engine.tasks import Instance, Task
from engine.variance.analysis import Moves

Start = Literal["turn", "begin", "second_token"]


class GoldAnswer(QuestionRow):
    """A gold output behind one context, a row of `answers.parquet`.

    Attributes:
        given: `prompt`, the whole original one; `input`, the instance's input alone; `nothing`.
        start: What `nothing` is: `turn`, a bare start of the assistant's turn; `begin`, a token
            that begins a sequence; `second_token`: the tokenizer has neither, so that the first
            token stands for the context and all rows of the instance leave it out.
        n_tokens: Its tokens that count, end of sequence included.
        logprob: Sum of their log-probabilities, <= 0, a natural logarithm.
    """

    given: str
    start: str
    n_tokens: int
    logprob: float


class DifficultyQuestion(Question):
    """Scores the first gold output of each instance three times, under no perturbed prompt."""

    table = "answers"
    row = GoldAnswer
    input = GOLD_ANSWERS
    crossed = False
    measures = DIFFICULTY_MEASURES

    def fault(self, task: Task, config: ScoreConfig) -> InputError | None:
        """Every measured instance needs a gold output."""
        return missing_gold(task, config)

    def n_asked(self, task: Task, config: ScoreConfig) -> Counts:
        return Counts(pairs=3 * min(len(task.instances), config.n_instances))

    def plan(
        self, plan: TaskPlan, pairs: Sequence[Pair], config: ScoreConfig, builder: PromptBuilder
    ) -> list[Asked]:
        start, nothing = bare_start(builder)
        # As the prompt is wrapped or not, so is the input alone.
        form = PromptConfig(layout="plain", chat_template="never")
        if builder.uses_chat_template:
            form = PromptConfig(layout="chat")
        alone = PromptBuilder(builder.tokenizer, form, builder.max_model_len)
        asked = []
        for instance, original in zip(plan.instances, plan.originals, strict=True):
            answer = builder.completion(instance.golds[0])
            first = int(start == "second_token")
            if len(answer) <= first:
                record = f"{plan.task.id}/{instance.id}"
                raise InputError("is a single token", record=record, field="outputs")
            given = {
                "prompt": original.token_ids,
                "input": _only_input(instance, alone) or nothing,
                "nothing": nothing,
            }
            for name, context in given.items():
                # Without any context the first token is one; it counts nowhere.
                prompt, output = (context, answer) if context else (answer[:1], answer[1:])
                pair = Pair(plan.task.id, instance.id, 0, prompt, output, f"/given={name}")
                check_length(pair, builder.max_model_len)
                asked.append(Asked(pair, (name, start, len(answer) - first)))
        return asked

    def keep(
        self, asked: Sequence[Asked], answers: Sequence[Any], task: Task, builder: PromptBuilder
    ) -> list[QuestionRow]:
        rows: list[QuestionRow] = []
        for one, scored in zip(asked, answers, strict=True):
            given, start, n_tokens = one.about
            rows.append(
                GoldAnswer(
                    instance_id=one.call.instance_id,
                    perturbation=0,
                    given=given,
                    start=start,
                    n_tokens=n_tokens,
                    logprob=math.fsum(scored.token_logprobs[-n_tokens:]),
                )
            )
        return rows

    def grid(self, rows: Iterable[Mapping[str, Any]]) -> Moves:
        """Without perturbed prompts there is no table, and no error is told."""
        return np.empty((len(self.arrange(rows)), 0))


def bare_start(builder: PromptBuilder) -> tuple[Start, tuple[int, ...]]:
    """What stands before an answer that nobody asked for, and its token ids."""
    tokenizer = builder.tokenizer
    begin = () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)
    if builder.uses_chat_template:
        asked, turn = (
            tokenizer.apply_chat_template(
                [{"role": "user", "content": "?"}], tokenize=False, add_generation_prompt=each
            )
            for each in (False, True)
        )
        if turn.startswith(asked) and turn != asked:
            ids = tokenizer(turn.removeprefix(asked), add_special_tokens=False)["input_ids"]
            # The token that begins a sequence stands once, before all turns.
            once = begin and asked.startswith(tokenizer.bos_token) and ids[0] != begin[0]
            return "turn", (*(begin if once else ()), *ids)
    return ("begin" if begin else "second_token"), begin


def _only_input(instance: Instance, builder: PromptBuilder) -> tuple[int, ...]:
    """The prompt of an instance whose task says nothing; empty where it has no input."""
    if not instance.input.strip():
        return ()
    task = Task(id="input", definition=instance.input)
    return builder.token_ids([(task, instance.model_copy(update={"input": ""}))])[0]
