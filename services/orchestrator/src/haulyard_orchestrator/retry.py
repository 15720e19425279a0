"""What to do about a part that failed: one pure policy."""

from dataclasses import dataclass

from haulyard_contracts import RETRYABLE, ErrorCode, Failure


@dataclass(frozen=True, slots=True)
class RetryPart:
    """Send the task again after ``delay`` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class DropFile:
    """Fail the file and plan the archive anew without it."""


@dataclass(frozen=True, slots=True)
class ForgetChecksum:
    """The catalogue's CRC-32 of the file is wrong: forget it and plan anew."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """What the catalogue believes of the file is out of date: look at its source and plan anew."""


@dataclass(frozen=True, slots=True)
class PlanAnew:
    """The upload is gone: start another one."""


@dataclass(frozen=True, slots=True)
class FailJob:
    """Nothing more can be done."""


Decision = RetryPart | DropFile | ForgetChecksum | LookAgain | PlanAnew | FailJob


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how long in between.

    Args:
        attempts: tries of one part in all.
        first_delay: seconds before the second try; doubles with each further one.
        generations: plans of one job in all; bounds how often a job can start over, whatever goes wrong.
    """

    attempts: int = 3
    first_delay: float = 2.0
    generations: int = 200

    def delay(self, attempt: int, jitter: float) -> float:
        """Return the seconds to wait after the n-th try: 2, 4, 8, … with up to a quarter more or less.

        Args:
            attempt: the try that failed, from 1.
            jitter: a random number from 0 to 1, so that what failed together does not come back together.
        """
        return self.first_delay * 2.0 ** (attempt - 1) * (0.75 + 0.5 * jitter)

    def decide(
        self,
        failure: Failure,
        *,
        attempt: int,
        generation: int,
        names_file: bool,
        jitter: float,
        is_believed: bool = False,
    ) -> Decision:
        """Return what to do.

        Args:
            failure: what the archiver reports.
            attempt: the try that failed, from 1.
            generation: the job's current plan, from 1.
            names_file: whether the source of one file was the reason.
            jitter: a random number from 0 to 1.
            is_believed: whether that file's version was taken from the catalogue, without looking at its source.
        """
        if failure.code in RETRYABLE and attempt < self.attempts:
            return RetryPart(self.delay(attempt, jitter))
        if generation >= self.generations:
            return FailJob()
        if failure.code is ErrorCode.CHECKSUM_MISMATCH and names_file:
            return ForgetChecksum()
        if failure.code is ErrorCode.SOURCE_CHANGED and names_file and is_believed:
            return LookAgain()
        if failure.code is ErrorCode.UPLOAD_GONE:
            return PlanAnew()
        if names_file:
            return DropFile()
        return FailJob()
