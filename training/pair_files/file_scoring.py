"""Log-probabilities of all pairs of files onto disk: what `jostle logprobs` does.

OUT.parquet or OUT.jsonl   the rows of the files with log-probabilities, in order
OUT.settings.json          what they depend on
OUT.skipped.jsonl          rows that were left out, and why
OUT.journal.jsonl          scored pairs, until the output is there; what broke off goes on from here
OUT.stdin.*                what came from standard input, as long as it is needed
OUT.lock                   which process is at it
OUT.engine.log             output of the engine, if one was started

Beside OUT.jsonl they are OUT.jsonl.settings.json and so on, for OUT.parquet may be there too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from pathlib import Path

from engine.client import AsyncEngineClient
from engine.client.pair_stream import PAIR_NAME
from engine.errors import EngineError, InputError, UnavailableError
from engine.files import remove_parts
from engine.pools.checks import Faults, IgnoredFaults
from engine.pools.opening import READERS
from engine.protocol.completions import CompletionLogprobs, Encoding, SkippedPair
from training.pair_files.pair_chunks import ChunkQueue, NumberedPair, cut_chunks
from training.pair_files.pair_columns import PairColumns
from training.pair_files.pair_file import PairFiles, Survey
from training.pair_files.scored_pairs import PairJournal, ScoredBatch
from training.tables.overwriting import AskedOf, WorkFiles

REQUESTS_AT_ONCE = 3
"""Of each engine: while one ends, it is busy with the others."""

JOURNAL_SECONDS = 0.5
"""What is lost to a kill at most, beside the pairs in flight."""

Arrived = tuple[int, CompletionLogprobs | SkippedPair]
"""The number of a pair, and what it brought."""


class LogprobFiles(WorkFiles):
    """The files of one scoring.

    Args:
        output: A `.parquet` or `.jsonl` file.

    Raises:
        InputError: If it is neither.
    """

    def __init__(self, output: Path) -> None:
        if output.suffix not in (".parquet", ".jsonl"):
            raise InputError("the output's name must end in .parquet or .jsonl", file=output)
        super().__init__(output, "scoring")
        self.output = output

    def _beside(self, ending: str) -> Path:
        if self._output.suffix == ".jsonl":
            return self._output.with_name(f"{self._output.name}.{ending}")
        return super()._beside(ending)

    def standard_input(self, ending: str) -> Path:
        """Where standard input is kept."""
        return self._beside(f"stdin{ending}")

    @contextmanager
    def claim(
        self, *, overwrite: bool = False, inputs: Iterable[object] = (), more: bool = False
    ) -> Iterator[None]:
        """As of all work; what killed processes left of the output goes."""
        with super().claim(overwrite=overwrite, inputs=inputs, more=more):
            for path in (self.output, self.skipped):
                remove_parts(path)
            yield

    def finish(self) -> None:
        """Remove what nobody needs once the output is there."""
        self.journal.unlink(missing_ok=True)
        for ending in READERS:
            self.standard_input(ending).unlink(missing_ok=True)


class LogprobSettings(AskedOf):
    """Content of `OUT.settings.json`: everything the numbers depend on.

    Attributes:
        files: What was read.
        digest: sha256 over all rows.
        columns: Names of the columns that were given.
        encoding: How texts became tokens.
        tokens: Whether there are values of each token.
    """

    files: tuple[str, ...]
    digest: str
    columns: PairColumns
    encoding: Encoding
    tokens: bool


class FileScoring:
    """One scoring of files; what its journal holds is not asked again.

    Args:
        pairs: The files.
        survey: What going through them has shown.
        settings: What the numbers depend on.
        skip_faulty: Whether pairs that cannot be scored are left out; otherwise they are errors.
    """

    def __init__(
        self,
        pairs: PairFiles,
        survey: Survey,
        settings: LogprobSettings,
        journal: PairJournal,
        *,
        skip_faulty: bool,
    ) -> None:
        self._pairs = pairs
        self._survey = survey
        self._settings = settings
        self._journal = journal
        self._skip_faulty = skip_faulty

    def ask(
        self,
        engines: Sequence[Callable[[], AsyncEngineClient]],
        on_scored: Callable[[int], None] | None = None,
    ) -> None:
        """Journals what all pairs bring.

        Args:
            engines: What makes a client of each engine; they have the same weights. One that goes
                away for longer than its client's patience leaves its work to the others.
            on_scored: Called with the number of pairs that are done.

        Raises:
            InputError: If an engine finds fault with a pair, whose row and field are named; or if
                the files changed after the survey.
            EngineError: If no engine is left, one fails, or answers with other weights.
        """
        done = self._journal.done(self._survey.n_pairs)
        tell = on_scored or (lambda n_done: None)
        tell(len(done))
        if len(done) == self._survey.n_pairs:
            return
        arrived: list[Arrived] = []

        def keep() -> None:
            if arrived:
                self._journal.append(ScoredBatch.of(arrived))
                for number, _ in arrived:
                    done.add(number)
                arrived.clear()
                tell(len(done))

        faults = IgnoredFaults() if self._skip_faulty else Faults()
        rows = self._pairs.rows_again(self._survey, faults)
        with self._journal:
            try:
                asyncio.run(self._ask(engines, cut_chunks(rows, done), arrived, keep))
            finally:
                keep()

    async def _ask(
        self,
        engines: Sequence[Callable[[], AsyncEngineClient]],
        chunks: Iterator[list[NumberedPair]],
        arrived: list[Arrived],
        keep: Callable[[], None],
    ) -> None:
        """Has all chunks scored; what arrives is kept every now and then."""

        async def keep_now_and_then() -> None:
            while True:
                await asyncio.sleep(JOURNAL_SECONDS)
                keep()

        queue = ChunkQueue(chunks)
        left = set(range(len(engines)))
        try:
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
                keeper = group.create_task(keep_now_and_then())
                workers = []
                for engine, connect in enumerate(engines):
                    client = await stack.enter_async_context(connect())
                    for _ in range(REQUESTS_AT_ONCE):
                        work = self._work(client, engine, left, queue, arrived)
                        workers.append(group.create_task(work))
                await asyncio.wait(workers)
                keeper.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _work(
        self,
        client: AsyncEngineClient,
        engine: int,
        left: set[int],
        queue: ChunkQueue,
        arrived: list[Arrived],
    ) -> None:
        """Has chunk after chunk scored; an engine that goes away leaves the rest to the others."""
        while (taken := await queue.take()) is not None:
            number, chunk = taken
            missing = dict(enumerate(chunk))
            try:
                await self._score(client, missing, arrived)
            except UnavailableError:
                left.discard(engine)
                if not left:
                    raise
                await queue.give_back(number, [*missing.values()])
                return
            await queue.finish(number)

    async def _score(
        self, client: AsyncEngineClient, missing: dict[int, NumberedPair], arrived: list[Arrived]
    ) -> None:
        """Has the pairs of a chunk scored; what has arrived is missing no longer."""
        chunk = [*missing.values()]

        def take(result: CompletionLogprobs | SkippedPair) -> None:
            arrived.append((missing.pop(result.index).number, result))

        results = client.logprobs(
            [each.pair.sent for each in chunk],
            self._settings.encoding,
            tokens=self._settings.tokens,
            on_skip=take if self._skip_faulty else None,
        )
        try:
            async with aclosing(results):
                async for result in results:
                    self._check_weights(result)
                    take(result)
        except UnavailableError:
            raise
        except (InputError, EngineError) as error:
            raise self._of_row(error, [each.number for each in chunk]) from error

    def _check_weights(self, result: CompletionLogprobs) -> None:
        expected = self._settings.weights.version
        if result.weights_version != expected:
            raise EngineError(f"the weights changed from {expected} to {result.weights_version}")

    def _of_row(self, error: InputError | EngineError, numbers: Sequence[int]) -> Exception:
        """The error, naming the row whose pair it is about."""
        named = PAIR_NAME.search(str(error))
        if named is None:
            return error
        row = self._pairs.row_of(numbers[int(named[1])])
        field = error.field if isinstance(error, InputError) else None
        fault = row.fault(numbers[int(named[1])], str(error), field)
        return fault if isinstance(error, InputError) else EngineError(str(fault))
