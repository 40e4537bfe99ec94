"""Which weights are live, and the change to others: check, drain, load, verify, new version."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vllm.engine.protocol import EngineClient

from engine.errors import EngineError, InputError
from engine.protocol.limits import Limits
from engine.protocol.weights_state import Verification, WeightsKind, WeightsState
from engine.server.keep_running.metrics import RELOAD_SECONDS, RELOADS, show_version
from engine.server.reload.admission import Admission, check_engine, check_sleeper
from engine.server.reload.gate import GateTimeoutError, in_time, to_the_end
from engine.server.reload.live_record import LiveRecord, Memory, Proof, SharedFolder
from engine.server.reload.prover import Prover
from engine.server.vllm.rounding import Logprobs
from engine.server.vllm.vllm_backend import NONE, VllmBackend
from engine.server.vllm.worker import LOAD_METHOD
from engine.weights.live_file import LastGood, write_last_good
from engine.weights.manifest import Manifest, Probe, read_manifest

logger = logging.getLogger("vllm.jostle")

_Given = TypeVar("_Given")

_SLEEPS = Probe(
    prompt_token_ids=tuple(range(1, 33)),
    completion_token_ids=tuple(range(1, 9)),
    token_logprobs=(0.0,) * 8,
)
"""The pair by which weights are known again after a sleep; what it says of itself is of no use."""

RESET_TRIES = 100  # of the prefix cache after a load, 50 ms apart


class LiveWeights:
    """The one place that knows the live version; owns the gate before the engine.

    Args:
        root: Folder below which checkpoints may be loaded; none may be if it is None.
        first: The weights the server started with; their path is a folder, or a hub id when there
            is no local copy.
        live_file: Where to write down which weights are live; None: nowhere.
        shared: Folder that all API processes of the server share; None: there is only this one.
        condemn: Called when the engine can neither use new weights nor old ones; it must end.
    """

    def __init__(
        self,
        client: EngineClient,
        root: Path | None,
        first: WeightsState,
        limits: Limits,
        *,
        live_file: Path | None = None,
        shared: Path | None = None,
        condemn: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._admission = Admission(root, Path(first.path))
        self._first, self._limits = first, limits
        self._live_file = live_file
        self._condemn = condemn
        self._shared = shared is not None
        self._before_sleep: list[Logprobs] | None = None
        self.extensions = NONE
        self._slots: asyncio.Semaphore | None = None
        self._slots = asyncio.Semaphore(self._backend("").max_in_flight)
        record = LiveRecord(state=first)
        self._prover = Prover(client, self._backend)
        self._record = SharedFolder(shared, record) if shared else Memory(record)
        self.gate = self._record.gate

    @property
    def state(self) -> WeightsState:
        """The live weights."""
        return self._record.read().state

    @property
    def usable(self) -> bool:
        """Whether the engine can score; if not, it is being ended."""
        return self._record.read().usable

    @property
    def loading(self) -> bool:
        """Whether weights are being loaded, by whatever process of the server."""
        return self._record.read().loading

    @property
    def fit(self) -> bool:
        """Whether a request that has passed the gate may be served."""
        record = self._record.read()
        return record.usable and not record.loading

    def _note(self, **changes: Any) -> None:
        """Changes the record. The gate is held for writing, or nobody is served yet."""
        self._record.write(self._record.read().model_copy(update=changes))

    def _note_or_end(self, **changes: Any) -> None:
        """As `_note`; on a full disk the other processes would wait, or go on, for ever."""
        try:
            self._note(**changes)
        except InputError:
            self._condemn()
            raise

    @property
    def vocabulary_size(self) -> int:
        """Token ids lie below this."""
        return int(self._client.vllm_config.model_config.get_vocab_size())

    def backend(self, salt: str | None = None) -> VllmBackend:
        """A backend for requests that hold the gate.

        Args:
            salt: The request's own salt of the cache, beside that of the live version.
        """
        return self._backend("/".join(filter(None, ("jostle", self.state.version, salt))))

    def _backend(self, salt: str) -> VllmBackend:
        return VllmBackend(self._client, salt, extensions=self.extensions, slots=self._slots)

    async def load(
        self,
        path: Path,
        version: str | None,
        kind: WeightsKind | None = None,
        verify: Verification = "probes",
    ) -> WeightsState:
        """Makes a published checkpoint or adapter live, or the weights of the start again.

        Args:
            version: The version that its manifest must name, or that of the weights of the start.
                None only for what is not published.
            kind: The kind that its manifest must name; None: any.
            verify: `files` for a checkpoint that is not published.

        Raises:
            InputError: If it must not or cannot be loaded; the engine was not touched.
            GateTimeoutError: If requests in flight did not end in time; the engine was not touched.
            EngineError: If the load failed; the weights from before are live again, verified, or
                the engine is condemned.
        """
        outcome = "refused"
        try:
            async with self.gate.alone():
                self._check_awake()
                started = time.monotonic()
                target, proof = await asyncio.to_thread(self._admit, path, version, kind, verify)
                async with self.gate.writing(self._limits.drain):
                    outcome = "failed"
                    # Not given up half way when the client that asked for it goes away.
                    await to_the_end(self._make_live(target, proof, started))
                    outcome = "done"
                state = self.state
        except GateTimeoutError as error:
            raise GateTimeoutError(
                f"{self._limits.drain:g} s were not enough for the requests in flight to end; "
                f"{self.state.version} is still live, try again"
            ) from error
        finally:
            RELOADS.labels(outcome).inc()
        logger.info("weights %s are live after %.2f s", state.version, state.seconds)
        return state

    def _admit(
        self, path: Path, version: str | None, kind: WeightsKind | None, verify: Verification
    ) -> tuple[WeightsState, Proof]:
        check_engine(self._client.vllm_config)
        live, of_start = self.state, self._record.read().of_start
        for each in filter(None, (live.path, live.base)):
            if Path(each).is_absolute() and not Path(each).is_dir():
                logger.warning("%s is gone: a load that fails cannot be taken back", each)
        if verify == "files":
            target = self._admission.check_unpublished(path, version, kind, live)
            return target, self._prover.proof_of_nobody()
        assert version is not None, "the request's record sees to it"
        if version == live.served.version:
            if of_start is None:
                problem = "nothing is known that would prove them live; start the server again"
                raise InputError(problem, field="version")
            self._admission.check_start(path, live)
            return self._first, of_start
        target, manifest = self._admission.check(path, version, kind, live)
        return target, Proof.of(manifest)

    async def _make_live(self, target: WeightsState, proof: Proof, started: float) -> None:
        before, now = self.state, self.state
        self._note(loading=True)
        try:
            await self._swap(target, proof)
            now = target.model_copy(update={"seconds": time.monotonic() - started})
        finally:
            self._note_or_end(loading=False, state=now)
        show_version(now.version, before.version)
        RELOAD_SECONDS.observe(time.monotonic() - started)
        if self._live_file is not None:
            name = self._client.vllm_config.model_config.served_model_name
            last = LastGood(
                version=target.version, path=target.path, base=target.base, served_as=str(name)
            )
            try:
                await asyncio.to_thread(write_last_good, self._live_file, last)
            except InputError:
                logger.exception("a restart will not find %s", target.version)

    async def release(self) -> None:
        """Frees the device's memory until `restore`; no request is served meanwhile.

        Raises:
            InputError: If the server was not started for that.
            GateTimeoutError: If requests in flight did not end in time.
            EngineError: If it failed; the engine is condemned.
        """
        if self._shared:
            raise InputError("memory is freed by a server with one API process")
        check_sleeper(self._client.vllm_config)
        async with self.gate.alone():
            self._check_awake()
            check_engine(self._client.vllm_config)
            async with self.gate.writing(self._limits.drain):
                before = await self._prover.ask((_SLEEPS,), "before")
                self._note(loading=True)
                await self._or_condemn(self._client.sleep(level=2), "falling asleep")
                self._before_sleep = before
        logger.info("the weights %s are released", self.state.version)

    @property
    def released(self) -> bool:
        """Whether their memory is freed, until `restore`."""
        return self._before_sleep is not None

    async def restore(self) -> None:
        """Loads the live weights again after `release`, and verifies that they are those.

        Raises:
            EngineError: If it failed; the engine is condemned.
        """
        async with self.gate.alone(), self.gate.writing(self._limits.drain):
            if self._before_sleep is None:
                return
            await self._or_condemn(self._client.wake_up(), "waking up")
            await self._roll_back((_SLEEPS,), self._before_sleep)
            self._before_sleep = None
            self._note(loading=False)
        logger.info("the weights %s are live again", self.state.version)

    def _check_awake(self) -> None:
        if self.released:
            raise InputError("the weights are released; PUT /v1/weights brings them back")

    async def _or_condemn(self, step: Coroutine[Any, Any, object], what: str) -> None:
        try:
            await self._in_time(step, what)
        except Exception as error:
            self._note_or_end(usable=False)
            self._condemn()
            raise EngineError(f"the engine's memory is in doubt ({error}); it is ended") from error

    async def start(self, manifest: Manifest | None = None, adapter: Path | None = None) -> None:
        """Verifies the weights the server started with, before the first request of any process.

        The process that comes first does it for all, inside `gate.alone`.

        Args:
            manifest: Theirs, if they carry one.
            adapter: A published adapter to merge into them.

        Raises:
            InputError: If the adapter does not belong to them.
            EngineError: If they do not give the trainer's log-probabilities.
        """
        if not self._record.begun:
            if manifest is not None:
                await self._prover.check(Proof.of(manifest), "at the start")
            if adapter is not None:
                await self._start_with(adapter)
            else:
                self._note(of_start=Proof.of(manifest) if manifest else None)
        show_version(self.state.version)

    async def _start_with(self, adapter: Path) -> None:
        manifest = read_manifest(adapter)
        target = await asyncio.to_thread(self._admission.check_files, adapter, manifest, self.state)
        before = await self._prover.ask(manifest.probes, "before")
        await self._load(target)
        await self._prover.check(Proof.of(manifest), "at the start", before)
        self._note(state=target, of_start=self._prover.proof_of_live(manifest.probes, before[0]))

    async def _swap(self, target: WeightsState, proof: Proof) -> None:
        """Loads and verifies; on failure the weights from before come back, and are verified."""
        probing = "asking for the probes"
        before = await self._in_time(self._prover.ask(proof.probes, "before"), probing)
        if self.state.is_base and self._record.read().of_start is None:
            self._note(of_start=self._prover.proof_of_live(proof.probes, before[0]))
        try:
            await self._load(target)
            if target.verified == "files":
                looking = asyncio.to_thread(self._admission.check_unchanged, target)
                await self._in_time(looking, "looking at its files")
            # Loaded once more, the live weights do not change; a version names one set of them.
            new = target.version != self.state.version
            verifying = self._prover.check(proof, "after the load", before if new else ())
            await self._in_time(verifying, probing)
        except Exception as error:
            logger.exception("loading %s failed", target.path)
            if self._client.errored:
                self._note(usable=False)
                raise EngineError(
                    f"the engine died while it loaded {target.path}; whoever watches the "
                    f"server starts it again on {self.state.version}"
                ) from error
            await self._roll_back(proof.probes, before)
            raise EngineError(
                f"{target.path} could not be made live ({error}); "
                f"{self.state.version} is live again"
            ) from error

    async def _load(self, target: WeightsState) -> None:
        args = (target.path,) if target.base is None else (target.base, target.path)
        loading = self._client.collective_rpc(LOAD_METHOD, args=args)
        await self._in_time(loading, "the load")
        await self._in_time(self._reset_caches(), "resetting the caches")

    async def _in_time(self, step: Coroutine[Any, Any, _Given], what: str) -> _Given:
        # A deadline each: nobody else watches the engine while weights are loaded.
        return await in_time(step, what, self._limits.load_seconds, lambda: self._client.errored)

    async def _reset_caches(self) -> None:
        # The workers have forgotten what their images came to, the scheduler has not.
        await self._client.reset_encoder_cache()
        # A reset is refused while a request holds blocks; one just aborted still may, for a step.
        for _ in range(RESET_TRIES):
            if await self._client.reset_prefix_cache(reset_connector=True):
                return
            await asyncio.sleep(0.05)
        if not await self._client.reset_prefix_cache(reset_connector=False):
            problem = "the prefix cache could not be reset: some request still holds blocks"
            raise EngineError(problem)
        logger.warning(
            "the KV connector keeps what it holds of the weights before: requests to vLLM's own "
            "routes may be answered from it"
        )

    async def _roll_back(self, probes: Sequence[Probe], before: Sequence[Logprobs]) -> None:
        self._note_or_end(usable=False)
        try:
            await self._load(self.state)
            asking = self._prover.ask(probes, "rolled-back")
            again = await self._in_time(asking, "asking for the probes")
        except Exception as error:
            self._condemn()
            raise EngineError(
                f"neither the new weights nor {self.state.version} could be loaded; "
                "the engine is ended"
            ) from error
        if fault := self._prover.changed(before, again):
            self._condemn()
            raise EngineError(
                f"{self.state.version} was loaded again but its log-probabilities {fault}; "
                "the engine is ended"
            )
        self._note_or_end(usable=True)
