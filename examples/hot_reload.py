"""TRL's SFTTrainer on a JSONL of prompt and completion, while a served model follows it.

jostle serve smollm2-135m --weights-root runs    # on the same GPU: -- --gpu-memory-utilization 0.3
python examples/hot_reload.py pairs.jsonl runs/sft http://127.0.0.1:8000
"""

import sys

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from engine.weights.models import resolve_model
from training.callback import HotReload

pairs, output, url = sys.argv[1:]
trainer = SFTTrainer(
    model=str(resolve_model("smollm2-135m")),
    # TRL's default, bf16=True, is refused without a GPU.
    args=SFTConfig(output_dir=output, num_train_epochs=3, bf16=False, save_strategy="no"),
    train_dataset=load_dataset("json", data_files=pairs, split="train"),
    callbacks=[HotReload(url, every="epoch")],
)
trainer.train()
