"""How far two ways to one result may be apart: `torch.testing.assert_close(ours, theirs, **FLOAT32)`.

Each lies in the (geometric) middle between rounding and the least that a wrong index costs, with room of ten
or more on both sides. Rounding differs from one processor to another. It was measured on logits and features
of the tests' small checkpoints, which are of size 3 to 20: under `ATEN_CPU_CAPABILITY=default`, `avx2` and
AVX-512, on one thread and on two.
"""

# Everything in float64. Rounding: 2e-15. Wrong: two weights of a merge swapped, 1.5e-3; one token for the one
# beside it, one layer for the next: 1e-2 and more.
FLOAT64 = {"rtol": 0, "atol": 1e-8}

# The same where a last bit chooses between two neighbours that are as near. Rounding: 2.5e-7. Wrong: 1.5e-3.
NEIGHBOURS = {"rtol": 0, "atol": 1e-5}

# Float64 beside transformers' eager attention, which takes its softmax in float32. Rounding: 1.1e-5.
# Wrong: 1.5e-3.
EAGER = {"rtol": 0, "atol": 1.2e-4}

# Float32. Rounding: 5.5e-5 in Qwen2.5-VL, 6e-6 elsewhere. Wrong: one of 316 tokens one position further,
# 8.9e-3; two neighbours swapped, 1.7e-2. A large picture rounds by 1.8e-4 in Qwen2.5-VL's own layers: its
# identity with transformers is tested in float64.
FLOAT32 = {"rtol": 0, "atol": 6e-4}
