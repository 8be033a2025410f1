"""Gemma 4's words and settings. The template prints of texts and media what the hub's prints, anew."""

from toy_tokenizers.common import IMAGES

TEMPLATE = r"""
{#- Items of a turn in their order. Who asks for thoughts says so in the system turn. -#}
{{- bos_token }}
{%- set thinks = enable_thinking is defined and enable_thinking %}
{%- if thinks and messages[0]['role'] != 'system' %}
    {{- '<|turn>system\n<|think|>\n<turn|>\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}
    {{- '<|think|>\n' if thinks and message['role'] == 'system' else '' }}
    {%- if message['content'] is string %}
        {{- message['content'] | trim }}
    {%- else %}
        {%- for item in message['content'] %}
            {%- if item['type'] in ('image', 'video') %}
                {{- '<|' + item['type'] + '|>' }}
            {%- elif item['type'] == 'text' %}
                {{- item['text'] | trim }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<turn|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|turn>model\n' }}
{%- endif %}
"""

# a processor of its own resizes to a number of tokens, and neither shifts nor scales what it gives
PROCESSOR = {
    **IMAGES,
    "do_normalize": False,
    "image_mean": [0.0, 0.0, 0.0],
    "image_std": [1.0, 1.0, 1.0],
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "rescale_factor": 1 / 255,
}
FAMILY = {
    "tokens": {"bos_token": "<bos>", "eos_token": "<turn|>", "pad_token": "<pad>"},
    "special_tokens": [
        "<pad>",
        "<bos>",
        "<|turn>",
        "<turn|>",
        "<|image>",
        "<|image|>",
        "<image|>",
        "<|video|>",
        "<|audio|>",
    ],
    "words": ["<|think|>", "<|channel>", "<channel|>"],  # tokens of their own that are shown
    "chat_template": TEMPLATE,
    "preprocessor": PROCESSOR
    | {
        "image_processor_type": "Gemma4ImageProcessor",
        "processor_class": "Gemma4Processor",
        "max_soft_tokens": 280,
    },
    "video": {"max_soft_tokens": 70, "do_normalize": True},
}
