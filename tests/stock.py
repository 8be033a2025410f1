"""The unmodified `transformers` model on the same inputs, prepared by its own processors."""

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

PROCESSORS = {
    "llava_next": LlavaNextImageProcessorPil,
    "llava_onevision": LlavaOnevisionImageProcessorPil,
    "qwen2_vl": Qwen2VLImageProcessorPil,
    "qwen2_5_vl": Qwen2VLImageProcessorPil,
}
QWEN_MEDIA = ("image_pad", "video_pad", "vision_start", "vision_end")


class Stock:
    """A checkpoint as `transformers` runs it; prompts are strings with one placeholder per medium."""

    def __init__(self, folder, dtype=torch.float32):
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.seconds: float | None = None  # Qwen2.5-VL: from one pair of frames to the next, where known
        config = self.model.config
        self.qwen = config.model_type in ("qwen2_vl", "qwen2_5_vl")
        self.image_processor = PROCESSORS[config.model_type].from_pretrained(folder)
        self.image_id, self.video_id = config.image_token_id, getattr(config, "video_token_id", None)

    def chat(self, messages):
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def inputs(self, text, images=(), videos=(), groups=None):
        """Model inputs for one prompt; `groups` says how many images came in each turn."""
        inputs = {}
        lengths = {self.image_id: [], self.video_id: []}
        if images:
            if self.qwen:
                batch = self.image_processor(list(images), return_tensors="pt")
                inputs |= {"pixel_values": batch["pixel_values"], "image_grid_thw": batch["image_grid_thw"]}
                lengths[self.image_id] = [int(g.prod()) // 4 for g in batch["image_grid_thw"]]
            else:
                nested, rest = [], list(images)
                for n in groups or [len(images)]:
                    nested.append(rest[:n])
                    rest = rest[n:]
                batch = self.image_processor(nested, return_tensors="pt")
                inputs |= {name: torch.as_tensor(np.asarray(value)) for name, value in batch.items()}
                pixels = inputs["pixel_values"].to(self.model.dtype)
                with torch.no_grad():
                    features = self.model.model.get_image_features(**inputs | {"pixel_values": pixels})
                lengths[self.image_id] = [len(f) for f in features.pooler_output]
        if videos:
            if self.qwen:
                parts, grids = zip(*map(self._qwen_video, videos), strict=True)
                inputs |= {"pixel_values_videos": torch.cat(parts), "video_grid_thw": torch.tensor(grids)}
                lengths[self.video_id] = [t * h * w // 4 for t, h, w in grids]
                if self.seconds is not None:
                    inputs["second_per_grid_ts"] = torch.tensor([self.seconds] * len(grids))
            else:
                values = torch.stack([self._llava_video(v) for v in videos])
                inputs["pixel_values_videos"] = values
                side = (
                    self.model.config.vision_config.image_size // self.model.config.vision_config.patch_size
                )
                pooled = (side + 1) // 2
                lengths[self.video_id] = [len(v) * pooled**2 + 1 for v in videos]
        ids = []
        for token in self.tokenizer(text)["input_ids"]:
            ids += [token] * (lengths[token].pop(0) if lengths.get(token) else 1)
        inputs["input_ids"] = torch.tensor([ids])
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if self.qwen:
            types = (inputs["input_ids"] == self.image_id).int() + 2 * (inputs["input_ids"] == self.video_id)
            inputs["mm_token_type_ids"] = types
        return {k: v.to(self.model.dtype) if k.startswith("pixel_values") else v for k, v in inputs.items()}

    def _normalised(self, frame, size):
        values = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        mean, std = np.array(self.image_processor.image_mean), np.array(self.image_processor.image_std)
        return torch.from_numpy(((values / 255 - mean) / std).astype(np.float32)).permute(2, 0, 1)

    def _llava_video(self, frames):
        size = self.model.config.vision_config.image_size
        return torch.stack([self._normalised(f, (size, size)) for f in frames])

    def _qwen_video(self, frames):
        height, width = frames[0].shape[:2]
        limits = self.image_processor.size
        height, width = smart_resize(
            height, width, 28, min_pixels=limits["shortest_edge"], max_pixels=limits["longest_edge"]
        )
        frames = [self._normalised(f, (width, height)) for f in frames]
        frames += [frames[-1]] * (len(frames) % 2)
        patches = []
        for first, second in zip(frames[::2], frames[1::2], strict=True):
            both = torch.stack([first, second])  # (2, 3, H, W)
            for y in range(0, height, 28):
                for x in range(0, width, 28):
                    for dy in (0, 14):
                        for dx in (0, 14):
                            cell = both[:, :, y + dy : y + dy + 14, x + dx : x + dx + 14]
                            patches.append(cell.transpose(0, 1).flatten())  # (3, 2, 14, 14)
        return torch.stack(patches), [len(frames) // 2, height // 14, width // 14]

    def unspoken(self):
        """Ids that the model could generate and that we never do: without a token, or in a medium's place."""
        tokens = self.tokenizer.get_vocab()
        media = ("<image>", "<video>", *(f"<|{name}|>" for name in QWEN_MEDIA))
        spoken = {token for word, token in tokens.items() if word not in media}
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
