"""Pins: which version each request is answered from, and which versions are still in use."""

from dataclasses import dataclass

from services.gateway.domain.recommend import Budget, Recommender
from services.gateway.domain.values import Answer, Ask
from signals.bundle import ItemTexts


@dataclass(slots=True, eq=False)
class Edition:
    """One version as the gateway serves it."""

    recommender: Recommender
    texts: ItemTexts
    requests: int = 0
    """Requests that use it now."""

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.recommender.bundle.version


class Pins:
    """Pins each request to the edition that is current when it comes; for one event loop."""

    def __init__(self) -> None:
        self._current: Edition | None = None

    @property
    def current(self) -> Edition | None:
        """What new requests are pinned to; None before `move`."""
        return self._current

    def move(self, edition: Edition) -> None:
        """Pin every request from now on to `edition`."""
        self._current = edition

    async def recommend(
        self, ask: Ask, budget: Budget, quality: float = 1.0
    ) -> tuple[Answer, ItemTexts]:
        """Return an answer of one version, and that version's texts.

        Where a leaf has moved on, the request is made once more, whole, of the version that is
        current by then: two versions never meet in one answer.
        """
        answer, texts = await self._recommend_once(ask, budget, quality)
        if not answer.version_moved:
            return answer, texts
        return await self._recommend_once(ask, budget, quality)

    async def _recommend_once(
        self, ask: Ask, budget: Budget, quality: float
    ) -> tuple[Answer, ItemTexts]:
        edition = self._current
        if edition is None:
            raise RuntimeError("no request comes before there is something to serve")
        edition.requests += 1
        try:
            return await edition.recommender.recommend(ask, budget, quality), edition.texts
        finally:
            edition.requests -= 1
