"""Prompts from the screen: typed, answered while everything else goes on, stopped, bounded."""

import asyncio
import time
from dataclasses import replace

import pytest
from textual import events
from textual.keys import _character_to_key
from textual.widgets import Input

from p2p.errors import Busy, Usage
from tests import tui_fake_told
from tests.test_tui_app import Driver, screen
from tests.tui_fake import FakeAnswer, FakeCluster
from tui import chat
from tui.chat import Chat
from tui.lines import prompt_options, serving
from tui.parsing_told import parse_models
from tui.screens.line import LineScreen
from tui.text import fold, width_of
from tui.widgets.asking import AskingInput


async def ask(driver: Driver, text: str) -> FakeAnswer:
    """Type it as a person does, and wait until somebody was asked."""
    before = len(driver.cluster.answers)
    if not driver.app.query_one(AskingInput).display:
        await driver.press("i")
    for letter in text:
        driver.app.post_message(events.Key(_character_to_key(letter), letter))
        await driver.settle()
    await driver.press("enter")
    await driver.until(lambda: len(driver.cluster.answers) > before, "a question")
    return driver.cluster.answers[-1]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_a_prompt_is_typed_and_its_answer_comes_piece_by_piece(size: tuple[int, int]) -> None:
    async def talk() -> None:
        cluster = FakeCluster(3)
        async with screen(cluster, size) as driver:
            await driver.press("0")
            await driver.sees("tales", "2 of 2", "nothing was asked yet", "enter asks tales")
            answer = await ask(driver, "Xq1? m(")  # letters here, keys elsewhere
            assert answer.prompt == "Xq1? m("
            assert answer.options["model"] == "serve-1"
            await driver.sees("> Xq1? m(", "no token yet", "an answer is being given")
            answer.say("def main", "() -> [bold]None:\n    pass\x1b[2J")
            await driver.sees("def main() -> [bold]None:", "    pass·[2J", "on node-2: 2 tokens")
            answer.finish(moves=1)
            await driver.sees("node-2, replica r1", "2 tokens in 0.50 s", "4.0 tokens/s", "seed 11")
            await driver.sees("gone on", "elsewhere", "enter asks tales")
            again = await ask(driver, "go")
            assert again.options["conversation"] == answer.options["conversation"]
            again.finish(Busy("1000 prompts wait here already: busy, retry after 2 s"))
            await driver.sees("busy, retry after 2 s")
            assert not driver.requests
            assert driver.app.scene.view == "prompt"

    asyncio.run(talk())


def test_earlier_prompts_come_back_and_what_was_typed_stays() -> None:
    async def talk() -> None:
        cluster = FakeCluster(3)
        async with screen(cluster) as driver:
            for text in ("one", "two", "one"):
                (await ask(driver, text)).finish()
                await driver.until(lambda: driver.app.scene.chat.open is None, "its end")
            line = driver.app.query_one(AskingInput)
            await driver.press("d", "r", "up")
            assert line.value == "one"
            for key, value in (("up", "two"), ("up", "two"), ("down", "one"), ("down", "dr")):
                await driver.press(key)
                assert line.value == value
            driver.app.query_one(AskingInput).post_message(events.Paste("a\n  b\n"))
            await driver.press("ctrl+j", "c", "enter")
            assert cluster.answers[-1].prompt == "dra\n  b\n\nc"
            await driver.sees("> dra", "    b", "  c")
            cluster.answers[-1].finish()
            await driver.until(lambda: driver.app.scene.chat.open is None, "its end")
            await driver.press("up")
            assert line.value == "dra↵  b↵↵c"
            await driver.press("down", "d", "r", "tab")
            assert not line.display
            await driver.press("j", "i")
            assert (line.display, line.value) == (True, "dr")

    asyncio.run(talk())


