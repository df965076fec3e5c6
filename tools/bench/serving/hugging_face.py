"""A small Llama as a local folder, and `generate` of transformers over it: what many start from."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

PARAMETERS = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def is_there() -> bool:
    """Whether the optional extra `hf` is installed."""
    return find_spec("transformers") is not None


def _transformers() -> Any:
    """Without its bars of progress."""
    found = import_module("transformers")
    found.utils.logging.disable_progress_bar()
    return found


def saved(folder: Path, context: int) -> Path:
    """Random weights, bytes for tokens, and no token that ends an answer early."""
    transformers, tokenizers = _transformers(), import_module("tokenizers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **PARAMETERS,
        **HEADS,
        vocab_size=256,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


class TransformersLoop:
    """`generate`, greedy, with its own cache of keys and values."""

    def __init__(self, folder: Path) -> None:
        self._model: Any = _transformers().AutoModelForCausalLM.from_pretrained(folder).eval()

    @torch.inference_mode()
    def generate(self, prompt: list[int], count: int) -> list[int]:
        """The next `count` ids."""
        told = torch.tensor([prompt])
        ids = self._model.generate(
            told,
            attention_mask=torch.ones_like(told),
            max_new_tokens=count,
            do_sample=False,
            use_cache=True,
        )
        made: list[int] = ids[0, len(prompt) :].tolist()
        assert len(made) == count, "it ended early"
        return made
