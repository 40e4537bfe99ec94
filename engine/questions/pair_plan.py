"""The pair plan: the token ids scored for a task, ordered so that equal prefixes are neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from engine.errors import InputError
from engine.perturb import Perturbation, Shown
from engine.prompts import EncodedPrompt, PromptBuilder
from engine.prompts.seams import shared_prefix
from engine.prompts.special import without_end_texts
from engine.protocol.api import Usage
from engine.protocol.score_config import ScoreConfig
from engine.questions.backend import Backend, Scored
from engine.questions.incidence import incidence
from engine.tasks import Instance, Task, check_task


@dataclass(frozen=True, slots=True)
class Pair:
    """One (prompt, output) to score, with the name that errors and records carry.

    Attributes:
        about: What tells it from other pairs of its prompt, for messages.
        again: Whether it is scored a second time, with nothing reused of the first.
        continued: Whether samples of its prompt will be asked for.
    """

    task_id: str
    instance_id: str
    perturbation: int
    prompt: tuple[int, ...]
    output: tuple[int, ...]
    about: str = ""
    again: bool = False
    continued: bool = False

    @property
    def of_prompt(self) -> str:
        """task/instance/perturbation, for messages."""
        return f"{self.task_id}/{self.instance_id}/j={self.perturbation}"

    @property
    def name(self) -> str:
        """The same, and what the pair is about."""
        return self.of_prompt + self.about

    @property
    def submitted(self) -> tuple[int, ...]:
        """What goes to the engine, which predicts the last token."""
        return self.prompt + self.output[:-1]

    @property
    def most_tokens(self) -> int:
        """Tokens of prompt and output."""
        return len(self.prompt) + len(self.output)

    async def ask(self, backend: Backend, group: int) -> tuple[Scored, Usage]:
        """The log-probabilities of the output's tokens and what they cost."""
        scored = await backend.score(
            self.prompt,
            self.output,
            self.name,
            group,
            again=self.again,
            continued=self.continued,
        )
        return scored, Usage(
            pairs=1,
            tokens_submitted=scored.n_submitted,
            tokens_reused=scored.n_reused,
            pairs_rescored=int(scored.rescored),
        )


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """The instances of a task that are measured, with their original prompts.

    Attributes:
        task: The task, as `PromptBuilder.clean` leaves it.
        instances: The sample of instances, in the task's order.
        originals: The original prompt of each instance, in the same order.
        rendered: The numbers j whose prompts are `EncodedPrompt.also`.
    """

    task: Task
    instances: tuple[Instance, ...]
    originals: tuple[EncodedPrompt, ...]
    rendered: range = range(0)

    @property
    def n_tokens(self) -> int:
        """Tokens of all its prompts."""
        return sum(len(each) for one in self.originals for each in (one.token_ids, *one.also))


def missing_gold(task: Task, config: ScoreConfig) -> InputError | None:
    """The fault of the first instance that is measured and has no gold output; None without one.

    One that `PromptBuilder.clean` empties is none.
    """
    bare = without_end_texts if config.prompt.strip_end_tokens else str
    for instance in task.sample_instances(config.n_instances, config.seed):
        if not any(map(str.strip, map(bare, instance.golds))):
            record = f"{task.id}/{instance.id}"
            return InputError("has no gold output to score", record=record, field="outputs")
    return None


def plan_task(task: Task, config: ScoreConfig, builder: PromptBuilder) -> TaskPlan:
    """Samples the instances and encodes their original prompts.

    Each shows as many examples as fit the context under the original prompt and, where the
    perturbation can lengthen it, under every one of `ScoreConfig.fitted`.

    Raises:
        InputError: If the task has one of `engine.tasks.task_faults`, gold outputs are asked for
            and missing, or a prompt does not fit the context even without examples.
    """
    check_task(task)
    task = builder.clean(task)
    instances = task.sample_instances(config.n_instances, config.seed)
    if config.reference == "gold" and (fault := missing_gold(task, config)):
        raise fault
    perturbation = Perturbation(config.perturbation, config.seed)
    rendered = config.fitted if perturbation.lengthens else range(0)

    @cache
    def perturbed(shown: Shown) -> tuple[Task, ...]:
        return tuple(perturbation.apply(task, j, shown) for j in rendered)

    originals = tuple(
        builder.prompt(task, instance, config.max_output_tokens, perturbed)
        for instance in instances
    )
    return TaskPlan(task, instances, originals, rendered)


