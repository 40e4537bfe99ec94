"""The shipped accelerate configs are what accelerate reads."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "accelerate"
KINDS = {"fsdp": "FSDP", "deepspeed_zero3": "DEEPSPEED"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_it(path: Path) -> None:
    from accelerate.commands.config.config_args import (  # type: ignore[import-untyped]
        load_config_from_file,
    )
    from accelerate.commands.launch import (  # type: ignore[import-untyped]
        launch_command_parser,
    )

    config = load_config_from_file(str(path))  # unknown keys are errors
    assert config.distributed_type == KINDS[path.stem]
    parser = launch_command_parser()
    words = [
        "--config_file",
        str(path),
        "--no_python",
        "python",
        "-m",
        "training.trainer.sft",
        "job.json",
    ]
    parsed = parser.parse_args(words)
    assert parsed.no_python
    assert [parsed.training_script, *parsed.training_script_args] == words[3:]
    known = set(vars(parsed))
    for section in (config.fsdp_config, getattr(config, "deepspeed_config", {})):
        for name in section or {}:
            assert name in known, f"accelerate launch has no option {name}"
