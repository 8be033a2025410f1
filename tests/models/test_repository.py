"""Checkpoints of the LLaVA-NeXT repository: the same model as in `transformers`' layout, or a clear line."""

import importlib.util
import json
import shutil
import warnings

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from illava_cli.config import resolve, shipped
from illava_cli.engine.prompt import Slot, first_turn, later_turn, user_message
from illava_cli.engine.session import Request, Session
from illava_cli.errors import ModelError, UsageError
from illava_cli.models import family_class, repository
from illava_cli.models.catalog import complete, read_config
from illava_cli.models.conversations import CONVERSATIONS
from illava_cli.models.repository import translate
from illava_cli.models.sizes import schedule_key
from tests.builders import write_llava_next, write_llava_onevision
from tests.conftest import clip, picture
from tests.engine.test_end_to_end import pieces_of, schedule_of
from tests.needs import require
from tests.reference import reference_conversation
from tests.repository import write_repository
from tests.stock import Stock
from tests.tolerances import FLOAT32, FLOAT64

OFF = ("preset=off", "generation.max_tokens=4")


def open_checkpoint(folder, *settings):
    return Session(resolve(str(folder), settings=["model.device=cpu", *settings], environ={}))


# name -> (writer, its overrides, tokens of the tokenizer, conversation)
KINDS = {
    "onevision": (write_llava_onevision, {}, (), "qwen_1_5"),
    "onevision 0.5b": (write_llava_onevision, {"tie_word_embeddings": True}, (), "qwen_1_5"),
    "v1.6 vicuna": (write_llava_next, {}, (), "vicuna_v1"),
    "v1.6 mistral": (write_llava_next, {"text_config": {"model_type": "mistral"}}, (), "mistral_instruct"),
    "v1.6 34b": (write_llava_next, {}, ("<|im_start|>", "<|im_end|>"), "chatml_direct"),
}
MEDIA = {
    "image": {"images": [picture(200, 150, 1)]},
    "images": {"images": [picture(120, 90, 5), picture(64, 140, 6)]},
    "video": {"videos": [clip(3, 96, 64, 1)]},
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A checkpoint of the repository and the one of `transformers` that it was made from."""
    folders = {}

    def get(kind):
        if kind not in folders:
            write, overrides, marks, _ = KINDS[kind]
            base = tmp_path_factory.mktemp("checkpoints")
            source = write(base / "hf", **overrides)
            folders[kind] = write_repository(base / "llava", source, marks=marks), source
        return folders[kind]

    return get


@pytest.mark.parametrize(
    ("kind", "media"),
    [(k, m) for k in KINDS for m in MEDIA if m != "video" or KINDS[k][0] is write_llava_onevision],
)
def test_logits_equal_those_of_the_hf_layout(kind, media, pair):
    folder, source = pair(kind)
    session, stock = open_checkpoint(folder, *OFF), Stock(source)
    tokenizer = session.family.tokenizer
    assert tokenizer.chat_template == CONVERSATIONS[KINDS[kind][3]]
    answer = session.ask("What is shown?", **MEDIA[media], logits=True)

    # the same ids for the unmodified model
    stock.tokenizer, config = tokenizer, stock.model.config
    for name in ("image", "video") if "video" in session.family.markers else ("image",):
        number = getattr(session.model.config, f"{name}_token_id")
        assert tokenizer.convert_ids_to_tokens(number) == f"<{name}>"
        setattr(config, f"{name}_token_id", number)
        setattr(stock, f"{name}_id", number)
    images, videos = MEDIA[media].get("images", []), [list(v) for v in MEDIA[media].get("videos", [])]
    content = [{"type": "image"}] * len(images) + [{"type": "video"}] * len(videos)
    content.append({"type": "text", "text": "What is shown?"})
    logits, tokens = stock.answer(
        stock.chat([{"role": "user", "content": content}]), images, videos, tokens=4
    )
    torch.testing.assert_close(answer.logits, logits, **FLOAT32)
    assert list(answer.token_ids) == tokens[: len(answer.token_ids)]


def test_merging_and_a_later_turn(pair):
    session = open_checkpoint(
        pair("v1.6 vicuna")[0], "preset=off", "vision={layers: [1], r: 11}", "llm={layers: [2], keep: 0.5}"
    )
    session.update(["max_tokens=2"])
    chat = session.chat()
    assert chat.ask("What?", [picture(90, 60)]).usage.visual.llm_kept > 0
    assert chat.ask("And?").usage.visual.patches == 0


def test_nothing_is_written(pair):
    folder, _ = pair("onevision")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    open_checkpoint(folder, *OFF)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert complete(folder)


VIDEO = {
    "grid": (
        "layout=grid",
        "vision={layers: [1, 3], r: [11, 9]}",
        "llm={layers: [2], keep: [0.7], queries: last}",
    ),
    "faithful": (
        "layout=faithful",
        "vision={layers: [1, 3], r: [11, 9]}",
        "llm={layers: [2], keep: [0.7], queries: last}",
    ),
    "authors": ("variant=authors", "vision={layers: [1], r: 11}", "llm={layers: [2], keep: [0.7]}"),
}


@pytest.mark.parametrize("name", VIDEO)
def test_llava_video_ends_each_row_of_a_frame_with_a_newline(name, pair, tmp_path):
    _, source = pair("onevision")
    folder = write_repository(tmp_path / "video", source, mm_newline_position="grid", add_faster_video=False)
    settings = ("preset=off", "model.dtype=float64", "generation.max_tokens=2", *VIDEO[name])
    session = open_checkpoint(folder, *settings)
    request = Request("What happens?", videos=[clip(3, 96, 64, 1)])
    answer = session.ask(request.prompt, videos=request.videos, logits=True)
    result = reference_conversation(session.model, [pieces_of(session, request)], schedule_of(session))
    torch.testing.assert_close(answer.logits, result.logits, **FLOAT64)
    visual, (counts,) = answer.usage.visual, result.counts
    for field in ("patches", "vision_kept", "llm_in", "llm_kept", "newlines_in", "newlines_kept"):
        assert getattr(visual, field) == getattr(counts, field), field
    assert visual.newlines_in == 3 * (2 if name == "grid" else 3)  # 16 tokens of a frame are pooled to 2x2
    session.merging = False
    whole = session.ask(request.prompt, videos=request.videos).usage.visual
    assert (whole.llm_in, whole.newlines_in) == (3 * 9, 3 * 3)


# --- what the published checkpoints say ------------------------------------------------------------

PUBLISHED = {
    "llava-onevision-7b": {
        "architectures": ["LlavaQwenForCausalLM"],
        "mm_newline_position": "one_token",
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "hidden_act": "silu",
        "hidden_size": 3584,
        "image_aspect_ratio": "anyres_max_9",
        "image_grid_pinpoints": "(1x1),...,(6x6)",
        "intermediate_size": 18944,
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
        "mm_hidden_size": 1152,
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_spatial_pool_mode": "bilinear",
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "model_type": "llava",
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": 152064,
    },
    "llava-next-vicuna-7b": {
        "architectures": ["LlavaLlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "image_aspect_ratio": "anyres",
        "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "mm_hidden_size": 1024,
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "model_type": "llava",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_the_shipped_architecture(name):
    """But for the rows that padding adds to the vocabulary."""
    translated = translate(PUBLISHED[name], name)
    spec = yaml.safe_load(shipped("architectures")[name].read_text())
    assert translated["model_type"] == spec["family"]
    model_class = family_class(spec["family"], name).stock_class
    ours, theirs = (
        model_class.config_class(**{k: v for k, v in config.items() if k != "model_type"})
        for config in (spec["config"], translated)
    )
    for part in ("vision_config", "text_config"):
        for key in spec["config"][part].keys() - {"vocab_size"}:
            assert getattr(getattr(theirs, part), key) == getattr(getattr(ours, part), key), key
    for key in spec["config"].keys() - {"vision_config", "text_config", "image_grid_pinpoints"}:
        assert getattr(theirs, key) == getattr(ours, key), key
    assert sorted(theirs.image_grid_pinpoints) == sorted(ours.image_grid_pinpoints)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("(1x1),...,(2x3)", [[336 * h, 336 * w] for w in (1, 2) for h in (1, 2, 3)]),
        ("[(336, 672), [672, 1008]]", [[672, 336], [1008, 672]]),
        ([[336, 672]], [[672, 336]]),  # width and height there, height and width here
    ],
)
def test_pinpoints(value, expected):
    config = PUBLISHED["llava-next-vicuna-7b"] | {"image_grid_pinpoints": value}
    assert translate(config, "x")["image_grid_pinpoints"] == expected


def test_the_schedule_is_known_before_loading(pair):
    config = resolve(str(pair("v1.6 mistral")[0]), environ={})
    assert schedule_key(config) == "llava_next"
    assert read_config(pair("onevision")[0])["model_type"] == "llava_onevision"


# --- conversations -----------------------------------------------------------------------------------

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions. "
)
# (what opens a conversation, what follows an answer, a system prompt)
PRINTED = {
    "qwen_1_5": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<image>\nWhat?<|im_end|>\n<|im_start|>assistant\n",
        "A dog.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    ),
    "chatml_direct": (
        "<|im_start|>system\nAnswer the questions.<|im_end|>"
        "<|im_start|>user\n<image>\nWhat?<|im_end|><|im_start|>assistant\n",
        "A dog.<|im_end|><|im_start|>user\nSure?<|im_end|><|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\nHi<|im_end|><|im_start|>assistant\n",
    ),
    "vicuna_v1": (
        VICUNA + "USER: <image>\nWhat? ASSISTANT:",
        " A dog.</s>USER: Sure? ASSISTANT:",
        "Be brief. USER: Hi ASSISTANT:",
    ),
    "mistral_instruct": (
        "[INST] <image>\nWhat? [/INST]",
        " A dog. </s>[INST] Sure? [/INST]",
        "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]",
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations_are_the_repository_s(name, pair):
    tokenizer = open_checkpoint(pair("v1.6 vicuna")[0]).family.tokenizer
    first, then, system = PRINTED[name]

    def printed(*turns):
        turns = [{"role": role, "content": content} for role, content in turns]
        template = CONVERSATIONS[name]
        return tokenizer.apply_chat_template(
            turns, chat_template=template, tokenize=False, add_generation_prompt=True
        )

    question = ("user", [{"type": "image"}, {"type": "text", "text": "What?"}])
    assert printed(question) == first
    assert printed(question, ("assistant", "A dog."), ("user", "Sure?")) == first + then
    assert printed(("system", "Be brief."), ("user", "Hi")) == system


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_an_end_token_is_not_repeated(name, pair):
    family = open_checkpoint(pair("v1.6 vicuna")[0]).family
    tokenizer = family.tokenizer
    tokenizer.add_tokens(["</s>", "<|im_end|>"], special_tokens=True)
    tokenizer.chat_template = CONVERSATIONS[name]
    mark = "<|im_end|>" if "<|im_end|>" in PRINTED[name][1] else "</s>"
    end = tokenizer.convert_tokens_to_ids(mark)
    question = user_message(family, "Sure?", 0, 0)

    def written(last_token):
        (ids,) = later_turn(family, question, last_token, 0, 0)
        return ids

    before, _, behind = PRINTED[name][1].partition("A dog.")[2].partition(mark)
    behind = tokenizer(behind, add_special_tokens=False)["input_ids"]
    before = [*tokenizer(before, add_special_tokens=False)["input_ids"], end]
    family.model.generation_config.eos_token_id = end
    assert written(end) == behind
    # an answer that was cut short, perhaps at the very token that follows here
    assert written(None) == before + behind
    if before[0] != end:
        assert written(before[0]) == before + behind


@pytest.mark.parametrize("layout", ["llava", "hf"])
def test_a_conversation_begins_with_one_bos(layout, pair):
    """Also where the template writes it, as `transformers`' processors see to."""
    family = open_checkpoint(pair("v1.6 vicuna")[layout == "hf"]).family
    question = user_message(family, "What?", 1, 0)
    plain = first_turn(family, question, None, 1, 0)
    family.tokenizer.chat_template = "{{ bos_token }}" + family.tokenizer.chat_template
    assert first_turn(family, question, None, 1, 0) == plain
    assert plain[0].count(family.tokenizer.bos_token_id) == 1


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"mm_patch_merge_type": "flat"}, "mm_patch_merge_type 'flat'"),
        ({"mm_resampler_type": "perceiver"}, "mm_resampler_type 'perceiver' .*only None$"),
        ({"mm_projector_type": "linear"}, "mm_projector_type 'linear'"),
        ({"mm_newline_position": "frame"}, "mm_newline_position 'frame' .*only 'one_token' or 'grid'$"),
        ({"mm_spatial_pool_mode": "max"}, "mm_spatial_pool_mode 'max'"),
        ({"add_faster_video": True}, "add_faster_video .*only False$"),
        ({"image_aspect_ratio": "pad"}, "image_aspect_ratio 'pad'"),
        ({"image_grid_pinpoints": "many"}, "image_grid_pinpoints 'many'"),
        ({"mm_patch_merge_type": ...}, "mm_patch_merge_type 'flat' .*names none.*only 'spatial_unpad'"),
        ({"mm_projector_type": ...}, "mm_projector_type 'linear' .*names none.*only 'mlp2x_gelu'"),
        ({"image_grid_pinpoints": ...}, "names no image_grid_pinpoints"),
        ({"mm_vision_tower": "someone/a-tower"}, r"a-tower is not known \(known are: openai/clip"),
        ({"architectures": ["LlavaMptForCausalLM"]}, "LlavaMptForCausalLM.*LlavaQwenForCausalLM"),
        ({"architectures": None}, "it knows: LlavaLlamaForCausalLM"),
    ],
)
def test_what_transformers_does_not_do_is_refused(fields, part, pair, tmp_path):
    config = json.loads((pair("onevision")[0] / "config.json").read_text())
    config = {
        name: value for name, value in (config | fields).items() if value is not ...
    }  # ...: it is missing
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((ModelError, UsageError), match=part) as error:
        open_checkpoint(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("tower", "part"),
    [
        ("{", "cannot be read as the configuration of a vision tower"),
        ('{"model_type": "clip_vision_model"}', "cannot be read as the configuration"),
        ('{"model_type": "vit", "num_hidden_layers": 2, "image_size": 84}', "type 'vit' is not supported"),
    ],
)
def test_a_tower_that_cannot_be_used_is_one_line(tower, part, pair, tmp_path):
    config = json.loads((pair("onevision")[0] / "config.json").read_text())
    (tmp_path / "tower").mkdir()
    (tmp_path / "tower" / "config.json").write_text(tower)
    config["mm_vision_tower"] = str(tmp_path / "tower")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=part) as error:
        open_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def test_a_relative_tower_lies_beside_its_checkpoint(pair, tmp_path, monkeypatch):
    config = json.loads((pair("onevision")[0] / "config.json").read_text())
    expected = read_config(pair("onevision")[0])["vision_config"]
    (tmp_path / "llava").mkdir()
    (tmp_path / "tower").symlink_to(config["mm_vision_tower"])
    (tmp_path / "llava" / "config.json").write_text(json.dumps(config | {"mm_vision_tower": "../tower"}))
    monkeypatch.chdir(tmp_path.parent)
    assert read_config(tmp_path / "llava")["vision_config"] == expected


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        ("a shard", "model-00002-of-00002"),
        ("the tower", "comes without the weights of its vision tower"),
        ("a weight", "1 missing keys"),
        ("a stranger", "1 unexpected keys .*stranger"),
    ],
)
def test_a_partial_checkpoint_is_refused(damage, part, tmp_path):
    folder = write_repository(tmp_path / "llava", write_llava_next(tmp_path / "hf"))
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    if damage == "a shard":
        (folder / "model-00002-of-00002.safetensors").unlink()
    for shard in sorted(folder.glob("*.safetensors")):
        weights = load_file(shard)
        if damage == "the tower":
            weights = {name: w for name, w in weights.items() if "vision_tower" not in name}
        if damage == "a weight":
            weights.pop("model.layers.1.mlp.up_proj.weight", None)
        if damage == "a stranger" and "00001" in shard.name:
            weights["model.stranger.weight"] = torch.zeros(2)
            index["weight_map"]["model.stranger.weight"] = shard.name
        if damage != "a shard":
            save_file(weights, shard, {"format": "pt"})
            kept = {n for n, where in index["weight_map"].items() if where != shard.name or n in weights}
            index["weight_map"] = {n: index["weight_map"][n] for n in kept}
    path.write_text(json.dumps(index))
    with pytest.raises(ModelError, match=part) as error:
        open_checkpoint(folder)
    assert "\n" not in str(error.value)


