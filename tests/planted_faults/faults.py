"""Faults to plant: a piece of source, what is put in its place, and the tests that must notice.

Each is one that somebody might make or that a machine cannot show: a wrong number, a step left out,
an order turned round.
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One fault.

    Attributes:
        module: Where it is planted.
        means: What goes wrong with it.
        source: A piece of the module's source that stands there once.
        planted: What stands in its place.
        tests: A file of tests, or one test, which must fail.
    """

    module: str
    means: str
    source: str
    planted: str
    tests: str


PLANNER = "engine.questions.pair_plan"
BUILDER = "engine.prompts.builder"
SEAMS = "engine.prompts.seams"
SHARED_HASHES = "engine.server.vllm.shared_hashes"
DIRECT_REQUESTS = "engine.server.vllm.direct_requests"
GATE = "engine.server.reload.gate"
PROCESS_GATE = "engine.server.reload.process_gate"
LIVE_WEIGHTS = "engine.server.reload.live_weights"
PROVER = "engine.server.reload.prover"
ROUNDING = "engine.server.vllm.rounding"
ADMISSION = "engine.server.reload.admission"
ROUNDS = "training.run.rounds"
STATE = "training.run.state"
LIVE_ENGINE = "training.run.live_engine"
FINETUNE = "training.run.finetune"
RESUME = "training.trainer.resume"

OF_PLANNER = "tests/engine/questions/test_pair_plan.py"
OF_BUILDER = "tests/engine/prompts/test_special_tokens.py"
OF_PIECES = "tests/engine/prompts/test_piecewise.py"
OF_HASHES = "tests/engine/server/vllm/test_shared_hashes.py"
OF_DIRECT = "tests/engine/server/vllm/test_direct_requests.py"
OF_GATE = "tests/engine/server/reload/test_gate.py"
OF_PROCESS_GATE = "tests/engine/server/reload/test_process_gate.py"
OF_RELOAD = "tests/engine/server/reload/test_live_weights.py"
OF_ROUNDING = "tests/engine/server/vllm/test_rounding.py"
OF_ROUNDS = "tests/training/run/test_rounds.py"
OF_RESUME = "tests/training/trainer/test_resume.py"

