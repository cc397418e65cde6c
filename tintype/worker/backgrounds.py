"""The mask of a picture's background, from the model that removes backgrounds: what a new one is drawn under."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

import numpy as np

from tintype.catalog.operations import Model
from tintype.generations.leftovers import Work
from tintype.providers.contract import Checkpoint, GenerationRequest, Output, Provider, ProviderError
from tintype.safety.contract import Pixels
from tintype.worker import canvases, requests
from tintype.worker.elsewhere import Elsewhere
from tintype.worker.held import Held, Item, next_unless_stopped


async def masked(
    request: GenerationRequest, held: Held, source: Pixels, remover: Model, provider: Provider, elsewhere: Elsewhere
) -> GenerationRequest:
    """The request with the background of `source` as its mask, as large as is drawn; 255 is background.

    A stop ends it within one step. What goes on elsewhere then is ended: after a restart it would be asked for anew.

    Raises:
        StoppedError: the work is to stop.
        ProviderError: the model that removes backgrounds cannot be used, or gave no background.
    """
    strays: set[Work] = set()
    stream = provider.generate(_removal(request, source, remover))
    try:
        async with aclosing(cast("AsyncGenerator[Item]", stream)) as items:
            while (item := await next_unless_stopped(items, held)) is not None:
                if isinstance(item, Checkpoint):
                    name = remover.manifest.provider
                    strays.add(Work(provider=name, token=item.token, generation_id=held.claim.id))
                if isinstance(item, Output) and item.alpha is not None:
                    mask = (255 - item.alpha).astype(np.uint8)
                    strays.clear()
                    return replace(request, mask=canvases.cover(mask, request.width, request.height))
    finally:
        elsewhere.strays.update(strays)
    raise ProviderError(f"{remover.id!r} gave no background", code="background_missing", retryable=False)


def _removal(request: GenerationRequest, source: Pixels, remover: Model) -> GenerationRequest:
    height, width = source.shape[:2]
    return GenerationRequest(
        id=f"{request.id}-background",
        task="remove_background",
        model=requests.files_of(remover),
        prompt="",
        negative_prompt="",
        width=width,
        height=height,
        seeds=(0,),
        steps=1,
        guidance_scale=0.0,
        sampler="",
        source=source,
        on_behalf_of=request.on_behalf_of,
    )
