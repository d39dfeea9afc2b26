"""What vLLM's own Python takes for the block hashes of the same prompt as `src/bin/hash.rs`.

    pip install cbor2 xxhash
    pip download --no-deps vllm==0.33.0         # a wheel of 340 MB, which is only read from
    python3 benches/peers/vllm.py vllm-0.33.0-*.whl [--json]

vLLM need not be installed: the functions that hash a request's blocks are taken out of the wheel
(`get_request_block_hasher` of `vllm/v1/core/kv_cache_utils.py` and what it calls, and all of
`vllm/utils/hashing.py`) and run as they are, on a request without adapters, images or salt.
"""

import ast
import random
import sys
import time
import zipfile
from types import SimpleNamespace

FUNCTIONS = {
    "_gen_mm_extra_hash_keys",
    "_gen_lora_extra_hash_keys",
    "_gen_prompt_embeds_extra_hash_keys",
    "generate_block_hash_extra_keys",
    "hash_block_tokens",
    "get_request_block_hasher",
}


def functions_of(wheel):
    """vLLM's block hasher and its four hash functions."""
    with zipfile.ZipFile(wheel) as files:
        hashing = files.read("vllm/utils/hashing.py")
        utils = ast.parse(files.read("vllm/v1/core/kv_cache_utils.py"))
    functions = {}
    exec(hashing, functions)
    kept = [node for node in utils.body if getattr(node, "name", None) in FUNCTIONS]
    source = "from __future__ import annotations\n" + "\n".join(map(ast.unparse, kept))
    names = {"BlockHash": bytes, "NONE_HASH": functions["sha256"]("0")}
    exec(source, names)
    return names["get_request_block_hasher"], functions


def main():
    arguments = [a for a in sys.argv[1:] if a != "--json"]
    if len(arguments) != 1:
        sys.exit(__doc__)
    hasher_of, functions = functions_of(arguments[0])
    random.seed(1)
    tokens = [random.randrange(151_000) for _ in range(7200)]
    request = SimpleNamespace(
        block_hashes=[],
        all_token_ids=tokens,
        num_tokens=len(tokens),
        mm_features=[],
        lora_request=None,
        cache_salt=None,
        prompt_embeds=None,
    )
    for name in ["sha256", "sha256_cbor", "xxhash", "xxhash_cbor"]:
        hash_blocks = hasher_of(16, functions[name])
        assert len(hash_blocks(request)) == 450
        took = []
        for _ in range(300):
            start = time.perf_counter_ns()
            hash_blocks(request)
            took.append((time.perf_counter_ns() - start) / 450)
        took.sort()
        who, least, median = f"vLLM's Python {name}", took[0], took[len(took) // 2]
        if "--json" in sys.argv[1:]:
            print(
                f'{{"bench":"hash","shape":"7200 tokens","who":"{who}","value":{least:.1f},'
                f'"median":{median:.1f},"unit":"ns/block","better":"lower"}}'
            )
        else:
            print(f"{who:32} {least:9.0f} {median:9.0f}  ns/block")


main()
