"""The unmodified `transformers` model on the same inputs, prepared by its own processors.

A family has a file for what its processor does to media. `images` and `videos` give model inputs, and how
many tokens stand for each placeholder of that kind; `expanded` writes the text that a processor writes around
the parts of a medium; `PLACEHOLDERS` are the words that no answer has.
"""

import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from tests.stock import gemma4, internvl, llava, qwen2_vl, qwen3_vl

# by the `model_type` of a checkpoint
FAMILIES = {
    "gemma4": gemma4,
    "internvl": internvl,
    "llava_next": llava,
    "llava_onevision": llava,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_vl,
    "qwen3_5": qwen3_vl,
    "qwen3_5_moe": qwen3_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl,
}


class Stock:
    """A checkpoint as `transformers` runs it; prompts are strings with one placeholder per medium."""

    def __init__(self, folder, dtype=torch.float32):
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.seconds: float | None = None  # from one pair of frames to the next, where that is known
        self.fps: float | None = None  # of clips whose frames are all given, where it is known
        self.folder, config = folder, self.model.config
        self.family = FAMILIES[config.model_type]
        self.image_processor = self.family.image_processor(folder, config.model_type)
        self.image_id, self.video_id = config.image_token_id, getattr(config, "video_token_id", None)

    def chat(self, messages):
        """The prompt of some messages; a model that thinks unless it is told not to is told."""
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        return self.tokenizer.apply_chat_template(messages, **options)

    def inputs(self, text, images=(), videos=(), groups=None):
        """Model inputs for one prompt; `groups` says how many images came in each turn."""
        inputs, lengths = {}, {self.image_id: [], self.video_id: []}
        if hasattr(self.family, "media"):  # where images and videos have one placeholder
            text, inputs = self.family.media(self, text, images, videos)
            images = videos = ()
        if images:
            more, lengths[self.image_id] = self.family.images(self, list(images), groups)
            inputs |= more
        if videos:
            more, lengths[self.video_id] = self.family.videos(self, videos)
            inputs |= more
        if hasattr(self.family, "expanded"):  # where a medium stands as more than one placeholder
            text = self.family.expanded(self, text, videos)
        ids = []
        for token in self.tokenizer(text)["input_ids"]:
            ids += [token] * (lengths[token].pop(0) if lengths.get(token) else 1)
        inputs["input_ids"] = torch.tensor([ids])
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs |= self.types(inputs["input_ids"])
        return {k: v.to(self.model.dtype) if k.startswith("pixel_values") else v for k, v in inputs.items()}

    def types(self, ids):
        """The kinds of tokens, for models that are told them."""
        if not self.family.TYPED:
            return {}
        return {"mm_token_type_ids": (ids == self.image_id).int() + 2 * (ids == self.video_id)}

    def unspoken(self):
        """Ids that the model could generate and that we never do: without a token, or in a medium's place."""
        tokens = self.tokenizer.get_vocab()
        spoken = {token for word, token in tokens.items() if word not in self.family.PLACEHOLDERS}
        return sorted(set(range(self.model.get_output_embeddings().weight.shape[0])) - spoken)

    @torch.no_grad()
    def answer(self, text, images=(), videos=(), groups=None, tokens=6):
        """Logits of the last position, and greedy tokens."""
        inputs = self.inputs(text, images, videos, groups)
        logits = self.model(**inputs).logits[0, -1]
        out = self.model.generate(
            **inputs, max_new_tokens=tokens, do_sample=False, suppress_tokens=self.unspoken()
        )
        return logits, out[0, inputs["input_ids"].shape[1] :].tolist()
