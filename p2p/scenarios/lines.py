"""The news as lines of text: for logs, and wherever there is no terminal. Pure but for `say`."""

from collections.abc import Callable

from p2p.scenarios.news import Begins, Caption, Checked, Ends, Fact, News, Progress


class Lines:
    """A line for each thing that is new; of a job's progress one in a tenth of its steps."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._tenth: dict[str, int] = {}

    def tell(self, news: News) -> None:
        text = self._line(news)
        if text:
            self._say(text)

    def _line(self, news: News) -> str:
        match news:
            case Begins():
                self._tenth.clear()
                return f"\n== {news.number}/{news.count} {news.name}: {news.why}"
            case Caption():
                return f"-- {news.number}/{news.count} {news.says}"
            case Fact():
                return f"   {news.text}"
            case Progress():
                return self._progress(news)
            case Checked():
                return f"   {'ok ' if news.ok else 'NOT'} {news.text}"
            case Ends():
                return f"== {news.name} {'held' if news.ok else 'FAILED'}: {news.text}"
            case _:
                return ""

    def _progress(self, news: Progress) -> str:
        tenth = 10 * news.step // news.steps_total if news.steps_total else 0
        if tenth == self._tenth.get(news.job, 0):
            return ""
        self._tenth[news.job] = tenth
        return f"   {in_words(news)}"


def in_words(news: Progress) -> str:
    """Where a job stands."""
    s = "s"[: news.members != 1]
    loss = "" if news.loss is None else f"  loss {news.loss:.4f}"
    accuracy = "" if news.accuracy is None else f"  accuracy {news.accuracy:.4f}"
    return (
        f"{news.job}: step {news.step}/{news.steps_total or '?'}  {news.state}"
        f"  {news.members} peer{s}{loss}{accuracy}"
    )
