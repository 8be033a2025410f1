"""Conversation formats of the LLaVA-NeXT repository, whose checkpoints bring none, as chat templates.

Written from its `llava/conversation.py`: `qwen_1_5`, `mistral_instruct`, `vicuna_v1` and `chatml_direct`.
Within a turn media come first, each on a line of its own.
"""

from __future__ import annotations

from illava_cli.errors import ModelError

_BODY = """
{%- macro body(message) -%}
    {%- if message['content'] is string -%}
        {{ message['content'] }}
    {%- else -%}
        {%- for item in message['content'] if item['type'] != 'text' -%}
            {{ '<' + item['type'] + '>\\n' }}
        {%- endfor -%}
        {%- for item in message['content'] if item['type'] == 'text' -%}
            {{ item['text'] }}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
"""


def _chatml(system: str, end: str) -> str:
    return f"""
{{%- if messages[0]['role'] != 'system' -%}}
    {{{{ '<|im_start|>system\\n{system}{end}' }}}}
{{%- endif -%}}
{{%- for message in messages -%}}
    {{{{ '<|im_start|>' + message['role'] + '\\n' + body(message) + '{end}' }}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
    {{{{ '<|im_start|>assistant\\n' }}}}
{{%- endif -%}}
"""


_VICUNA = """
{%- if messages[0]['role'] != 'system' -%}
    {{ "A chat between a curious user and an artificial intelligence assistant. " }}
    {{- "The assistant gives helpful, detailed, and polite answers to the user's questions. " }}
{%- endif -%}
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {{ body(message) + ' ' }}
    {%- elif message['role'] == 'user' -%}
        {{ 'USER: ' + body(message) + ' ' }}
    {%- else -%}
        {{ 'ASSISTANT: ' + body(message) + '</s>' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ 'ASSISTANT:' }}
{%- endif -%}
"""

_MISTRAL = """
{%- set system = namespace(text='') -%}
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {%- set system.text = '<<SYS>>\\n' + body(message) + '\\n<</SYS>>\\n\\n' -%}
    {%- elif message['role'] == 'user' -%}
        {{ '[INST] ' + system.text + body(message) + ' [/INST]' }}
        {%- set system.text = '' -%}
    {%- else -%}
        {{ ' ' + body(message) + ' </s>' }}
    {%- endif -%}
{%- endfor -%}
"""

CONVERSATIONS = {
    "qwen_1_5": _BODY + _chatml("You are a helpful assistant.", "<|im_end|>\\n"),
    "chatml_direct": _BODY + _chatml("Answer the questions.", "<|im_end|>"),
    "vicuna_v1": _BODY + _VICUNA,
    "mistral_instruct": _BODY + _MISTRAL,
}


def conversation(text_model: str, vocabulary: dict[str, int]) -> str:
    """The name of the format that a decoder of this `model_type` was trained on.

    Args:
        vocabulary: the tokenizer's; a Llama is a Vicuna, or a Yi if it has ChatML's marks.

    Raises:
        ModelError: none that we know.
    """
    if text_model == "qwen2":
        return "qwen_1_5"
    if text_model == "mistral":
        return "mistral_instruct"
    if "<|start_header_id|>" in vocabulary:
        raise ModelError("its tokenizer is Llama 3's, whose conversations illava does not know here")
    return "chatml_direct" if "<|im_start|>" in vocabulary else "vicuna_v1"