@pytest.fixture
def only_sentencepiece(pair, tmp_path):
    """A checkpoint whose tokenizer is a sentencepiece file alone, as those of v1.6 are."""
    folder, _ = pair("v1.6 vicuna")
    for path in folder.iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    return tmp_path


def test_a_sentencepiece_tokenizer_names_its_package(only_sentencepiece, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: found(name) if name != "sentencepiece" else None
    )
    with pytest.raises(ModelError, match=r"pip install 'illava\[sentencepiece\]'"):
        open_checkpoint(only_sentencepiece)


def train_sentencepiece(folder):
    """A small tokenizer.model of the kind that Llama has: nothing normalised, bytes for what is unknown."""
    require("sentencepiece")
    import sentencepiece

    text = folder / "text.txt"
    text.write_text("The image shows a small house on a green hill.\n" * 20 + "What is in this image?\n" * 20)
    (folder / "tokenizer.model").unlink()
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=310,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=-1,
    )
    return sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))


def set_tokenizer(folder, **settings):
    """Llama's tokenizer_config.json, without whatever is None."""
    path = folder / "tokenizer_config.json"
    path.unlink()
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | settings
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))


@pytest.mark.parametrize("legacy", [None, True, False])
def test_a_sentencepiece_tokenizer_gives_sentencepiece_s_tokens(legacy, only_sentencepiece):
    reference = train_sentencepiece(only_sentencepiece)
    set_tokenizer(only_sentencepiece, tokenizer_class="LlamaTokenizer", legacy=legacy)
    session = open_checkpoint(only_sentencepiece, *OFF)
    for text in ("A chat. USER: ", "[INST] ", "\nWhat is 日 in  this image? [/INST]", "What", "\n"):
        ids = session.family.tokenizer(text)["input_ids"]
        assert ids == [reference.bos_id(), *reference.encode(text)]
        assert session.family.tokenizer.decode(ids, skip_special_tokens=True) == text
    assert session.ask("What?", [picture(90, 60)]).usage.visual.patches == 3 * 36


