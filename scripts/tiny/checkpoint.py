"""The embedded models' files: architecture, tokenizer and processor settings, in the hub's layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from make_toy_tokenizer import FAMILIES, TEXT, train, write_json, write_tokenizer
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedModel

from illava_cli.evals.world import SCENES, documents, stream
from illava_cli.evals.world.pages import DAYS
from illava_cli.evals.world.scene import COLOURS, SHAPES, WORDS
from tiny import llava_onevision, qwen3_vl

MERGES = 410
END, PAD = "<|im_end|>", "<|endoftext|>"


@dataclass(frozen=True)
class Architecture:
    """One of the embedded models.

    Args:
        settings: what its tokenizer and processors are made of, as `FAMILIES` has it.
        build: ids of the special tokens, size of the vocabulary, values that replace those of the tower's and
            of the decoder's configuration -> the model with fresh weights.
        processors: settings -> the content of each file of the processors.
        start: sets the weights with which the tower begins.
        hub: how names of weights begin, as `transformers` writes them and as the hub has them: other engines
            know no others.
    """

    settings: dict
    build: Callable[[dict[str, int], int, dict, dict], PreTrainedModel]
    processors: Callable[[dict], dict[str, dict]]
    start: Callable[[PreTrainedModel], None]
    hub: tuple[str, str] = ("", "")

    def tokenizer(self) -> Tokenizer:
        return train(self.settings["special_tokens"], world_text(), MERGES)

    def model(self, seed: int = 0, tower: dict | None = None, text: dict | None = None) -> PreTrainedModel:
        """With fresh weights.

        Args:
            tower, text: values that replace those of the tower's and the decoder's configuration.
        """
        tokenizer = self.tokenizer()
        ids = {name: tokenizer.token_to_id(name) for name in self.settings["special_tokens"]}
        torch.manual_seed(seed)
        # a product whose length divides by 64 is faster
        model = self.build(ids, 64 * -(-tokenizer.get_vocab_size() // 64), tower or {}, text or {})
        model.generation_config = GenerationConfig(eos_token_id=[ids[END], ids[PAD]], pad_token_id=ids[PAD])
        return model

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the checkpoint as the hub's repositories hold it, weights in bfloat16."""
        folder.mkdir(parents=True, exist_ok=True)
        plain = type(model)(model.config).to(torch.bfloat16)  # without what a session binds to its own
        plain.load_state_dict(model.state_dict())
        plain.generation_config = model.generation_config
        plain.save_pretrained(folder)
        path, (ours, theirs) = folder / "model.safetensors", self.hub
        weights = {
            theirs + name.removeprefix(ours) if name.startswith(ours) else name: values
            for name, values in load_file(path).items()
        }
        save_file(weights, path, metadata={"format": "pt"})
        write_tokenizer(folder, self.tokenizer(), self.settings)
        for name, content in self.processors(self.settings).items():
            write_json(folder / name, content)


def world_text() -> str:
    """What is said in the world, for the tokenizer to learn: every word of it becomes one token."""
    lines = [word for word in (*COLOURS, *SHAPES, *WORDS, *DAYS) for _ in range(20)]
    for name, task in (SCENES | documents.TASKS).items():
        for seed in range(120):
            rng = stream(f"text/{name}", seed, "train")
            if question := task.ask(task.draw(rng), rng):
                lines += question
    return "\n".join([TEXT, *lines])


ARCHITECTURES = {
    "tiny": Architecture(
        FAMILIES["llava-onevision"],
        llava_onevision.build,
        llava_onevision.processors,
        llava_onevision.start,
        hub=("vision_tower.", "vision_tower.vision_model."),
    ),
    "tiny-qwen": Architecture(FAMILIES["qwen3-vl"], qwen3_vl.build, qwen3_vl.processors, qwen3_vl.start),
}
