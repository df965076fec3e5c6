"""A Hugging Face causal language model from a local folder, row by row.

The model's own code computes all rows as one sequence, each at its own position. Its linear layers
are exchanged for row-wise ones, and attention, which alone would let rows see each other, for that
over our caches.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from p2p.errors import P2PError
from p2p.serving.desk import plain_chat
from p2p.serving.models.rows import Linear, Rows
from p2p.serving.text import Text, WordsText

ATTENTION = "p2p_rows"
# What models hand to attention beside queries, keys and values, and would give other numbers.
NOT_COMPUTED = ("softcap", "s_aux", "position_bias")


class FolderRows:
    """What docs/serving.md asks for. Raises P2PError when the folder has no such model."""

    def __init__(self, folder: str, rows: Rows, device: torch.device) -> None:
        transformers = _transformers()
        if not (Path(folder) / "config.json").is_file():
            raise P2PError(f"{folder} is no Hugging Face model: it has no config.json")
        transformers.AttentionInterface.register(ATTENTION, self._attention)
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True
            )
            self.model = transformers.AutoModelForCausalLM.from_pretrained(
                *(folder,),
                dtype=torch.float32,
                attn_implementation=ATTENTION,
                local_files_only=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            first = str(error).strip().partition("\n")[0]
            raise P2PError(f"cannot load the model in {folder}: {first}") from error
        self.model.eval().to(device)
        _exchange(self.model, rows)
        self._take_sizes(self.model.config.get_text_config())
        self._attend: Any = None

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def decode(self, ids: Sequence[int]) -> bytes:
        return self._words(ids).encode()

    def text(self) -> Text:
        return WordsText(self._words)

    def chat(self, messages: list[dict[str, str]]) -> str:
        if not self.tokenizer.chat_template:
            return plain_chat(messages)
        told = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return self._begun_once(str(told))

    def _begun_once(self, text: str) -> str:
        """Templates write the mark of the beginning, and `encode` would once more."""
        mark = self.tokenizer.bos_token
        adds = bool(mark) and self.encode("")[:1] == [self.tokenizer.bos_token_id]
        return text.removeprefix(mark) if adds else text

    def scores(self, tokens: Tensor, places: Tensor, attend: Any, wanted: Tensor | None) -> Tensor:
        self._attend = attend
        given = self.model(
            input_ids=tokens[None],
            position_ids=places[None],
            use_cache=False,
            logits_to_keep=0 if wanted is None else wanted,
        )
        scores: Tensor = given.logits[0]
        return scores

    def _take_sizes(self, config: Any) -> None:
        self.vocabulary = int(config.vocab_size)
        self.layers, self.heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        width = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.head_width = int(width)
        # Further back than its window a token does not look: there is no more context than that.
        window = getattr(config, "sliding_window", None)
        self.context = min(int(config.max_position_embeddings), int(window or 1 << 62))
        ends = self.model.generation_config.eos_token_id
        self.ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    def _words(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _attention(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **told: Any
    ) -> tuple[Tensor, None]:
        """query[1, heads, rows, width], key and value with as many heads or fewer."""
        for name in NOT_COMPUTED:
            if told.get(name) is not None:
                raise P2PError(f"this model's attention has {name}, which replicas do not compute")
        scaling = told.get("scaling")
        if scaling is not None and scaling != self.head_width**-0.5:
            query = query * (scaling * self.head_width**0.5)
        flat = [self._flat(each) for each in (query, key, value)]
        mixed: Tensor = self._attend(int(module.layer_idx), *flat)
        return mixed.view(1, len(mixed), self.heads, self.head_width), None

    def _flat(self, each: Tensor) -> Tensor:
        """[1, heads or fewer, rows, width] -> [rows, heads * width]"""
        each = each[0].repeat_interleave(self.heads // each.shape[1], dim=0)
        return each.transpose(0, 1).reshape(each.shape[1], -1)


class RowLinear(nn.Module):
    """In the place of a linear layer; [1, rows, inputs] -> [1, rows, outputs]."""

    def __init__(self, compute: Linear, module: Any) -> None:
        super().__init__()
        self._compute = compute
        # Still the model's: they are counted and hashed, and some models look at their type.
        self.weight, self.bias = module.weight, module.bias

    def forward(self, x: Tensor) -> Tensor:
        return self._compute(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def _exchange(model: nn.Module, rows: Rows) -> None:
    transposed = import_module("transformers.pytorch_utils").Conv1D  # GPT-2's linear layer
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            weight = module.weight
        elif isinstance(module, transposed):
            weight = module.weight.T
        else:
            continue
        compute = rows.linear(weight.detach(), module.bias)
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], RowLinear(compute, module))


def _transformers() -> Any:
    try:
        return import_module("transformers")
    except ImportError as error:
        raise P2PError(
            f"hf: models need another package: `pip install 'p2pnode[hf]'` ({error})"
        ) from error
