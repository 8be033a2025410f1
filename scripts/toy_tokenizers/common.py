"""What several families' settings have."""

COMMON = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
IMAGES = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3}
CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
