"""Qwen3.5's words and settings. The template prints what the hub's prints, written anew."""

from toy_tokenizers.common import COMMON
from toy_tokenizers.qwen3_vl import FAMILY as QWEN3_VL

TEMPLATE = r"""
{#- Items of a turn in their order; an answer begins with a thought, which may be empty. -#}
{%- set seen = namespace(images=0, videos=0) %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for item in message['content'] %}
            {%- if item['type'] == 'image' or 'image' in item or 'image_url' in item %}
                {%- set seen.images = seen.images + 1 %}
                {{- 'Picture ' ~ seen.images ~ ': ' if add_vision_id else '' }}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif item['type'] == 'video' or 'video' in item %}
                {%- set seen.videos = seen.videos + 1 %}
                {{- 'Video ' ~ seen.videos ~ ': ' if add_vision_id else '' }}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' }}
            {%- elif 'text' in item %}
                {{- item['text'] }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {{- '<think>\n\n</think>\n\n' if enable_thinking is defined and not enable_thinking else '<think>\n' }}
{%- endif %}
"""

FAMILY = QWEN3_VL | {
    "special_tokens": [
        *COMMON,
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ],
    "words": ["<think>", "</think>"],  # tokens of their own that are shown
    "chat_template": TEMPLATE,
}
