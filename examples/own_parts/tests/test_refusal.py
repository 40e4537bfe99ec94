"""The question asks one pair an instance, and its measure is computed from the answers."""

import math

from own_parts.refusal import REFUSAL, REFUSAL_PROBABILITY, TEXT
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.measures.measure_testing import check_measure
from engine.prompts import PromptBuilder
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import Scored
from engine.questions.pair_plan import plan_task
from engine.questions.question_registry import find_question
from engine.tasks import Instance, Task


def words() -> PreTrainedTokenizerFast:
    """A tokenizer that knows five words."""
    known = {word: number for number, word in enumerate(["?", "<eos>", *TEXT.split()])}
    inner = Tokenizer(models.WordLevel(known, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="?", eos_token="<eos>")


def test_one_pair_an_instance() -> None:
    config = ScoreConfig(measure="refusal_probability", n_perturbations=1)
    assert find_question(config) is REFUSAL
    instances = tuple(Instance(id=name, input=name) for name in ("sky", "sea"))
    task = Task(id="colours", definition="Say the colour.", instances=instances)
    builder = PromptBuilder(words(), config.prompt, 64)
    asked = REFUSAL.plan(plan_task(task, config, builder), (), config, builder)
    assert len(asked) == REFUSAL.n_asked(task, config).pairs == 2
    scored = [Scored((math.log(p),) * 5, 0, 0, rescored=False) for p in (0.5, 0.25)]
    answer = REFUSAL.answer(REFUSAL.keep(asked, scored, task, builder), task)
    assert answer.values["refusal_probability"] == 0.375


def test_the_measure() -> None:
    check_measure(REFUSAL_PROBABILITY)
