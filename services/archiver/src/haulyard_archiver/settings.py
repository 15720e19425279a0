"""Settings of the archiver."""

from pydantic import Field

from haulyard_chassis.settings import ServiceSettings


class ArchiverSettings(ServiceSettings):
    """What an archiver is told by its environment."""

    archiver_slots: int = Field(4, ge=1, le=256, description="Parts that one process makes at the same time.")
    archiver_readers: int = Field(
        8, ge=1, le=64, description="Small files that one slot reads at the same time when it packs a part."
    )
    archiver_memory_bytes: int = Field(
        48 * 1024 * 1024,
        ge=32 * 1024 * 1024,
        description="Memory for parts that are put together, of all slots; copies and streams need next to none.",
    )
    archiver_lane_patience: int = Field(
        20,
        ge=1,
        le=10_000,
        description="Tasks of higher priority after which a lower priority that waits gets one in between.",
    )
