"""What servers make of weights that are wrong: the same faults, one server after the other.

    python -m benchmarks.reload_safety

`jostle serve` against stock vLLM, which has two ways from files to live weights: the worker's
method `reload_weights` through `/collective_rpc`, by itself, or between `/pause?mode=wait`,
`/reset_prefix_cache` and `/resume`. Its third way, `/update_weights`, takes tensors over NCCL or
CUDA IPC and does not run on a CPU. Four clients ask for completions all the while. Their answers
are held against transformers: those of the weights before (old), those that the trainer's model
gives (new), or neither; none came where it says none. The last fault is an adapter that is written
again below the same path, and loaded under the same name: stock vLLM through `/load_lora_adapter`
with `load_inplace`, with and without the pause and the reset.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common.random_model import TINY, write_random
from benchmarks.reloads.reload_faults import damage
from benchmarks.reloads.reload_servers import (
    N_TOKENS,
    PROMPTS,
    Careful,
    Jostle,
    Logprobs,
    Server,
    Stock,
    said,
)
from engine.weights.manifest import MANIFEST_NAME
from training.commands.publish_folder import publish_folder

RESULTS = Path(__file__).parent / "results" / "reload_safety.txt"
SHAPE = TINY | {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "initializer_range": 0.06,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
}
SAME_ADAPTER = "an adapter's name again"
FAULTS = (
    "half a checkpoint",
    "whole tensor missing",
    "half of a fused tensor missing",
    "NaN",
    "wrong shape",
    "another architecture",
    "untied into tied",
    "other values",
    "truncated file",
)


def expected(folder: Path, adapter: Path | None = None) -> list[Logprobs]:
    """What transformers generates greedily for each prompt, as log-probabilities."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    found = []
    for prompt in PROMPTS:
        ids, values = list(prompt), []
        for _ in range(N_TOKENS):
            with torch.inference_mode():
                row = model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].log_softmax(-1)
            ids.append(int(row.argmax()))
            values.append(float(row.max()))
        found.append(values)
    return found


def same(one: Logprobs, other: Logprobs) -> bool:
    """Whether two answers are equal but for rounding."""
    return len(one) == len(other) and all(
        abs(a - b) < 1e-3 for a, b in zip(one, other, strict=True)
    )


@dataclass
class Answers:
    """Tells answers apart.

    Attributes:
        old: Of the weights before.
        new: Of the model that the trainer holds.
    """

    old: list[Logprobs]
    new: list[Logprobs]

    def name(self, number: int, answer: Logprobs | None) -> str:
        """`old`, `new`, `neither` or `none`."""
        if answer is None:
            return "none"
        if same(answer, self.old[number]):
            return "old"
        return "new" if same(answer, self.new[number]) else "neither"


KINDS: tuple[type[Server], ...] = (Jostle, Stock, Careful)


@dataclass
class Row:
    """What came of one fault at one server.

    Attributes:
        fault: Its name.
        server: The server's.
        noticed: What the call of the load said.
        meanwhile: How many answers of which weights clients got, from the call on.
        afterwards: Which weights the answers are of that come later.
    """

    fault: str
    server: str
    noticed: str
    meanwhile: str
    afterwards: str


def plant(server: Server, fault: str, answers: Answers, act: Callable[[], str]) -> Row:
    """Clients ask before, during and after a load; what they got."""
    got: Counter[str] = Counter()
    over, acting = threading.Event(), threading.Event()

    def client(number: int) -> None:
        while not over.is_set():
            counted = acting.is_set()
            name = answers.name(number, server.ask(number))
            got[name] += counted or acting.is_set()
            if name == "none":
                time.sleep(0.1)

    clients = [threading.Thread(target=client, args=(n,)) for n in range(len(PROMPTS))]
    for each in clients:
        each.start()
    time.sleep(1.0)
    acting.set()
    noticed = act()
    time.sleep(2.0)
    over.set()
    for each in clients:
        each.join()
    after = Counter(answers.name(n, server.ask(n)) for n in range(len(PROMPTS)))
    meanwhile = ", ".join(f"{n} {name}" for name, n in sorted(got.items()) if n)
    afterwards = ", ".join(f"{n} {name}" for name, n in sorted(after.items()))
    return Row(fault, server.name, noticed, meanwhile, afterwards)


def on_old(server: Server, answers: Answers) -> bool:
    """Whether the server answers as at its start."""
    return all(answers.name(n, server.ask(n)) == "old" for n in range(len(PROMPTS)))


