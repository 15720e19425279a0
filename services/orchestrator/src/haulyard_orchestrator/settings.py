"""Settings of the orchestrator."""

from typing import Self

from pydantic import Field, model_validator

from haulyard_chassis.settings import CommaList, ServiceSettings
from haulyard_zipline import Limits

_MIB = 1024 * 1024


class OrchestratorSettings(ServiceSettings):
    """What an orchestrator is told by its environment."""

    part_packed_bytes: int = Field(16 * _MIB, ge=10 * _MIB, le=24 * _MIB, description="Size of a part of small files.")
    part_body_bytes: int = Field(
        64 * _MIB, ge=5 * _MIB, le=5 * 1024 * _MIB, description="Size of a part that is one slice of a large file."
    )
    part_copied_bytes: int = Field(
        512 * _MIB, ge=5 * _MIB, le=5 * 1024 * _MIB, description="Most bytes of a part that the store copies by itself."
    )
    part_spread: int = Field(
        16, ge=1, le=1000, description="Parts into which what is copied is cut at least, so that it keeps a fleet busy."
    )
    single_put_bytes: int = Field(
        16 * _MIB, ge=0, le=24 * _MIB, description="Archives up to this size are one PUT instead of a multipart upload."
    )
    job_attempts: int = Field(3, ge=1, le=20, description="Tries of one part before its job or file is given up.")
    retry_seconds: float = Field(
        2.0, gt=0, description="Pause before the second try; it doubles with each further one."
    )
    archive_days: int = Field(7, ge=1, le=365, description="Days after which an archive is deleted.")
    record_days: int = Field(
        30, ge=0, le=3650, description="Days after its archive is deleted that the record of a job is kept."
    )
    job_timeout_seconds: float = Field(86_400.0, gt=0, description="Seconds that a job may take before it is failed.")
    reuse_archives: bool = Field(
        default=True, description="Whether jobs for the same versions of the same files share one archive."
    )
    tasks_per_user: int = Field(
        64, ge=1, le=10_000, description="Tasks of one user that archivers get at a time, shared by that user's jobs."
    )
    tasks_per_job: int = Field(8, ge=1, le=10_000, description="Tasks that a job may have under way in any case.")
    deflate_block_bytes: int = Field(
        128 * _MIB, ge=_MIB, le=1024 * _MIB, description="Bytes of source that one archiver deflates at a time."
    )
    stale_seconds: float = Field(
        60.0, gt=0, description="Seconds without movement after which the reconciler looks at a job again."
    )
    orphan_upload_seconds: float = Field(
        3600.0, gt=0, description="Age at which what belongs to no job is dropped from the store."
    )
    result_slots: int = Field(64, ge=1, le=1000, description="Results that are taken in at the same time.")
    planning_slots: int = Field(16, ge=1, le=1000, description="Jobs that are planned at the same time.")
    source_lookups: int = Field(16, ge=1, le=100, description="Sources of one job that are looked up at the same time.")
    store_cors_origins: CommaList = Field(
        ("*",), description="Web origins, comma separated, whose pages may download archives by presigned links."
    )

    @property
    def limits(self) -> Limits:
        """The sizes for the archive engine."""
        return Limits(
            packed_part=self.part_packed_bytes,
            body_part=self.part_body_bytes,
            copied_part=max(self.part_copied_bytes, self.part_body_bytes),
            spread=self.part_spread,
            single_put=self.single_put_bytes,
        )

    @model_validator(mode="after")
    def _limits_are_valid(self) -> Self:
        _ = self.limits
        return self