@pytest.mark.parametrize("legacy", [None, True, False])
def test_runs_between_images_are_encoded_by_themselves(legacy, only_sentencepiece):
    """As the repository's `tokenizer_image_token` does: a prefix space in each, BOS in the first."""
    reference = train_sentencepiece(only_sentencepiece)
    set_tokenizer(only_sentencepiece, tokenizer_class="LlamaTokenizer", legacy=legacy)
    family = open_checkpoint(only_sentencepiece, *OFF).family
    question = user_message(family, "<image> shows what, and <image>?", 2, 0)
    parts = [VICUNA + "USER: ", " shows what, and ", "? ASSISTANT:"]
    head, one, two = map(reference.encode, parts)
    expected = [[reference.bos_id(), *head], Slot("image", 0), one, Slot("image", 1), two]
    assert first_turn(family, question, None, 2, 0) == expected
    assert later_turn(family, question, reference.eos_id(), 2, 0)[1:] == expected[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_s_name_in_a_prompt_is_text(kind, pair):
    """In runs between images as well, which are encoded by themselves."""
    family = open_checkpoint(pair(kind)[0], *OFF).family
    added = family.tokenizer.added_tokens_decoder

    def ids_of(text, system):
        user = user_message(family, f"<image> {text} <image>{text}", 2, 0)
        pieces = first_turn(family, user, system, 2, 0), later_turn(family, user, None, 2, 0)
        return [[piece for piece in turn if isinstance(piece, list)] for turn in pieces]

    plain = ids_of("a", "b")
    for name in (token.content for token in added.values()):
        name = name.replace("<image>", r"\<image>").replace("<video>", r"\<video>")
        for runs, template in zip(ids_of(f"x{name} y", f"{name}z"), plain, strict=True):
            controls = [[token for token in run if token in added] for run in runs]
            assert controls == [[token for token in run if token in added] for run in template]
            assert f"x{name} y".replace("\\", "") in family.tokenizer.decode(runs[1])


def test_a_name_is_text_in_a_sentencepiece_tokenizer(only_sentencepiece):
    """Its tokens are sentencepiece's own of the same words."""
    reference = train_sentencepiece(only_sentencepiece)
    set_tokenizer(only_sentencepiece, tokenizer_class="LlamaTokenizer")
    family = open_checkpoint(only_sentencepiece, *OFF).family
    question = user_message(family, r"<image> ends </s> here, \<image><s>", 1, 0)
    parts = [VICUNA + "USER: ", " ends </s> here, <image><s> ASSISTANT:"]
    head, tail = map(reference.encode, parts)
    expected = [[reference.bos_id(), *head], Slot("image", 0), tail]
    assert first_turn(family, question, None, 1, 0) == expected


def test_a_qwen_tokenizer_of_vocabulary_and_merges_is_read(pair, tmp_path):
    whole, _ = pair("onevision")
    for path in whole.iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).symlink_to(path)
    tokenizer = json.loads((whole / "tokenizer.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
    merges = "\n".join(" ".join(merge) for merge in tokenizer["model"]["merges"])
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + merges + "\n")
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    ours, theirs = (open_checkpoint(folder, *OFF).family.tokenizer for folder in (tmp_path, whole))
    text = "<|im_start|>user\n<image>\nWhat is shown here, in 2 words?<|im_end|>\n"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]


