"""The `embed` call: content in, unit vectors out, while the caller waits."""

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from bus.messages import Input, ObjectInput, TextInput
from bus.port import Bus
from server.auth.principal import Principal, Scope
from server.embed_inputs import check_files, check_shape, encode_texts
from server.errors import InvalidInput
from server.interactive import InteractiveLane
from server.records import EmbeddingResult, EmbedRequest, PipelineRecord, UsageRecord
from server.selection import Choice, Selector
from server.single_flight import Rows, SingleFlight
from server.uploads import Uploads
from server.usage import UsageMeter
from server.vector_cache import VectorCache


class EmbedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may ask for, and what the replica keeps."""

    timeout_s: float = 30.0
    max_inputs: int = 2048
    max_text_bytes: int = 100_000
    cache_bytes: int = 64 * 1024 * 1024


class _Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request: what the workers get, and the digest of each input's content."""

    choice: Choice
    inputs: Sequence[Input]
    digests: Sequence[bytes]
    num_bytes: int


class Embeddings:
    """Embeds texts and files of one user at a time; shares vectors between all."""

    def __init__(
        self,
        bus: Bus,
        uploads: Uploads,
        selector: Selector,
        usage: UsageMeter,
        *,
        replica_id: str,
        limits: EmbedLimits,
    ) -> None:
        self._uploads = uploads
        self._selector = selector
        self._usage = usage
        self._limits = limits
        self._lane = InteractiveLane(bus, replica_id=replica_id)
        self._vectors = SingleFlight(self._lane, VectorCache(limits.cache_bytes))

    @property
    def num_known(self) -> int:
        """Inputs whose vector was remembered."""
        return self._vectors.num_known

    @property
    def num_unknown(self) -> int:
        """Inputs whose vector was not."""
        return self._vectors.num_unknown

    @property
    def num_pending(self) -> int:
        """Commands that no worker has answered yet."""
        return self._lane.num_pending

    async def start(self) -> None:
        """Open the replica's inbox."""
        await self._lane.start()

    async def close(self) -> None:
        """Close the inbox; calls that still wait are refused."""
        await self._lane.close()

    async def embed(self, principal: Principal, request: EmbedRequest) -> EmbeddingResult:
        """Embed texts or files with the named pipeline, or with the one their content calls for.

        Items that can't be embedded are named in the result; the others are not touched by them.

        Raises:
            Forbidden: the credential may not embed.
            InvalidInput, PayloadTooLarge, UnsupportedMedia: the path names the field.
            NotFound: a pipeline or file that is not there, or somebody else's file.
            PipelineUnavailable: no worker hosts the pipeline now.
            Busy: the workers have too much to do.
            TimedOut: they were too slow.
        """
        principal.require(Scope.EMBED)
        deadline = asyncio.get_running_loop().time() + self._limits.timeout_s
        check_shape(request, max_inputs=self._limits.max_inputs)
        prepared = await self._prepare(principal, request)
        pipeline = prepared.choice.pipeline
        dimension = request.dimensions or pipeline.dimension
        if dimension > pipeline.dimension:
            raise InvalidInput(
                f"The pipeline {pipeline.name} has {pipeline.dimension} dimensions.", path=("dimensions",)
            )
        keys = _keys(pipeline, prepared.digests)
        rows = await self._vectors.rows(pipeline, keys, prepared.inputs, deadline=deadline)
        usage = _usage_of(rows, prepared.num_bytes)
        self._usage.record(principal.user_id, usage)
        return EmbeddingResult(
            pipeline=pipeline,
            selection=prepared.choice.selection,
            dimension=dimension,
            vectors=_cut(rows.vectors, dimension),
            cached=rows.cached,
            truncated=rows.truncated,
            failures=rows.failures,
            usage=usage,
        )

    async def _prepare(self, principal: Principal, request: EmbedRequest) -> _Prepared:
        max_text_bytes = self._limits.max_text_bytes
        if request.texts is not None:
            encoded = encode_texts(request.texts, max_text_bytes=max_text_bytes)
            return _Prepared(
                choice=await self._selector.resolve_texts(principal.user_id, request.pipeline),
                inputs=[TextInput(text=text) for text in request.texts],
                digests=[sha256(raw).digest() for raw in encoded],
                num_bytes=sum(map(len, encoded)),
            )
        files = await self._uploads.get_many(principal.user_id, request.file_ids or [])
        choice = await self._selector.resolve_files(principal.user_id, request.pipeline, files)
        check_files(files, max_text_bytes=max_text_bytes)
        return _Prepared(
            choice=choice,
            inputs=[
                ObjectInput(key=file.object_key, media_type=file.media_type, byte_size=file.byte_size)
                for file in files
            ],
            digests=[bytes.fromhex(file.sha256) for file in files],
            num_bytes=sum(file.byte_size for file in files),
        )


def _keys(pipeline: PipelineRecord, digests: Sequence[bytes]) -> list[bytes]:
    """Make cache keys: pipeline, version, content. A text file and the text in it have the same.

    A deployed model counts by its own id: two users may call theirs alike, and one of them two in turn.
    """
    named = f"{pipeline.name}\0{pipeline.version}"
    if pipeline.model is not None:
        # No name of a pipeline holds NUL, so that none can be taken for a model.
        named = f"\0{pipeline.model.model_id}\0{pipeline.model.manifest_sha256}"
    prefix = sha256(named.encode()).digest()
    return [prefix + digest for digest in digests]


def _usage_of(rows: Rows, num_bytes: int) -> UsageRecord:
    return UsageRecord(
        requests=1,
        items=len(rows.cached),
        tokens=sum(rows.tokens),
        bytes=num_bytes,
        compute_s=rows.compute_s,
    )


_TINY: Final = np.float32(1e-12)


def _cut(vectors: npt.NDArray[np.float32], dimension: int) -> npt.NDArray[np.float32]:
    """Keep the first dimensions and make every row of unit length again; zero rows stay zero."""
    if dimension == vectors.shape[1]:
        return vectors
    kept = vectors[:, :dimension].copy()
    kept /= np.maximum(np.sqrt(np.einsum("nd,nd->n", kept, kept)), _TINY)[:, None]
    return kept
