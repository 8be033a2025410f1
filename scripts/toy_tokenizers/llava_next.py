"""LLaVA-NeXT's words and settings. The template prints what the hub's prints, written anew."""

from toy_tokenizers.common import CLIP, IMAGES

TEMPLATE = r"""
{#- Mistral's instructions; within a turn all images come before the text. -#}
{%- for message in messages %}
    {%- set items = [] if message['content'] is string else message['content'] %}
    {%- set text = message['content'] if message['content'] is string else
        items | selectattr('type', 'equalto', 'text') | map(attribute='text') | join %}
    {%- if message['role'] == 'system' %}
        {{- '<<SYS>>\n' + text + '\n<</SYS>>\n\n' }}
    {%- elif message['role'] == 'user' %}
        {{- '[INST] ' + '<image>\n' * (items | selectattr('type', 'equalto', 'image') | list | length) }}
        {{- text + ' [/INST]' }}
    {%- else %}
        {{- ' ' + text + '</s> ' }}
    {%- endif %}
{%- endfor %}
"""

FAMILY = {
    "like": "llama",
    "special_tokens": ["<image>", "<pad>"],
    "chat_template": TEMPLATE,
    "preprocessor": {
        **IMAGES,
        **CLIP,
        "image_processor_type": "LlavaNextImageProcessor",
        "processor_class": "LlavaNextProcessor",
        "crop_size": {"height": 336, "width": 336},
        "do_center_crop": True,
        "do_pad": True,
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": 336},
    },
}
