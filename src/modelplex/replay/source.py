"""A recording that is loaded with its first use, on a thread, and the answers that it has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from modelplex.config.settings import ProviderConfig
from modelplex.core.errors import RecordingUnreadable
from modelplex.replay.answers import RecordedAnswers, listed_rules
from modelplex.replay.matching import Matcher
from modelplex.replay.recording import RecordingError, RunRecording, open_recording


class RecordingSource:
    """Of a provider of the type "replay". `store` gives the place of the record store, and `select`
    takes the answers from the recording; both may raise RecordingError, and run on a thread.
    """

    def __init__(
        self,
        config: ProviderConfig,
        *,
        store: Callable[[], str],
        select: Callable[[RunRecording, Matcher], RecordedAnswers] = RecordedAnswers,
    ) -> None:
        self.config = config
        self._store = store
        self._select = select
        self._loading: asyncio.Future[RecordedAnswers] | None = None

    def __repr__(self) -> str:
        return f"<RecordingSource {self.config.name}>"

    async def answers(self) -> RecordedAnswers:
        """Raises RecordingUnreadable; the next request then tries again."""
        if self._loading is None:
            self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        loading = self._loading
        try:
            return await asyncio.shield(loading)
        except RecordingError as error:
            self._loading = None
            raise RecordingUnreadable(f"{self.config.name}: {error.sentence}") from None

    def _load(self) -> RecordedAnswers:
        config = self.config
        recording = open_recording(
            run=config.run, file=config.file, store="" if config.file is not None else self._store()
        )
        rules = listed_rules(config.volatile_members, config.volatile_texts)
        folders = (recording.run.folder, config.folder) if config.folder is not None else ()
        return self._select(recording, Matcher(rules, folders=folders))
