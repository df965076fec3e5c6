"""The news as progress bars on a terminal: scenarios, the steps of one, and its job."""

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from p2p.scenarios import news as told
from p2p.scenarios.lines import Lines, in_words


class Bars:
    """A context manager, on stderr: stdout is data. What happens scrolls by above the bars."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=True),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
        )
        self._lines = Lines(lambda text: self._bars.console.print(escape(text)))
        self._all = self._bars.add_task("scenarios", total=None)
        self._steps = self._bars.add_task("steps", total=None)
        self._job = self._bars.add_task("job", total=None, visible=False)

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def tell(self, news: told.News) -> None:
        bars = self._bars
        match news:
            case told.Begins():
                named = f"[bold]{escape(news.name)}[/]"
                bars.update(self._all, description=named, total=news.count)
                bars.reset(self._steps, total=news.steps, description="steps")
                bars.update(self._job, visible=False)
            case told.Caption():
                bars.update(self._steps, completed=news.number - 1, total=news.count)
            case told.Progress():
                total, text = news.steps_total or None, escape(in_words(news))
                bars.update(
                    self._job, completed=news.step, total=total, description=text, visible=True
                )
                return  # the bar says it
            case told.Ends():
                bars.update(self._steps, completed=bars.tasks[self._steps].total)
                bars.advance(self._all)
            case _:
                pass
        self._lines.tell(news)
