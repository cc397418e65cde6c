"""Finds the providers installed beside Tintype. A broken one is reported and stops nobody else."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from tintype import logs
from tintype.providers.contract import Provider, ProviderError

GROUP = "tintype.providers"

log = logs.get("providers")


@dataclass(frozen=True, kw_only=True)
class Providers:
    """The providers that loaded, by name, and why each of the others did not."""

    ready: Mapping[str, Provider]
    broken: Mapping[str, str]

    def get(self, name: str) -> Provider:
        """The provider `name`.

        Raises:
            ProviderError: it is not installed, or broken; says why.
        """
        if name not in self.ready:
            reason = self.broken.get(name, "it is not installed")
            raise ProviderError(f"provider {name!r} cannot be used: {reason}", code="provider_missing", retryable=False)
        return self.ready[name]


def names() -> dict[str, EntryPoint]:
    """Every declared provider, without importing any."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load(only: frozenset[str] | None = None) -> Providers:
    """Import and make the declared providers (`only` those named)."""
    ready: dict[str, Provider] = {}
    broken: dict[str, str] = {}
    for name, point in names().items():
        if only is not None and name not in only:
            continue
        try:
            ready[name] = point.load()()
        except Exception as error:  # noqa: BLE001  a plug-in may raise anything; it must not stop the others
            broken[name] = f"{type(error).__name__}: {error}"
            log.error("provider is broken", provider=name, error=broken[name], trace=traceback.format_exc())
    return Providers(ready=ready, broken=broken)