def test_esc_stops_the_answer_then_leaves_the_line_then_the_view() -> None:
    async def talk() -> None:
        async with screen(FakeCluster(3)) as driver:
            answer = await ask(driver, "x")
            answer.say("a tale")
            await driver.sees("a tale")
            line = driver.app.query_one(AskingInput)
            await driver.press("escape")
            await driver.until(lambda: answer.is_left, "it is given up")
            await driver.sees("[stopped]", "a tale")
            assert line.display
            await driver.press("escape")
            assert (line.display, driver.app.scene.view) == (False, "prompt")
            answer = await ask(driver, "y")
            await driver.press("tab", "escape")  # not in the line
            await driver.until(lambda: answer.is_left, "it is given up, too")
            assert driver.app.scene.view == "prompt"
            await driver.press("escape")
            assert driver.app.scene.view == "overview"

    asyncio.run(talk())


def test_an_answer_goes_on_behind_other_views_and_is_told() -> None:
    async def talk() -> None:
        async with screen(FakeCluster(3)) as driver:
            answer = await ask(driver, "x")
            await driver.press("tab", "1")
            assert not driver.app.query_one(AskingInput).display
            answer.say(*(f"{n} " for n in range(500)))
            answer.finish()
            await driver.sees("the prompt is answered: 0 shows it")
            assert driver.app.scene.view == "overview"
            await driver.press("n")  # elsewhere it only shows the conversation
            await driver.sees("498 499", "500 tokens")

    asyncio.run(talk())


def test_many_tokens_are_few_drawings() -> None:
    async def talk() -> None:
        async with screen(FakeCluster(3)) as driver:
            answer = await ask(driver, "x")
            drawn = 0
            draw = driver.app._draw_answer

            def count() -> None:
                nonlocal drawn
                drawn += 1
                draw()

            driver.app._draw_answer = count  # type: ignore[method-assign]
            answer.say(*("x" for _ in range(1000)))
            answer.finish()
            await driver.sees("1,000 tokens")
            assert 1 <= drawn < 100

    asyncio.run(talk())


def test_options_are_typed_as_on_the_command_line_and_a_conversation_begins_anew() -> None:
    async def talk() -> None:
        async with screen(FakeCluster(3)) as driver:
            await driver.press("0", "o")
            typed = driver.app.screen
            assert isinstance(typed, LineScreen)
            typed.query_one(Input).value = "--temperature hot"
            await driver.press("enter")
            await driver.sees("invalid float value: 'hot'")
            typed.query_one(Input).value = "--temperature 0.8 --max-tokens 9 --seed 3"
            await driver.press("enter")
            await driver.sees("temperature 0.8, 9 tokens, seed 3")
            answer = await ask(driver, "x")
            wanted = {"temperature": 0.8, "max_tokens": 9, "seed": 3}
            assert wanted.items() <= answer.options.items()
            await driver.press("tab", "n")
            await driver.until(lambda: answer.is_left, "it is given up")
            await driver.sees("nothing was asked yet", "seed 3")
            other = await ask(driver, "x")
            assert other.options["conversation"] != answer.options["conversation"]

    asyncio.run(talk())


def test_a_chosen_chat_model_is_told_what_was_said() -> None:
    async def talk() -> None:
        cluster = FakeCluster(3)
        async with screen(cluster) as driver:
            await driver.press("0")
            await driver.sees("chat")
            await driver.press("j", "enter")
            await driver.sees("chat, which is starting: node-3 loads it")
            first = await ask(driver, "hi")
            assert first.prompt == [{"role": "user", "content": "hi"}]
            first.say("Hello!")
            first.finish()
            await driver.sees("Hello!", "1 token in")
            second = await ask(driver, "so")
            said = [message["content"] for message in second.prompt]
            assert (said, second.options["model"]) == (["hi", "Hello!", "so"], "serve-2")

    asyncio.run(talk())


def test_a_read_only_screen_asks_a_little_and_rests() -> None:
    async def talk() -> None:
        async with screen(FakeCluster(3), read_only=True) as driver:
            await driver.press("0", "o")
            driver.app.screen.query_one(Input).value = "--max-tokens 9999"
            await driver.press("enter")
            answer = await ask(driver, "x")
            assert answer.options["max_tokens"] == chat.READ_ONLY_TOKENS_MAX
            answer.say("y")
            await driver.sees("1 token by now")
            before = driver.app.scene.chat
            turn = replace(before.turns[-1], asked_s=before.turns[-1].asked_s - 60.0)
            driver.app.set_scene(chat=replace(before, turns=(turn,)))  # it took a minute
            answer.finish()
            await driver.sees("a read-only screen rests as long as an answer took: 60 s more")
            await driver.press("x", "enter")
            assert len(driver.cluster.answers) == 1
            await driver.press("tab", "n", "i", "enter")  # nor does a new conversation end that
            await driver.sees("nothing was asked yet", "a read-only screen rests")
            assert len(driver.cluster.answers) == 1

    asyncio.run(talk())


