"""Requests of the tests, and what is read of them."""

from illava_cli.openai.asked import Bounds
from illava_cli.openai.chat import read_chat

PNG = "data:image/png;base64,AAAA"


def user(*parts):
    return {"role": "user", "content": list(parts)}


def text(value):
    return {"type": "text", "text": value}


def image(url=PNG, **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


def body(*messages, **options):
    return {"model": "tiny", "messages": list(messages or [user(text("?"))]), **options}


def asked(*messages, bounds=Bounds(), **options):
    return read_chat(body(*messages, **options), bounds)


def settings(**options):
    return asked(**options).settings
