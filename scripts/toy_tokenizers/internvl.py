"""InternVL's words and settings. The template prints what the hub's prints, written anew."""

from toy_tokenizers.common import COMMON, IMAGES

TEMPLATE = r"""
{#- Items of a turn in their order, each medium on a line of its own; no system prompt but the chat's own. -#}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for item in message['content'] %}
            {%- if item['type'] == 'image' %}
                {{- '<IMG_CONTEXT>\n' }}
            {%- elif item['type'] == 'video' %}
                {{- '<video>\n' }}
            {%- elif item['type'] == 'text' %}
                {{- item['text'] }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

FAMILY = {
    "special_tokens": [*COMMON, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"],
    "tokens": {  # as the hub's name them for `InternVLProcessor`
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "chat_template": TEMPLATE,
    "preprocessor": {
        **IMAGES,
        "image_processor_type": "GotOcr2ImageProcessor",
        "processor_class": "InternVLProcessor",
        "crop_to_patches": False,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "max_patches": 12,
        "min_patches": 1,
        "rescale_factor": 1 / 255,
        "size": {"height": 448, "width": 448},
    },
}
