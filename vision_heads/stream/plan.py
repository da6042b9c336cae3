"""Which outputs a run has: checked and opened before the first frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_heads.errors import UserError, require
from vision_heads.media.urls import host_of
from vision_heads.media.video import VideoSpec
from vision_heads.stream.lane import Report
from vision_heads.stream.lines import (
    CsvLines,
    EventLines,
    JsonLines,
    MotLines,
    inserted,
    not_media,
)
from vision_heads.stream.outputs import Output
from vision_heads.stream.snapshots import Snapshots
from vision_heads.stream.spool import Spool
from vision_heads.stream.video import VideoFiles
from vision_heads.stream.webhooks import Webhook, spool_name


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """Outputs by kind; None and () for those that are not wanted.

    Attributes:
        video, jsonl, csv, mot, events: files; see the classes that write them.
        snapshots: folder of events' pictures.
        webhooks: URLs that get events.
        spool: folder of events that wait for their receivers, each in a folder of its own.
        append: text files go on behind what is there.
        stats: file of the counts, which `run.py` writes.
        inputs: files that the run reads besides its sources; nothing may replace them.
    """

    video: Path | None = None
    jsonl: Path | None = None
    csv: Path | None = None
    mot: Path | None = None
    events: Path | None = None
    snapshots: Path | None = None
    webhooks: Sequence[str] = ()
    spool: Path = Path("runs/spool")
    append: bool = False
    stats: Path | None = None
    inputs: Sequence[Path] = ()

    def files(self) -> dict[str, Path]:
        """Return the files by the option that names them."""
        named = {
            "--video": self.video,
            "--jsonl": self.jsonl,
            "--csv": self.csv,
            "--mot": self.mot,
            "--events": self.events,
            "--stats": self.stats,
        }
        return {option: path for option, path in named.items() if path is not None}

    def check(self, sources: Sequence[VideoSpec], heads: Sequence[str] = ()) -> None:
        """Raise `UserError` if a file would be written twice, or over one that is read."""
        taken = {path.resolve(): "a file that this run reads" for path in self.inputs}
        taken |= {
            Path(spec.where).resolve(): f"the source {spec.name}"
            for spec in sources
            if spec.kind in ("file", "sequence")
        }
        for option, named in self.files().items():
            require(named != Path("-"), f"{option} -: is no file's name; /dev/stdout is one")
            for path in self._written(option, named, sources, heads):
                place = path.resolve()
                same = path.exists() and not path.is_file()  # /dev/null may be named twice
                require(same or place not in taken, f"{option} {path}: is {taken.get(place)} too")
                taken[place] = option
        if self.stats is not None:
            not_media(self.stats)

    def _written(
        self, option: str, path: Path, sources: Sequence[VideoSpec], heads: Sequence[str]
    ) -> list[Path]:
        """Return the files that an option's one stands for."""
        by_source = [[spec.name] for spec in sources] if len(sources) > 1 else [[]]
        by_head = [[head] for head in heads] if len(heads) > 1 else [[]]
        if option == "--video":
            return [inserted(path, *source) for source in by_source]
        if option == "--mot":
            return [inserted(path, *source, *head) for source in by_source for head in by_head]
        return [path]

    def open(
        self, sources: Sequence[VideoSpec], heads: Sequence[str], report: Report
    ) -> list[Output]:
        """Open everything; what was opened is closed again when something cannot be.

        Args:
            sources: of the run.
            heads: names of the heads that are run.
            report: takes lines for the user.

        Raises:
            UserError: a file or folder cannot be written.
        """
        self.check(sources, heads)
        opened: list[Output] = []
        try:
            for output in self._each(sources, heads, report):
                opened.append(output)
        except UserError:
            for output in opened:
                output.close()
            raise
        return opened

    def _each(
        self, sources: Sequence[VideoSpec], heads: Sequence[str], report: Report
    ) -> Iterator[Output]:
        names = [spec.name for spec in sources]
        if self.jsonl:
            yield JsonLines(self.jsonl, append=self.append)
        if self.csv:
            yield CsvLines(self.csv, append=self.append)
        if self.mot:
            yield MotLines(self.mot, names, heads, append=self.append)
        if self.events:
            yield EventLines(self.events, append=self.append)
        if self.snapshots:
            yield Snapshots(self.snapshots)
        spools = [self.spool / spool_name(url) for url in self.webhooks]
        for url, folder in zip(self.webhooks, spools, strict=True):
            again = f"--webhook {host_of(url)}: is given twice"
            require(spools.count(folder) == 1, again)
            yield Webhook(url, folder, snapshots=self.snapshots is not None, report=report)
        if self.webhooks:
            self._tell_left_over(spools, report)
        if self.video is not None:
            for spec in sources:  # each its own output: when one breaks, the others go on
                several = [spec.name] * (len(sources) > 1)
                path = inserted(self.video, *several)
                yield VideoFiles(path, [spec.name], spec.live, report)

    def _tell_left_over(self, own: Sequence[Path], report: Report) -> None:
        """Name events that wait for receivers which this run does not have."""
        places = ("events-*.jsonl", "*/events-*.jsonl")  # the first of an earlier version
        found = {path.parent for place in places for path in self.spool.glob(place)}
        for folder in sorted(found - set(own)):
            try:
                left = Spool(folder)
            except UserError:  # another program's, which sends them
                continue
            if len(left):
                waiting = f"{folder}: {len(left)} events of a run with other webhooks wait"
                report(f"{waiting}; this run does not send them")
            left.close()