def crash(server: Server, checkpoint: Path) -> str:
    """Kills the engine's processes in the middle of a load."""
    told: list[str] = []
    loading = threading.Thread(target=lambda: told.append(said(lambda: server.load(checkpoint))))
    loading.start()
    time.sleep(0.15)
    for pid in server.children()[-2:]:
        os.kill(pid, signal.SIGKILL)
    loading.join()
    server.wait_well(120.0)
    return told[0]


def rewrite_adapter(server: Server, root: Path, answers: Answers) -> Row:
    """An adapter that is live is written again where it lies, and loaded under its name."""
    flags = ["--enable-lora", "--max-lora-rank=8"] if server.stock else []
    server.start(*flags)
    place = root / "adapter"
    for which in ("old", "new"):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(root / f"adapter-{which}", place)
        if not server.stock:
            publish_folder(place)
        if which == "old":
            server.load_adapter(place).raise_for_status()
            assert on_old(server, answers), "and the cache knows them"
    return plant(server, SAME_ADAPTER, answers, lambda: said(lambda: server.load_adapter(place)))


def measure(
    server: Server, root: Path, good: Path, answers: Answers, adapted: Answers, log: Console
) -> list[Row]:
    """Every fault at one server, which is started anew where one has left it in disorder.

    Each is kept in `root` as soon as it is measured, and not measured again.
    """
    kept = root / f"{type(server).__name__}.json"
    rows = [Row(**row) for row in json.loads(kept.read_text())] if kept.is_file() else []

    def add(fault: str, measured: Callable[[], Row]) -> None:
        if fault not in {row.fault for row in rows}:
            rows.append(measured())
            kept.write_text(json.dumps([row.__dict__ for row in rows]))
            log.print(rows[-1])

    def planted(fault: str, act: Callable[[], str]) -> Row:
        if not (server.url and on_old(server, answers)):
            if server.url and server.wait_well(1.0):
                server.go_back()
            if not (server.url and on_old(server, answers)):
                server.start()
        return plant(server, fault, answers, act)

    def damaged(fault: str) -> Row:
        checkpoint = root / "damaged"
        shutil.rmtree(checkpoint, ignore_errors=True)
        shutil.copytree(good, checkpoint, copy_function=os.link)
        damage(checkpoint, fault, layer=2)
        return planted(fault, lambda: said(lambda: server.load(checkpoint)))

    for fault in FAULTS:
        add(fault, partial(damaged, fault))
    for fault, act in (
        ("none: good weights", lambda: said(lambda: server.load(good))),
        ("a crash in the middle", lambda: crash(server, good)),
    ):
        add(fault, partial(planted, fault, act))
    add(SAME_ADAPTER, lambda: rewrite_adapter(server, root, adapted))
    server.stop()
    return rows


def prepare(root: Path) -> tuple[Path, Path]:
    """A model to serve, a published checkpoint of the same shape, and beside them two adapters."""
    if (root / "trained" / MANIFEST_NAME).is_file():
        return root / "base", root / "trained"
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    base = write_random(root / "base", SHAPE)
    make: Any = AutoModelForCausalLM.from_config
    model = make(AutoConfig.from_pretrained(base))
    model.save_pretrained(base)
    for which in ("old", "new"):
        plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        form = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        get_peft_model(plain, form).save_pretrained(str(root / f"adapter-{which}"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * parameter.std() * torch.randn_like(parameter)
    trained = write_random(root / "trained", SHAPE)
    model.save_pretrained(trained)
    publish_folder(trained)
    return base, trained


def main() -> None:
    """Measures all servers and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, help="folder to keep models and rows in")
    work = parser.parse_args().work
    log = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="jostle-benchmark-") as folder:
        root = Path(work or folder).resolve()
        base, good = prepare(root)
        answers = Answers(expected(base), expected(good))
        adapters = [root / f"adapter-{which}" for which in ("old", "new")]
        adapted = Answers(*(expected(base, adapter) for adapter in adapters))
        kinds = []
        for kind in KINDS:
            server = kind(base, root)
            try:
                kinds.append(measure(server, root, good, answers, adapted, log))
            finally:
                server.stop()
    show([row for rows in zip(*kinds, strict=True) for row in rows], root)


def show(rows: list[Row], root: Path) -> None:
    """Prints the table and writes it."""
    console = Console(width=150, record=True)
    table = Table(title="What servers make of wrong weights")
    for column in ("fault", "server", "noticed", "answers meanwhile", "answers afterwards"):
        table.add_column(column, overflow="fold")
    for number, row in enumerate(rows, 1):
        table.add_row(
            row.fault,
            row.server,
            row.noticed.replace(f"{root}/", "")[:120],
            row.meanwhile,
            row.afterwards,
            end_section=number % len(KINDS) == 0,
        )
    console.print(table)
    RESULTS.write_text(console.export_text())


if __name__ == "__main__":
    main()
