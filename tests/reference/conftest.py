"""Small random checkpoints in float64, each loaded once: with SDPA, and with maps (eager)."""

import pytest
import torch
from transformers import (
    InternVLForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

from tests.builders import (
    write_internvl,
    write_llava_next,
    write_llava_onevision,
    write_qwen2_5_vl,
    write_qwen2_vl,
    write_qwen3_5,
    write_qwen3_vl,
)
from tests.reference.stock import load


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory):
    return write_llava_onevision(tmp_path_factory.mktemp("llava"), dtype=torch.float64)


@pytest.fixture(scope="session")
def next_folder(tmp_path_factory):
    return write_llava_next(tmp_path_factory.mktemp("next"), dtype=torch.float64)


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory):
    return write_qwen2_vl(tmp_path_factory.mktemp("qwen"), dtype=torch.float64)


@pytest.fixture(scope="session")
def qwen25_folder(tmp_path_factory):
    return write_qwen2_5_vl(tmp_path_factory.mktemp("qwen25"), dtype=torch.float64)


@pytest.fixture(scope="session")
def llava(llava_folder):
    return load(LlavaOnevisionForConditionalGeneration, llava_folder)


@pytest.fixture(scope="session")
def llava_next(next_folder):
    return load(LlavaNextForConditionalGeneration, next_folder)


@pytest.fixture(scope="session")
def qwen(qwen_folder):
    return load(Qwen2VLForConditionalGeneration, qwen_folder)


@pytest.fixture(scope="session")
def qwen25(qwen25_folder):
    return load(Qwen2_5_VLForConditionalGeneration, qwen25_folder)


@pytest.fixture(scope="session")
def eager_llava(llava_folder):
    return load(LlavaOnevisionForConditionalGeneration, llava_folder, attn_implementation="eager")


@pytest.fixture(scope="session")
def eager_next(next_folder):
    return load(LlavaNextForConditionalGeneration, next_folder, attn_implementation="eager")


@pytest.fixture(scope="session")
def eager_qwen(qwen_folder):
    return load(Qwen2VLForConditionalGeneration, qwen_folder, attn_implementation="eager")


@pytest.fixture(scope="session")
def eager_qwen25(qwen25_folder):
    return load(Qwen2_5_VLForConditionalGeneration, qwen25_folder, attn_implementation="eager")


@pytest.fixture(scope="session")
def qwen3_folder(tmp_path_factory):
    return write_qwen3_vl(tmp_path_factory.mktemp("qwen3"), dtype=torch.float64)


@pytest.fixture(scope="session")
def qwen3(qwen3_folder):
    return load(Qwen3VLForConditionalGeneration, qwen3_folder)


@pytest.fixture(scope="session")
def eager_qwen3(qwen3_folder):
    return load(Qwen3VLForConditionalGeneration, qwen3_folder, attn_implementation="eager")


@pytest.fixture(scope="session")
def qwen35_folder(tmp_path_factory):
    return write_qwen3_5(tmp_path_factory.mktemp("qwen35"), dtype=torch.float64)


@pytest.fixture(scope="session")
def qwen35(qwen35_folder):
    return load(Qwen3_5ForConditionalGeneration, qwen35_folder)


@pytest.fixture(scope="session")
def internvl_folder(tmp_path_factory):
    return write_internvl(tmp_path_factory.mktemp("internvl"), dtype=torch.float64)


@pytest.fixture(scope="session")
def internvl(internvl_folder):
    return load(InternVLForConditionalGeneration, internvl_folder)
