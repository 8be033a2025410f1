"""InternVL: the processor's own functions write the text around tiles and frames."""

import numpy as np
import torch
from transformers import InternVLProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from tests.stock.frames import normalised

PLACEHOLDERS = ("<img>", "</img>", "<IMG_CONTEXT>", "<video>")
TYPED = False


def image_processor(folder, kind):
    return GotOcr2ImageProcessorPil.from_pretrained(folder)


def media(stock, text, pictures, clips):
    """The text with placeholders, and the tiles and frames in its order."""
    writer = InternVLProcessor.__new__(InternVLProcessor)
    writer.start_image_token, writer.end_image_token = "<img>", "</img>"
    writer.image_token, writer.image_seq_length = "\0", stock.model.config.image_seq_length
    pictures, clips, pixels, written = list(pictures), list(clips), [], ""
    while places := [(text.find(word), word) for word in ("<IMG_CONTEXT>", "<video>") if word in text]:
        place, word = min(places)
        if word == "<video>":
            size = stock.image_processor.size
            size = size["width"], size["height"]
            frames = [normalised(stock.image_processor, frame, size) for frame in clips.pop(0)]
            pixels.append(torch.stack(frames))
            own = writer.replace_video_token({"pixel_values_videos": [pixels[-1]]}, 0)
        else:
            batch = stock.image_processor([pictures.pop(0)], crop_to_patches=True, return_tensors="np")
            pixels.append(torch.as_tensor(np.asarray(batch["pixel_values"])))
            own = writer.replace_image_token({"num_patches": [len(pixels[-1])]}, 0)
        written, text = written + text[:place] + own, text[place + len(word) :]
    whole = (written + text).replace("\0", "<IMG_CONTEXT>")
    return whole, {"pixel_values": torch.cat(pixels)} if pixels else {}
