"""Bytes in: size, digest, what they are, and whose they are."""

import unicodedata
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final
from uuid import UUID

from bus.errors import ObjectTooLarge
from bus.objects import ObjectStore, StoredObject
from server.auth.principal import Principal, Scope
from server.content import HEAD_BYTES, ContentDetector, ContentType, TextProbe
from server.database import Database
from server.errors import Busy, InvalidInput, NotFound, PayloadTooLarge
from server.ids import new_id
from server.object_access import reaching_objects
from server.paging import PageQuery, page
from server.records import FileRecord, Modality, Page, PageRequest

#: Characters of a file's name that are kept; what a usual file system takes.
_MAX_NAME: Final = 255


class Uploads:
    """Files of users. The bytes lie in the object store under their digest, once for all who sent them."""

    def __init__(
        self, db: Database, objects: ObjectStore, detector: ContentDetector, *, max_upload_bytes: int
    ) -> None:
        self._db = db
        self._objects = objects
        self._detector = detector
        self._max_upload_bytes = max_upload_bytes

    @property
    def max_upload_bytes(self) -> int:
        """The size ceiling of one file."""
        return self._max_upload_bytes

    async def store(self, principal: Principal, *, name: str, chunks: AsyncIterator[bytes]) -> FileRecord:
        """Store a file as it comes in, and say what it is.

        Args:
            principal: whose it will be.
            name: what its owner calls it; folders and control characters are taken out.
            chunks: the content, of any length each.

        Raises:
            Forbidden: the credential may not store files.
            InvalidInput: there is not one byte.
            PayloadTooLarge: there are too many; what was read of them is thrown away.
            Busy: too many files are being looked at.
        """
        principal.require(Scope.EMBED, Scope.TRAIN)
        intake = _Intake(chunks)
        await intake.read_head()
        if not intake.head:
            raise InvalidInput("The file is empty.", path=("file",))
        kept_name = _clean(name)
        try:
            with reaching_objects():
                stored = await self._objects.put_stream(intake.all(), max_bytes=self._max_upload_bytes)
        except ObjectTooLarge as error:
            raise PayloadTooLarge(
                f"A file may have {self._max_upload_bytes} bytes at most.", path=("file",)
            ) from error
        content = await self._detector.identify(
            bytes(intake.head),
            name=kept_name,
            whole=stored.byte_size <= len(intake.head),
            is_text=intake.probe.is_text(whole=True),
        )
        return await self._insert(principal.user_id, kept_name, stored, content)

    async def get(self, user_id: UUID, file_id: UUID) -> FileRecord:
        """Return a file of the user.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        row = await self._db.fetch_one(
            "SELECT * FROM files WHERE id = {} AND user_id = {} AND deleted_at IS NULL", file_id, user_id
        )
        if row is None:
            raise NotFound("There is no such file.")
        return _record_of(row)

    async def get_many(self, user_id: UUID, ids: Sequence[UUID]) -> list[FileRecord]:
        """Return files of the user in the order of their ids, which may repeat.

        Raises:
            NotFound: one is not there, or somebody else's; the path names the first such.
        """
        found = {record.id: record for record in await self.find_many(user_id, set(ids))}
        for index, file_id in enumerate(ids):
            if file_id not in found:
                raise NotFound("There is no such file.", path=("file_ids", str(index)))
        return [found[file_id] for file_id in ids]

    async def find_many(self, user_id: UUID, ids: Collection[UUID]) -> list[FileRecord]:
        """Return those of the files that there are and that are the user's, in any order."""
        rows = await self._db.fetch(
            "SELECT * FROM files WHERE id = ANY({}::uuid[]) AND user_id = {} AND deleted_at IS NULL",
            list(ids),
            user_id,
        )
        return [_record_of(row) for row in rows]

    async def page(self, user_id: UUID, request: PageRequest) -> Page[FileRecord]:
        """List the user's files, the newest first.

        Raises:
            InvalidInput: see ``server.paging.keyset``.
        """
        query = PageQuery(table="files", where="user_id = {} AND deleted_at IS NULL", args=(user_id,))
        return await page(self._db, query, request, _record_of)

    async def delete(self, principal: Principal, file_id: UUID) -> FileRecord:
        """Delete a file of the user; its bytes go with the last file that has them.

        Raises:
            Forbidden: the credential may not delete files.
            NotFound: there is none, or it is somebody else's.
        """
        principal.require(Scope.EMBED, Scope.TRAIN)
        record = await self.get(principal.user_id, file_id)
        gone = await self._db.fetch(
            "UPDATE files SET deleted_at = now() WHERE id = {} AND deleted_at IS NULL RETURNING id", file_id
        )
        if not gone:
            raise NotFound("There is no such file.")
        # After the row's own commit: bytes without a row cost some room, a row without bytes is a loss.
        await self.drop_if_unused(record.object_key)
        return record

    async def stream(self, record: FileRecord) -> AsyncIterator[bytes]:
        """Read the bytes of a file."""
        with reaching_objects():
            async for chunk in self._objects.stream(record.object_key):
                yield chunk

    async def _insert(
        self, user_id: UUID, name: str, stored: StoredObject, content: ContentType
    ) -> FileRecord:
        async with self._db.transaction():
            await self._lock(stored.key)
            # Between our write and this lock, a delete of the only other file with these bytes may have
            # taken them away.
            with reaching_objects():
                is_there = await self._objects.exists(stored.key)
            if not is_there:
                raise Busy("The same file was being deleted. Send it again.", retry_after_s=1.0)
            [row] = await self._db.fetch(
                """
                INSERT INTO files (id, user_id, name, media_type, modality, confidence, reason,
                                   byte_size, sha256, object_key)
                VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {}, {}) RETURNING *
                """,
                new_id(),
                user_id,
                name,
                content.media_type,
                content.modality,
                content.confidence,
                content.reason,
                stored.byte_size,
                stored.sha256,
                stored.key,
            )
        return _record_of(row)

    async def hold(self, file: FileRecord) -> None:
        """Make sure that the bytes of a file stay until the transaction ends, which says who needs them.

        Raises:
            NotFound: the file has been deleted meanwhile.
        """
        await self._lock(file.object_key)
        row = await self._db.fetch_one(
            "SELECT 1 AS found FROM files WHERE id = {} AND deleted_at IS NULL", file.id
        )
        if row is None:
            raise NotFound("There is no such file.")

    async def drop_if_unused(self, object_key: str) -> None:
        """Delete the bytes that no file has and that no data set is being made of."""
        async with self._db.transaction():
            await self._lock(object_key)
            still_used = await self._db.fetch_one(
                "SELECT 1 AS used FROM files WHERE object_key = {} AND deleted_at IS NULL"
                " UNION ALL SELECT 1 FROM datasets WHERE object_key = {} LIMIT 1",
                object_key,
                object_key,
            )
            if still_used is None:
                await self._objects.delete(object_key)

    async def _lock(self, object_key: str) -> None:
        """Keep others from counting the files with these bytes until the transaction ends."""
        await self._db.execute("SELECT pg_advisory_xact_lock(hashtextextended({}, 0))", object_key)


