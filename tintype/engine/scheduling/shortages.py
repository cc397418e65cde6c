"""What follows when memory did not suffice after all: free, make do with less, retry once, then say so."""

from tintype.engine.scheduling.values import Tick
from tintype.providers.contract import ProviderError

LOADING = (
    "model {model!r} does not fit into the free memory of this device, also with every other model put aside; "
    "end other programs that use the device, or run a worker on a larger one"
)
COMPUTING = (
    "the device ran out of memory at a single picture, also with every other model put aside; ask for a smaller picture"
)
FILLING = (
    "the device ran out of memory at the fixed batch that seed_mode=bucket promises; "
    "ask for a smaller picture, or for another seed_mode"
)
DECODING = (
    "the device ran out of memory at the last stage of a picture, also with every other model put aside; "
    "ask for a smaller picture"
)


class TooLargeError(ProviderError):
    """The picture can never be made on this device, neither with its model whole nor streamed through it."""

    def __init__(self, model: str, device_limit_bytes: int) -> None:
        super().__init__(
            f"model {model!r} and a picture of this size need more than the {device_limit_bytes / 2**30:.1f} GiB of "
            "this device; ask for a smaller picture, or run a worker on a larger device",
            code="out_of_memory",
            retryable=True,
        )


class Shortages:
    """What was learnt from shortages: models that want everything else put aside, and batches that were too large."""

    def __init__(self) -> None:
        self._alone: set[str] = set()
        self._caps: dict[tuple[str, str], int] = {}

    def is_alone(self, model: str) -> bool:
        """Whether everything else leaves the device before the model runs next."""
        return model in self._alone

    def most_lines(self, model: str, shape: str) -> int | None:
        """The largest batch that may still be tried; None where none was too large yet."""
        return self._caps.get((model, shape))

    def note_success(self, model: str) -> None:
        """The model ran: other models may come back beside it. Batches that were too large stay so."""
        self._alone.discard(model)

    def note_loading(self, model: str) -> bool:
        """The model could not be loaded; whether that is to be tried once more, with everything else put aside."""
        is_first = model not in self._alone
        self._alone ^= {model}
        return is_first

    def note_batch(self, tick: Tick, *, least_lines: int, is_fixed: bool) -> bool:
        """The tick found no memory; whether its pictures are to be tried once more.

        The first time everything else is put aside and the batch is halved, the second time every picture is alone; a
        `is_fixed` batch keeps its size, for that is its promise.
        """
        is_first = tick.model not in self._alone
        self._alone.add(tick.model)
        if is_fixed or tick.padded_lines == least_lines:
            return is_first
        halved = max(tick.padded_lines // 2, least_lines)
        self._caps[tick.model, tick.shape] = halved if is_first else least_lines
        return True