# --- towers of another size ----------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["width", "fewer layers", "more layers"])
def test_a_tower_of_another_size_is_named(other, tmp_path):
    """All that is known of a tower is its name; it may have been trained from another."""
    folder = write_repository(tmp_path / "llava", write_llava_next(tmp_path / "hf"))
    path = folder.with_name("llava-tower") / "config.json"
    tower = json.loads(path.read_text())
    change = {
        "width": {"hidden_size": 48, "intermediate_size": 96},
        "fewer layers": {"num_hidden_layers": 6},
        "more layers": {"num_hidden_layers": 8},
    }[other]
    path.write_text(json.dumps(tower | change))
    with pytest.raises(
        ModelError, match=r"weights of its vision tower \(model\.vision_tower\..* are not those of "
    ) as error:
        open_checkpoint(folder)
    assert str(path.parent) in str(error.value)
    assert "let mm_vision_tower name a directory" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_published_tower_s_size_is_assumed(tmp_path, monkeypatch):
    """Then its name is what the line says, and a directory beside the checkpoint mends it."""
    folder = write_repository(tmp_path / "llava", write_llava_next(tmp_path / "hf"))
    own = json.loads((folder.with_name("llava-tower") / "config.json").read_text())
    small = own | {"hidden_size": 64, "intermediate_size": 128, "patch_size": 12}
    monkeypatch.setitem(repository.PUBLISHED_TOWERS, "openai/clip-small", small)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"mm_vision_tower": "openai/clip-small"}))
    with pytest.raises(ModelError, match=r"not those of openai/clip-small, which its config\.json names"):
        open_checkpoint(folder)
    path.write_text(json.dumps(config | {"mm_vision_tower": "../llava-tower"}))
    assert open_checkpoint(folder, *OFF).ask("What?", [picture(60, 60)]).usage.visual.patches > 0


@pytest.mark.parametrize("kind", ["onevision", "v1.6 vicuna"])
@pytest.mark.parametrize("layout", ["llava", "hf"])
@pytest.mark.parametrize("model_type", [None, "llava_mistral"])
def test_no_rope_scaling_is_no_news(kind, layout, model_type, pair, tmp_path):
    """`"rope_scaling": null` is what most of them say; another library's warning was printed of it."""
    source = pair(kind)[layout == "hf"]
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text()) | {"rope_scaling": None}
    if layout == "hf":
        config["text_config"] |= {"rope_scaling": None}
    elif model_type:
        config["model_type"] = model_type
    (folder / "config.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = open_checkpoint(folder)
    plain = open_checkpoint(source)
    assert session.model.config.text_config.rope_parameters == plain.model.config.text_config.rope_parameters
    assert session.family.tokenizer.get_vocab() == plain.family.tokenizer.get_vocab()
