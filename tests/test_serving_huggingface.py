"""Hugging Face models that the test makes itself: the model's own numbers, row by row."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from p2p.errors import P2PError
from p2p.serving.batching import Row
from p2p.serving.desk import Desk
from p2p.serving.messages import Done, Generate, Load, Sampling, Tokens
from p2p.serving.models.engine import Engine
from p2p.serving.models.loading import load

SIZES = {"vocab_size": 257, "max_position_embeddings": 48}
CONFIGS: dict[str, dict[str, Any]] = {
    "LlamaConfig": {
        **SIZES,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "eos_token_id": 256,
        "bos_token_id": None,
    },
    "GPT2Config": {
        "vocab_size": 257,
        "n_positions": 48,
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 2,
        "eos_token_id": 256,
        "bos_token_id": 256,
    },
}


@pytest.fixture(scope="module")
def transformers() -> Any:
    """Takes seconds to import, so only who runs these tests does, not all who collect them."""
    return importlib.import_module("transformers")


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, transformers: Any
) -> Path:
    made: Path = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = getattr(transformers, request.param)(**CONFIGS[request.param])
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(made)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: n for n, c in enumerate([*alphabet, "</s>"])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    fast.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def engine(folder: Path, transformers: Any) -> Engine:
    loaded, ready = load(Load("tiny", folder=str(folder), streams=3))
    assert (ready.context, ready.streams) == (48, 3)
    kept = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert ready.parameters == kept.num_parameters()
    return loaded


def answer(engine: Engine, *asked: Generate) -> dict[str, tuple[tuple[int, ...], str]]:
    desk = Desk(engine.served, engine.slots, 10)
    said: dict[str, Any] = {each.request: ((), "") for each in asked}
    news = [each for one in asked for each in desk.take(one)]
    while rows := desk.plan():
        news += desk.computed(rows, engine.step(rows), 0.01)
    for each in news:
        for s in each.streams if isinstance(each, Tokens) else ():
            said[s.request] = said[s.request][0] + s.ids, said[s.request][1] + s.text
        if isinstance(each, Done):
            assert each.error is None
            said[each.request] = said[each.request][0], said[each.request][1] + each.text
    return said


def test_scores_are_those_of_the_model(engine: Engine, folder: Path, transformers: Any) -> None:
    tokens = list(range(7, 47))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.inference_mode():
        right = model(torch.tensor([tokens])).logits[0].numpy()
    given = engine.step([Row(1, place, token, True) for place, token in enumerate(tokens)])
    assert given == pytest.approx(right, abs=1e-4)


def test_answers_are_the_same_in_any_batch_and_gone_on_with(engine: Engine) -> None:
    asked = [
        Generate("a", text="héllo", max_tokens=12, sampling=Sampling(1.0, seed=1)),
        Generate("b", text="x", max_tokens=20, sampling=Sampling(1.5, seed=2)),
        Generate("c", messages=({"role": "user", "content": "hi"},), max_tokens=12),
    ]
    together = answer(engine, *asked)
    alone: dict[str, Any] = {}
    for each in asked:
        alone |= answer(engine, each)
    assert alone == together
    ids, text = alone["a"]
    assert text == engine.served.decode(ids).decode()
    rest = answer(
        engine, Generate("a", text="héllo", max_tokens=12, sent=ids[:5], sampling=asked[0].sampling)
    )
    assert rest["a"][0] == ids[5:]
    assert text.endswith(rest["a"][1])


def test_a_conversation_begins_once(engine: Engine) -> None:
    """Where the template writes the mark that the tokenizer puts before every text, too."""
    served: Any = engine.served
    mark = served.tokenizer.eos_token
    served.tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    served.tokenizer.bos_token = mark
    try:
        messages = [{"role": "user", "content": "hi"}]
        assert served.chat(messages) == f"{mark}hi"
        served.encode = lambda text: [served.tokenizer.bos_token_id, 1]
        assert served.chat(messages) == "hi"
    finally:
        served.__dict__.pop("encode", None)
        served.tokenizer.chat_template = served.tokenizer.bos_token = None


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(P2PError, match=r"no config\.json"):
        load(Load("none", folder=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(P2PError, match="cannot load the model in"):
        load(Load("none", folder=str(tmp_path)))