def plan_pairs(
    plan: TaskPlan,
    outputs: Sequence[tuple[int, ...]],
    config: ScoreConfig,
    builder: PromptBuilder,
    *,
    originals: bool = True,
) -> list[Pair]:
    """All pairs of a task, perturbation by perturbation, so that equal prefixes are neighbours.

    No perturbed ones where each of their prompts equals its original: the task cannot be measured.
    Where only some do, these are draws that happened to change nothing.

    Args:
        outputs: The reference output of each instance of the plan, as token ids.
        builder: The prompt builder that made the plan.
        originals: Whether the original prompts are among them.

    Raises:
        InputError: If a pair is longer than the model's context.
    """
    prompts: list[tuple[int, int, tuple[int, ...]]] = []
    if originals:
        prompts += [(0, i, original.token_ids) for i, original in enumerate(plan.originals)]
    perturbed: list[tuple[int, int, tuple[int, ...]]] = []
    for j, wanted in _columns(plan, config):
        perturbed += [
            (j, i, prompt)
            for i, prompt in zip(
                wanted, perturbed_prompts(plan, j, wanted, config, builder), strict=True
            )
        ]
    if any(prompt != plan.originals[i].token_ids for _, i, prompt in perturbed):
        prompts += perturbed
    pairs = [
        Pair(plan.task.id, plan.instances[i].id, j, prompt, outputs[i]) for j, i, prompt in prompts
    ]
    for pair in pairs:
        check_length(pair, builder.max_model_len)
    return pairs


def _columns(plan: TaskPlan, config: ScoreConfig) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The perturbations of a design, each with the positions of its instances."""
    last = config.perturbations[-1]
    r = config.instances_per_perturbation
    columns = incidence(plan.task.id, len(plan.instances), last, r, config.seed)
    yield from list(enumerate(columns, 1))[config.first_perturbation - 1 :]


def second_readings(plan: TaskPlan, outputs: Sequence[tuple[int, ...]], most: int) -> list[Pair]:
    """The original pairs of the first instances, to be scored a second time."""
    chosen = zip(plan.instances[:most], plan.originals[:most], outputs[:most], strict=True)
    return [
        Pair(plan.task.id, one.id, 0, original.token_ids, output, "/again", again=True)
        for one, original, output in chosen
    ]


def prompts_of(plan: TaskPlan, pairs: Sequence[Pair]) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Instance, perturbation and token ids of every prompt of a task, the original ones first.

    Args:
        pairs: Its pairs, whose perturbed prompts are taken.
    """
    for instance, original in zip(plan.instances, plan.originals, strict=True):
        yield instance.id, 0, original.token_ids
    for pair in pairs:
        if pair.perturbation > 0:
            yield pair.instance_id, pair.perturbation, pair.prompt


def perturbed_prompts(
    plan: TaskPlan, j: int, wanted: Sequence[int], config: ScoreConfig, builder: PromptBuilder
) -> list[tuple[int, ...]]:
    """Token ids of one perturbation's prompts, of some of a plan's instances.

    Args:
        j: The perturbation, >= 1.
        wanted: Positions of the instances in the plan.
        builder: The prompt builder that made the plan.
    """
    if j in plan.rendered:
        at = plan.rendered.index(j)
        return [plan.originals[i].also[at] for i in wanted]
    perturbation = Perturbation(config.perturbation, config.seed)
    # The number of examples was decided on the original prompt. A shortened prompt must not
    # regain an example, or the pair would differ in more than the perturbation.
    counts = {
        i: Shown(plan.originals[i].n_positive_examples, plan.originals[i].n_negative_examples)
        for i in wanted
    }
    tasks = {shown: perturbation.apply(plan.task, j, shown) for shown in set(counts.values())}
    return builder.token_ids((tasks[counts[i]], plan.instances[i]) for i in wanted)


def is_measurable(plan: TaskPlan, config: ScoreConfig, builder: PromptBuilder) -> bool:
    """Whether any prompt of a design differs from its original; without one there is no U.

    Args:
        builder: The prompt builder that made the plan.
    """
    # Instances that show equally many examples share all that is perturbed.
    shown = {
        (one.n_positive_examples, one.n_negative_examples): i
        for i, one in enumerate(plan.originals)
    }
    wanted = [*shown.values()]
    originals = [plan.originals[i].token_ids for i in wanted]
    return any(
        perturbed_prompts(plan, j, wanted, config, builder) != originals
        for j in config.perturbations
    )


def reusable_tokens(sequences: Iterable[tuple[int, ...]]) -> int:
    """How many tokens of the sequences lie on a prefix that another one has already brought.

    The tokens that remain are the nodes of the sequences' prefix tree.
    """
    return sum(shared for _, shared in with_shared_prefixes(sequences))


def with_shared_prefixes(
    sequences: Iterable[tuple[int, ...]],
) -> Iterator[tuple[tuple[int, ...], int]]:
    """The sequences in sorted order, each with the tokens of the prefix it shares.

    In that order the longest prefix a sequence shares with any before it is the one it shares with
    its neighbour.
    """
    before: tuple[int, ...] = ()
    for sequence in sorted(sequences):
        yield sequence, shared_prefix(before, sequence)
        before = sequence


def check_length(pair: Pair, max_model_len: int) -> None:
    """Raises `InputError` if the pair does not fit the context; it is never cut."""
    check_fits(pair.most_tokens, max_model_len, pair.of_prompt)


def check_fits(n_tokens: int, max_model_len: int, record: str) -> None:
    """Raises `InputError` if a pair of so many tokens does not fit the context.

    One position is kept free: vLLM generates at least one token after every prompt.
    """
    if n_tokens >= max_model_len:
        raise InputError(
            f"the pair has {n_tokens} tokens, the model's context holds {max_model_len - 1} and "
            "the one token that the engine generates",
            record=record,
        )