class _Intake:
    """Reads chunks once, keeps their head, and probes all of them for text."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.head = bytearray()
        self.probe = TextProbe()
        self._rest = b""

    async def read_head(self) -> None:
        """Read until the head is full or there is no more."""
        async for chunk in self._chunks:
            room = HEAD_BYTES - len(self.head)
            self.head += chunk[:room]
            self._rest = chunk[room:]
            if len(self.head) == HEAD_BYTES:
                break

    async def all(self) -> AsyncIterator[bytes]:
        """Everything, from the start."""
        for chunk in (bytes(self.head), self._rest):
            if chunk:
                self.probe.feed(chunk)
                yield chunk
        async for chunk in self._chunks:
            if chunk:
                self.probe.feed(chunk)
                yield chunk


def _clean(name: str) -> str:
    """Make a name that can be stored and shown: the last part of a path, without control characters.

    Lone surrogates, which come from undecodable bytes, are replaced; Unicode categories Cc and Cf go, since
    a right-to-left override can make `gpj.exe` look like `exe.jpg`.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(
        character for character in last if unicodedata.category(character) not in {"Cc", "Cf", "Zl", "Zp"}
    )
    return printable.encode("utf-8", "replace").decode()[:_MAX_NAME].strip() or "file"


def _record_of(row: dict[str, Any]) -> FileRecord:
    return FileRecord(
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        media_type=row["media_type"],
        modality=None if row["modality"] is None else Modality(row["modality"]),
        confidence=row["confidence"],
        reason=row["reason"],
        byte_size=row["byte_size"],
        sha256=row["sha256"],
        object_key=row["object_key"],
        created_at=row["created_at"],
    )
