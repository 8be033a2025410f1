"""LLaVA-NeXT: the class token, the layers that are run, its pixels, its decoders and its prompts."""

import numpy as np
import pytest
import torch

from illava_cli.config import MediaOptions, resolve
from illava_cli.engine import prompt as prompts
from illava_cli.engine.opening import load
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.schedule import TowerPlan
from illava_cli.models.tower_pass import TowerPass, TowerTokens
from tests.asked_alike import markers
from tests.builders import write_llava_next
from tests.conftest import clip, picture
from tests.stock import Stock
from tests.stock.llava import PROCESSORS
from tests.tolerances import FLOAT32

OFF = ("preset=off", "generation.max_tokens=4")
SIGLIP = {
    "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False},
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "full",
}


def open_checkpoint(folder, *settings):
    return load(config=resolve(str(folder), settings=["model.device=cpu", *settings], environ={}))


@pytest.mark.parametrize("include_self", [True, False])
def test_the_class_token_scores_and_is_not_scored(include_self):
    query, key = torch.randn(2, 2, 3, 10, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = TowerTokens.all(2, 9, torch.device("cpu"))
    run = TowerPass(tokens, TowerPlan(include_self=include_self), class_tokens=1)
    attention = (query @ key.transpose(-1, -2) * 0.3).softmax(-1).mean(1)  # (B, 10, 10)
    if not include_self:
        attention = attention * (1 - torch.eye(10))
    expected = attention.sum(1)[:, 1:] / (10 if include_self else 9)
    torch.testing.assert_close(run.score(0, query, key, 0.3), expected)


def test_the_class_token_is_never_merged():
    x = torch.randn(2, 10, 4, generator=torch.Generator().manual_seed(0))
    run = TowerPass(TowerTokens.all(2, 9, torch.device("cpu")), TowerPlan({0: 4}), class_tokens=1)
    run.note(0, torch.arange(9.0).expand(2, 9))
    tokens, y = run.tokens.holding(x, 1).after(run.decide(0)).apart(like=x)
    assert y.shape == (2, 6, 4)
    assert torch.equal(y[:, 0], x[:, 0])
    assert torch.equal(y[:, 2:], x[:, 6:])
    weights = torch.arange(5.0, 0, -1) / 15
    torch.testing.assert_close(y[:, 1], torch.einsum("n,bnc->bc", weights, x[:, 1:6]))
    assert tokens.place.tolist() == [[4, 5, 6, 7, 8]] * 2


def test_nothing_is_computed_after_the_feature_layer(open_session):
    session = open_session("llava_next", *OFF, fresh=True)
    family = session.family
    assert (family.tower_layers, len(family.model.model.vision_tower.encoder.layers)) == (6, 7)
    ran = []
    for index, layer in enumerate(family.model.model.vision_tower.encoder.layers):
        layer.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
    session.ask("What?", [picture(90, 60)])
    assert ran == list(range(6))


@pytest.mark.parametrize("size", [(200, 150), (60, 60), (30, 250), (250, 30), (84, 168), (501, 333)])
def test_pixels_are_the_image_processor_s(size, open_session, checkpoints):
    image = picture(*size, seed=3)
    pixels = open_session("llava_next", *OFF).family.preprocess_image(image, MediaOptions(), alone=False)
    processor = PROCESSORS["llava_next"].from_pretrained(checkpoints("llava_next"))
    batch = processor([image], return_tensors="np")
    assert pixels.form.size == tuple(np.asarray(batch["image_sizes"])[0])
    assert np.array_equal(pixels.pixel_values(0, pixels.segments).numpy(), batch["pixel_values"][0])


def test_one_padded_square_where_no_grid_of_tiles_is_allowed(open_session):
    family = open_session("llava_next", *OFF).family
    image = picture(120, 60)
    counts = [family.preprocess_image(image, MediaOptions(max_tiles=n), True).segments for n in (1, 2, 3, 5)]
    assert counts == [1, 1, 3, 3]  # the least grid has two tiles beside the whole
    values = family.preprocess_image(image, MediaOptions(max_tiles=1), True).pixel_values(0, 1)[0]
    grey = values[:, 0, 0]
    assert grey.abs().max() < 0.02  # the mean colour
    assert torch.equal(values[:, :17], grey[:, None, None].expand(3, 17, 84))
    assert (values[:, 42] - grey[:, None]).abs().max() > 0.5


@pytest.mark.parametrize(
    "overrides",
    [
        {"text_config": {"model_type": "mistral"}},
        {"tie_word_embeddings": True},
        SIGLIP,
        {"vision_feature_layer": 3},
    ],
    ids=["mistral", "tied", "siglip", "layer 3"],
)
def test_variants_equal_transformers(overrides, tmp_path):
    folder = write_llava_next(tmp_path / "c", **overrides)
    image = picture(200, 150, 1)
    answer = open_checkpoint(folder, *OFF).ask("What?", [image], logits=True)
    stock = Stock(folder)
    text = stock.chat([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}])
    logits, tokens = stock.answer(text, [image], tokens=4)
    torch.testing.assert_close(answer.logits, logits, **FLOAT32)
    assert list(answer.token_ids) == tokens


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"text_config": {"model_type": "mistral", "sliding_window": 128}}, "sliding-window"),
        ({"vision_feature_select_strategy": "full"}, "'full' is not supported"),
        ({"vision_feature_layer": [-2, -3]}, "list"),
    ],
)
def test_what_is_not_supported_is_one_line(overrides, part, tmp_path):
    folder = write_llava_next(tmp_path / "c", **overrides)
    with pytest.raises(ModelError, match=part) as error:
        open_checkpoint(folder)
    assert "\n" not in str(error.value)


