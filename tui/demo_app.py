"""The screen while a demonstration plays: a caption over the views, and any key stops it."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult

from p2p.errors import P2PError
from tui import caption
from tui.app import ClusterApp
from tui.demo import Demo, DemoSource
from tui.views.catalog import BY_NAME
from tui.widgets.body import Bar

LOOK_AROUND_S = 5.0
LINES = {"caption": caption.first, "watch": caption.second, "footer": caption.footer}


class DemoApp(ClusterApp):
    """Plays again and again if it `rotates`, else once, and leaves a moment later.

    `failed` has the sentence with which a demonstration could not go on.
    """

    CSS: ClassVar = "#caption, #watch { height: 1; width: 100%; }"

    def __init__(self, arguments: list[str], rotates: bool, **options: Any) -> None:
        self._source = DemoSource()
        super().__init__(self._source, read_only=True, **options)
        self.demo = Demo(arguments, self._told)
        self.caption = caption.Caption()
        self.failed = ""
        self._rotates = rotates
        self._unread: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    def compose(self) -> ComposeResult:
        for widget in super().compose():
            yield widget
            if widget.id == "tabs":
                yield Bar("caption")
                yield Bar("watch")

    def on_mount(self) -> None:
        super().on_mount()
        self.run_worker(self._play(), group="demo", exit_on_error=False)
        self.run_worker(self._read(), group="caption", exit_on_error=False)

    async def _play(self) -> None:
        try:
            await self.demo.play()
            while self._rotates:
                await self.demo.play()
            await self._unread.join()
            await asyncio.sleep(LOOK_AROUND_S)
        except P2PError as error:
            self.failed = str(error)
        self.exit()

    def _told(self, news: Mapping[str, Any]) -> None:
        """Whom to ask is known at once; what is to be read waits for its turn."""
        if self._source.told(news):
            self.feed.nudge()
        if news.get("news") in caption.READABLE:
            self._unread.put_nowait(news)

    async def _read(self) -> None:
        while True:
            news = await self._unread.get()
            self.caption = caption.told(self.caption, news)
            view = self.caption.view
            if news.get("news") == "caption" and view in BY_NAME:
                self.look(replace(self.scene, view=view, maximised=False))
            self._draw_bars()
            await asyncio.sleep(caption.read_s(news, self._unread.qsize()))
            self._unread.task_done()

    def _draw_bars(self) -> None:
        super()._draw_bars()
        if self._is_drawable():
            screen, width = self.screen_stack[0], self.size.width
            for name, line in LINES.items():
                bar = screen.query_one(f"#{name}", Bar)
                bar.show(line(self.caption, self.scene, width), self.scene)

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key):
            self.exit()
        else:
            await super().on_event(event)

    async def close(self) -> None:
        """The peers are stopped, and their folder is gone."""
        await self.demo.close()
        await self._source.close()