FAULTS = (
    Fault(
        PLANNER,
        "a shortened prompt regains an example",
        "Shown(plan.originals[i].n_positive_examples, plan.originals[i].n_negative_examples)",
        "Shown(len(plan.task.positive_examples), len(plan.task.negative_examples))",
        OF_PLANNER,
    ),
    Fault(
        PLANNER,
        "pairs come instance by instance, so that no prefixes are neighbours",
        "if any(prompt != plan.originals[i].token_ids for _, i, prompt in perturbed):",
        "perturbed.sort(key=lambda one: one[1])\n    if perturbed:",
        OF_PLANNER,
    ),
    Fault(
        PLANNER,
        "an output is scored behind the prompt of another instance",
        "Pair(plan.task.id, plan.instances[i].id, j, prompt, outputs[i])",
        "Pair(plan.task.id, plan.instances[i].id, j, prompt, outputs[i - 1])",
        OF_PLANNER,
    ),
    Fault(
        PLANNER,
        "a pair may fill the context, and the engine's own token has no room",
        "if n_tokens >= max_model_len:",
        "if n_tokens > max_model_len:",
        OF_PLANNER,
    ),
    Fault(
        PLANNER,
        "a further design begins one perturbation late",
        "[config.first_perturbation - 1 :]",
        "[config.first_perturbation :]",
        OF_PLANNER,
    ),
    Fault(
        PLANNER,
        "the instances do not depend on the seed",
        "instances = task.sample_instances(config.n_instances, config.seed)",
        "instances = task.sample_instances(config.n_instances, 0)",
        OF_PLANNER,
    ),
    Fault(
        "engine.questions.incidence",
        "an incomplete design uses the same instances again and again",
        "used[position] += 1",
        "used[position] += 0",
        "tests/engine/questions/test_incidence.py",
    ),
    Fault(
        BUILDER,
        "texts of special tokens in prompts act as tokens",
        "        if self._guards:\n            text = self._special.cut(text)",
        "        if False:\n            text = self._special.cut(text)",
        OF_BUILDER,
    ),
    Fault(
        BUILDER,
        "texts of special tokens in outputs act as tokens",
        "{self._special.cut(output) if self._guards else output}",
        "{output}",
        OF_BUILDER,
    ),
    Fault(
        "engine.prompts.special",
        "the second special token of a text is not cut",
        "borders = [0, *cuts, len(text)]",
        "borders = [0, *cuts[:1], len(text)]",
        OF_BUILDER,
    ),
    Fault(
        GATE,
        "a stream of readers starves a writer",
        "lambda: not self._writing and not self._writers, timeout",
        "lambda: not self._writing, timeout",
        OF_GATE,
    ),
    Fault(
        GATE,
        "a writer does not wait for the readers inside",
        "lambda: not self._writing and not self._readers, timeout",
        "lambda: not self._writing, timeout",
        OF_GATE,
    ),
    Fault(
        GATE,
        "a writer that gave up holds the readers back for ever",
        "            self._writers -= 1\n            await self._notify()",
        "            self._writers -= 1",
        OF_GATE,
    ),
    Fault(
        PROCESS_GATE,
        "the writer of one process lets the readers of another in",
        "while not _lock(gate, fcntl.LOCK_EX):",
        "while not _lock(gate, fcntl.LOCK_SH):",
        OF_PROCESS_GATE,
    ),
    Fault(
        PROCESS_GATE,
        "a reader that leaves lets the writer in while others are inside",
        "            if not self._readers:\n                fcntl.flock(self._gate, fcntl.LOCK_UN)",
        "            fcntl.flock(self._gate, fcntl.LOCK_UN)",
        OF_PROCESS_GATE,
    ),
    Fault(
        LIVE_WEIGHTS,
        "requests in flight are not waited for",
        "async with self.gate.writing(self._limits.drain):\n                    outcome",
        "if True:\n                    outcome",
        OF_RELOAD,
    ),
    Fault(
        LIVE_WEIGHTS,
        "the cache of the old weights is read on",
        "if await self._client.reset_prefix_cache(reset_connector=True):",
        "if True:",
        OF_RELOAD,
    ),
    Fault(
        LIVE_WEIGHTS,
        "new weights are not verified",
        'self._prover.check(proof, "after the load", before if new else ())',
        "asyncio.sleep(0)",
        OF_RELOAD,
    ),
    Fault(
        LIVE_WEIGHTS,
        "after a failed load the old weights do not come back",
        "            await self._roll_back(proof.probes, before)\n            raise EngineError(",
        "            raise EngineError(",
        OF_RELOAD,
    ),
    Fault(
        LIVE_WEIGHTS,
        "weights that came back are not verified",
        "if fault := self._prover.changed(before, again):",
        "if fault := None:",
        OF_RELOAD,
    ),
    Fault(
        LIVE_WEIGHTS,
        "a load that did nothing passes for one that did",
        "new = target.version != self.state.version",
        "new = False",
        OF_RELOAD,
    ),
    Fault(
        LIVE_WEIGHTS,
        "whoever goes away stops a load half way",
        "await to_the_end(self._make_live(target, proof, started))",
        "await self._make_live(target, proof, started)",
        OF_RELOAD,
    ),
    Fault(
        "engine.process.settings",
        "logits pass for log-probabilities",
        'if mode not in (None, "raw_logprobs", "processed_logprobs"):',
        "if False:",
        "tests/engine/server/test_plugin.py",
    ),
    Fault(
        PROVER,
        "probes are read from the blocks of other weights",
        'self._backend(f"probe/{time.monotonic_ns()}")',
        'self._backend("probe")',
        OF_RELOAD,
    ),
    Fault(
        PROVER,
        "the first replica speaks for all",
        "return await asyncio.gather(*map(on, range(backend.n_replicas)))",
        "return await asyncio.gather(*map(on, range(1)))",
        OF_RELOAD,
    ),
    Fault(
        ROUNDING,
        "the sign of a difference hides it",
        "off = np.abs(found - wanted)",
        "off = found - wanted",
        OF_ROUNDING,
    ),
    Fault(
        ROUNDING,
        "old weights are not told from new ones",
        "if change > self.change * few and left < off.mean() * _NEARER:",
        "if False:",
        OF_ROUNDING,
    ),
    Fault(
        ROUNDING,
        "the finest precision decides",
        "_ROUNDINGS[max(",
        "_ROUNDINGS[min(",
        OF_ROUNDING,
    ),
    Fault(
        ADMISSION,
        "a link leads out of the weights root",
        "folder = path.resolve()\n",
        "folder = path\n",
        OF_RELOAD,
    ),
    Fault(
        ADMISSION,
        "another version than the one asked for is loaded",
        "if manifest.version != version:",
        "if False:",
        OF_RELOAD,
    ),
    Fault(
        LIVE_ENGINE,
        "a reload that only claims success is believed",
        'check_version(engine.weights().version, version, "the engine after the reload")',
        "pass",
        OF_ROUNDS + "::test_a_reload_that_only_claims_success_stops_the_run",
    ),
    Fault(
        LIVE_ENGINE,
        "foreign weights are scored as the base model's",
        'check_version(live, version, "the engine", f"; {_GO_BACK}")',
        "pass",
        OF_ROUNDS + "::test_an_engine_with_foreign_weights_is_refused_on_resume",
    ),
    Fault(
        ROUNDS,
        "a step is noted as done before it is",
        "        version, summary = actions[step](index)\n",
        "        save_state(self.folder, self.state.complete(0.0, self.state.live_version))\n"
        "        version, summary = actions[step](index)\n",
        OF_ROUNDS + "::test_a_run_killed_anywhere_ends_the_same",
    ),
    Fault(
        ROUNDS,
        "tasks that were trained on are scored again",
        "if task.id not in trained]",
        "]",
        OF_ROUNDS + "::test_events_come_in_order",
    ),
    Fault(
        STATE,
        "a run goes on with other tasks",
        "if getattr(state, field) != digest:",
        "if False:",
        OF_ROUNDS + "::test_another_config_or_pool_is_refused_on_resume",
    ),
    Fault(
        STATE,
        "a run goes on with another config",
        "if state.config_digest == config.digest():",
        "if True:",
        OF_ROUNDS + "::test_another_config_or_pool_is_refused_on_resume",
    ),
    Fault(
        "training.tables.score_journal",
        "scores of other weights count",
        "if score.weights_version != self.weights_version:",
        "if False:",
        "tests/training/run/test_run_folder.py",
    ),
    Fault(
        "engine.files",
        "a line that a killed writer left is gone on with",
        "if whole < size:",
        "if False:",
        "tests/engine/test_journal.py",
    ),
    Fault(
        FINETUNE,
        "an interrupted training begins anew",
        'update={"resume_from": resume_from}',
        'update={"resume_from": None}',
        "tests/training/run/test_finetune.py",
    ),
    Fault(
        FINETUNE,
        "a checkpoint of another training is gone on with",
        "resume_from = newest_checkpoint(work, fingerprint(job))",
        "resume_from = next(work.glob('attempt-*/checkpoint-*'), None)",
        "tests/training/run/test_finetune.py",
    ),
    Fault(
        RESUME,
        "the checkpoint that got least far counts",
        "marker.step > best[0]",
        "marker.step < best[0]",
        OF_RESUME,
    ),
    Fault(
        RESUME,
        "a checkpoint of another training counts",
        "if marker is None or marker.fingerprint != of:",
        "if marker is None:",
        OF_RESUME,
    ),
    Fault(
        RESUME,
        "training goes on from a checkpoint of other rows",
        "for rows in (job.rows, job.validation_rows):",
        "for rows in (job.validation_rows,):",
        OF_RESUME,
    ),
    Fault(
        SEAMS,
        "a text is cut before a blank that belongs to others, or to a number",
        '_SEAM = re.compile("(?<=[A-Za-z])(?= [A-Za-z])")',
        '_SEAM = re.compile("(?= )")',
        OF_PIECES,
    ),
    Fault(
        SEAMS,
        "what texts begin with goes on behind where they part",
        "end = max(0, shared - 1)",
        "end = len(first)",
        OF_PIECES,
    ),
    Fault(
        SEAMS,
        "any pattern is taken for one with seams",
        'return _ALTERNATIVES.issuperset(_alternatives(split["pattern"]["Regex"]))',
        "return True",
        OF_PIECES,
    ),
    Fault(
        SHARED_HASHES,
        "blocks that other weights have computed are taken for ours",
        "if one.salt == salt and ",
        "if ",
        OF_HASHES,
    ),
    Fault(
        SHARED_HASHES,
        "a block that is shared in part counts as shared",
        "shared_prefix(one.token_ids, token_ids) // self._size",
        "-(-shared_prefix(one.token_ids, token_ids) // self._size)",
        OF_HASHES,
    ),
    Fault(
        DIRECT_REQUESTS,
        "the engine goes on with a pair that nobody waits for",
        "await client.abort(name, internal=True)",
        "pass",
        OF_DIRECT,
    ),
)