def test_where_nobody_can_be_asked_it_is_said() -> None:
    async def look() -> None:
        cluster = FakeCluster(1, jobs=0)
        async with screen(cluster, (80, 24)) as driver:
            await driver.press("0")
            await driver.sees("nothing is served: `p2pnode serve job:JOB`")
            await driver.press("i")
            assert not driver.app.query_one(AskingInput).display
            cluster.down = True
            await driver.again()
            await driver.sees("not connected: nobody can be asked now")
            await driver.press("i", "enter", "o", "escape")
            assert not cluster.answers
        cluster = FakeCluster(3)
        async with screen(cluster, (80, 24)) as driver:
            await driver.press("0", "i", "x")
            cluster.down = True  # noticed by the question, before the next poll
            await driver.press("enter")
            await driver.sees("no peer answers at")
            assert driver.app.scene.chat.open is None
        async with screen(FakeCluster(3), (40, 10)) as driver:
            await driver.press("i", "o")
            assert len(driver.app.screen_stack) == 1

    asyncio.run(look())


# -- pure ---------------------------------------------------------------------------------------


def test_only_the_newest_turns_are_kept() -> None:
    made, model = Chat(), parse_models({"models": tui_fake_told.models([])})[0]
    for n in range(chat.TURNS_MAX + 5):
        made = chat.begun(made, model, f"p{n % 3}", float(n))
        made = chat.ended(made, n + 1, n + 0.5)
    assert len(made.turns) == chat.TURNS_MAX
    assert made.turns[-1].number == chat.TURNS_MAX + 5
    assert made.prompts == tuple(f"p{n % 3}" for n in range(chat.TURNS_MAX + 2, chat.TURNS_MAX + 5))
    assert chat.rests_s(made, now_s=made.turns[-1].asked_s + 0.75) == 0.25
    assert chat.rests_s(Chat(), 0.0) == 0.0
    assert chat.changed(made, 999, text="x") == made


@pytest.mark.parametrize("width", [1, 2, 7, 40])
def test_folded_text_keeps_its_spaces_and_fits(width: int) -> None:
    for text in ("", "  indented(\n\tand\n\nmore   spaces", "日本語のノード" * 3, "a" * 90, "é́x"):
        lines = fold(text, width)
        assert all(width_of(line) <= max(2, width) for line in lines)
        assert "".join(lines) == text.replace("\t", "    ").replace("\n", "")


def test_a_line_of_a_book_is_folded_while_the_screen_goes_on() -> None:
    began_s = time.process_time()
    assert len(fold("日本語のノード " * 10_000, 100)) > 1_000
    assert time.process_time() - began_s < 2.0  # 0.03 s; half of it took 2.6 s once


def test_lines_after_a_command_are_read_as_the_command_reads_them() -> None:
    made = serving("job:digits@3 --replicas 1:2 --name tales", "10.0.0.1:7700")
    bounds = {"replicas_min": 1, "replicas_max": 2}
    assert made.args == {"model": "job:digits@3", "name": "tales", **bounds}
    assert made.cli == "p2pnode serve job:digits@3 --replicas 1:2 --name tales"
    line, options = prompt_options("--stop 'a b' --top-k 3")
    assert (line, options) == ("--stop 'a b' --top-k 3", {"stop": ["a b"], "top_k": 3})
    assert chat.told_options(Chat(options=options), read_only=False).endswith(
        "any seed, top-k 3, stops at 'a b'"
    )
    for wrong in ("", "weights.safetensors", "job:x --task y", "job:x --replicas many", "'"):
        with pytest.raises(Usage):
            serving(wrong, "10.0.0.1:7700")
    with pytest.raises(Usage):
        prompt_options("--what")