def test_videos_are_refused_before_they_are_read(open_session):
    session = open_session("llava_next", *OFF)
    for question in (
        {"prompt": "What?", "videos": ["missing.mp4"]},
        {"prompt": "What is <video>?"},
    ):
        for ask in (lambda q: session.ask(**q), lambda q: session.ask_batch([q])):
            with pytest.raises(UsageError, match="images only: give single frames") as error:
                ask(question)
            assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="images only"):
        session.family.preprocess_video(list(clip(2, 30, 30)))


# what the hub's processors print: (opening, what follows an answer)
IMAGES = "{% for c in m['content'] if c['type'] == 'image' %}<image>\n{% endfor %}"
TEXTS = "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}"
FORMATS = {
    "vicuna": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'][0]['text'] }}{% else %}"
        "{{ m['role'] | upper + ': ' }}{% endif %}" + IMAGES + TEXTS + "{{ ' ' }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}",
        "USER: <image>\nWhat? ASSISTANT:",
        " USER: Sure? ASSISTANT:",
    ),
    "mistral": (
        None,  # the toy's own
        "[INST] <image>\nWhat? [/INST]",
        "</s> [INST] Sure? [/INST]",
    ),
    "yi": (
        "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' }}"
        + IMAGES
        + TEXTS
        + "{% endfor %}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_start|>user\n<image>\nWhat?<|im_end|><|im_start|>assistant\n",
        "<|im_end|><|im_start|>user\nSure?<|im_end|><|im_start|>assistant\n",
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_chat_formats(name, open_session, monkeypatch):
    """The opening has its <s> once, and a later turn goes on after the answer without one."""
    template, opening, later = FORMATS[name]
    family = open_session("llava_next", *OFF).family
    tokenizer = family.tokenizer
    if template is not None:
        monkeypatch.setattr(tokenizer, "chat_template", template)
    user = prompts.user_message(family, "What?", 1, 0)
    before, slot, after = prompts.first_turn(family, user, None, markers(family, 1))
    assert (slot.kind, slot.index) == ("image", 0)
    ids = tokenizer(opening)["input_ids"]
    assert [*before, family.model.config.image_token_id, *after] == ids
    assert ids.count(tokenizer.bos_token_id) == 1
    user = prompts.user_message(family, "Sure?", 0, 0)
    [tail] = prompts.later_turn(family, user, None, markers(family))
    assert tail == tokenizer(later, add_special_tokens=False)["input_ids"]
    assert tokenizer.bos_token_id not in tail
    if later.startswith("</s>"):  # the answer's own end is not repeated
        assert prompts.later_turn(family, user, tokenizer.eos_token_id, markers(family)) == [tail[1:]]
