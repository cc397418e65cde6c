"""The mask of a picture's background, from the model that removes backgrounds: what a new one is drawn under."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

import numpy as np

from tintype.catalog.operations import Catalogue
from tintype.generations.claims import Claim
from tintype.providers.contract import GenerationRequest, Output, ProviderError
from tintype.providers.registry import Providers
from tintype.safety.contract import Pixels
from tintype.worker import canvases, requests


async def masked(
    request: GenerationRequest, claim: Claim, source: Pixels, catalogue: Catalogue, providers: Providers
) -> GenerationRequest:
    """The request with the background of `source` as its mask, as large as is drawn; 255 is background.

    Closing local work is left to the iterator; what a remover would do elsewhere is asked for again after a restart.

    Raises:
        ProviderError: the model that removes backgrounds cannot be used, or gave no background.
    """
    remover = catalogue.get(claim.parameters["remover"])
    provider = providers.get(remover.manifest.provider)
    height, width = source.shape[:2]
    removal = GenerationRequest(
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
    async with aclosing(cast("AsyncGenerator[object]", provider.generate(removal))) as items:
        async for item in items:
            if isinstance(item, Output) and item.alpha is not None:
                mask = (255 - item.alpha).astype(np.uint8)
                return replace(request, mask=canvases.cover(mask, request.width, request.height))
    raise ProviderError(f"{remover.id!r} gave no background", code="background_missing", retryable=False)
