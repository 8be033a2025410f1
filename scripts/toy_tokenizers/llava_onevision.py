"""LLaVA-OneVision's words and settings. The template prints what the hub's prints, written anew."""

from toy_tokenizers.common import COMMON, IMAGES

TEMPLATE = r"""
{#- Within a turn: all images, then all videos, then the text. No line break between turns. -#}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + ' ' }}
    {%- if message['content'] is string %}
        {{- '\n' + message['content'] }}
    {%- else %}
        {%- for item in message['content'] if item['type'] == 'image' %}
            {{- '<image>' }}
        {%- endfor %}
        {%- for item in message['content'] if item['type'] == 'video' %}
            {{- '<video>' }}
        {%- endfor %}
        {%- for item in message['content'] if item['type'] == 'text' %}
            {{- '\n' + item['text'] }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

FAMILY = {
    "special_tokens": [*COMMON, "<image>", "<video>"],
    "chat_template": TEMPLATE,
    "preprocessor": {
        **IMAGES,
        "image_processor_type": "LlavaOnevisionImageProcessor",
        "processor_class": "LlavaOnevisionProcessor",
        "do_pad": True,
        "image_grid_pinpoints": [[384 * h, 384 * w] for h in range(1, 7) for w in range(1, 7)],
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "rescale_factor": 1 / 255,
        "size": {"height": 384, "width": 384},
    },
}
