from __future__ import annotations

import polars as pl
import pytest

from engine.errors import InputError
from engine.prompts import PromptBuilder
from engine.prompts.prompt_config import PromptConfig
from engine.questions.pair_plan import check_fits
from engine.tasks import Instance
from tests.training.fakes import ANSWERS, make_task
from tests.training.tiny import make_tokenizer
from training.config.run_config import RunConfig
from training.trainer.training_rows import ROW_COLUMNS, build_rows, choose_probes

BUILDER = PromptBuilder(make_tokenizer(), PromptConfig(), 64)
CONFIG = RunConfig.model_validate(
    {"model": {"max_model_len": 64}, "score": {"max_output_tokens": 8}}
)


def test_rows_are_the_prompts_of_scoring_and_the_first_gold_output() -> None:
    task = make_task("a")
    frame = build_rows([task], BUILDER, CONFIG).frame
    assert dict(frame.schema) == ROW_COLUMNS
    for row, instance in zip(frame.iter_rows(named=True), task.instances, strict=True):
        assert row["instance_id"] == instance.id
        assert tuple(row["prompt_token_ids"]) == BUILDER.prompt(task, instance, 8).token_ids
        assert tuple(row["completion_token_ids"]) == BUILDER.completion(ANSWERS[instance.id])


def test_blank_golds_are_not_trained_on() -> None:
    golds = {"sky": ("", " blue\n"), "grass": ("  ",), "blood": ("", ""), "abc": ("cba",)}
    task = make_task("a")
    instances = tuple(
        each.model_copy(update={"outputs": golds[each.id]}) for each in task.instances
    )
    frame = build_rows([task.model_copy(update={"instances": instances})], BUILDER, CONFIG).frame
    assert frame["instance_id"].to_list() == ["sky", "abc"]
    assert tuple(frame["completion_token_ids"][0]) == BUILDER.completion("blue")
    with pytest.raises(InputError, match="no instance has an output to train on"):
        build_rows([task.model_copy(update={"instances": instances[1:3]})], BUILDER, CONFIG)


def test_the_sample_is_seeded_and_bounded() -> None:
    def ids(seed: int) -> list[str]:
        train = CONFIG.train.model_copy(update={"instances_per_task": 2, "seed": seed})
        config = CONFIG.model_copy(update={"train": train})
        return build_rows([make_task("a")], BUILDER, config).frame["instance_id"].to_list()

    assert ids(0) == ids(0)
    assert len(ids(0)) == 2
    assert len({tuple(ids(seed)) for seed in range(8)}) > 1


def test_long_rows_are_left_out_and_told() -> None:
    long = Instance(id="long", input="sky", outputs=("word " * 60,))
    task = make_task("a").model_copy(update={"instances": (*make_task("a").instances, long)})
    rows = build_rows([task], BUILDER, CONFIG)
    assert rows.too_long == ("a/long",)
    assert rows.frame.height == 4
    only = make_task("b").model_copy(update={"instances": (long,)})
    rows = build_rows([task, only], BUILDER, CONFIG)
    assert (rows.too_long, rows.frame.height) == (("a/long", "b/long"), 4)
    with pytest.raises(InputError, match="record b: every row is longer than 63"):
        build_rows([only], BUILDER, CONFIG)


def test_a_prompt_that_is_too_long_alone_is_left_out_and_told() -> None:
    long = Instance(id="long", input="sky " * 60, outputs=("blue",))
    task = make_task("a").model_copy(update={"instances": (long, *make_task("a").instances)})
    rows = build_rows([task], BUILDER, CONFIG)
    assert (rows.too_long, rows.frame.height) == (("a/long",), 4)


@pytest.mark.parametrize(("words", "fits"), [(0, True), (1, False)])
def test_a_row_leaves_room_for_the_token_that_an_engine_generates(words: int, fits: bool) -> None:
    """The engine could not verify it as a probe, see `engine.questions.pair_plan.check_fits`."""
    task = make_task("a")
    taken = len(BUILDER.prompt(task, task.instances[0], 8).token_ids) + 1  # the end token
    output = "word " * (63 - taken + words)
    row = task.instances[0].model_copy(update={"outputs": (output,)})
    task = task.model_copy(update={"instances": (row, *task.instances[1:])})
    rows = build_rows([task], BUILDER, CONFIG)
    assert rows.too_long == (() if fits else ("a/sky",))
    for row_ids in rows.frame.iter_rows(named=True):
        n_tokens = len(row_ids["prompt_token_ids"]) + len(row_ids["completion_token_ids"])
        check_fits(n_tokens, 64, row_ids["instance_id"])


@pytest.mark.parametrize(("n_rows", "n_probes"), [(1, 1), (3, 3), (8, 8), (40, 8)])
def test_probes_are_spread_over_the_rows(n_rows: int, n_probes: int) -> None:
    frame = pl.DataFrame(
        {
            "task_id": ["t"] * n_rows,
            "instance_id": [str(index) for index in range(n_rows)],
            "prompt_token_ids": [[index + 10] for index in range(n_rows)],
            "completion_token_ids": [[index + 100] for index in range(n_rows)],
        },
        schema=ROW_COLUMNS,
    )
    probes = choose_probes(frame)
    assert len({probe.prompt_token_ids for probe in probes}) == n_probes
    own = [p.completion_token_ids[0] - p.prompt_token_ids[0] == 90 for p in probes]
    assert own == [index % 2 == 0 or n_probes == 1 for index in range(n_probes)]
