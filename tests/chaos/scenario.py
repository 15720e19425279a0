"""What a chaos run asks for, from a seed: the same seed gives the same files, jobs and wishes. Pure functions."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

KIB, MIB = 1024, 1024 * 1024
GHOST = 999_000_000_000
"""Ids from here on are of files that nobody has."""


class Kind(StrEnum):
    """What is special about a job."""

    SMALL = "small"
    EQUAL = "equal"
    """Asks for what others ask for, too: they share one archive."""
    LARGE = "large"
    DEFLATE = "deflate"
    MISSING = "missing"
    """Some of its files are not there; the rest is archived."""
    STRICT = "strict"
    """One of its files is not there, and it is to fail then; its user tries again."""
    EMPTY = "empty"
    """None of its files is there."""
    CANCELLED = "cancelled"
    DELETED = "deleted"
    """Deleted once it is over."""


_SHARES = {
    Kind.SMALL: 44,
    Kind.EQUAL: 12,
    Kind.LARGE: 4,
    Kind.DEFLATE: 8,
    Kind.MISSING: 10,
    Kind.STRICT: 5,
    Kind.EMPTY: 3,
    Kind.CANCELLED: 10,
    Kind.DELETED: 4,
}
"""Of a hundred jobs."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the catalogue, told by its name and size alone."""

    name: str
    size: int
    text: bool = False

    def data(self, seed: int) -> bytes:
        """Return its bytes."""
        noise = random.Random(f"{seed}:{self.name}")
        if not self.text:
            return noise.randbytes(self.size)
        words = [noise.randbytes(4).hex().encode() for _ in range(200)]
        return b" ".join(noise.choices(words, k=self.size // 9 + 1))[: self.size]


@dataclass(frozen=True, slots=True)
class Library:
    """The files of one user."""

    small: tuple[SourceFile, ...]
    large: tuple[SourceFile, ...]
    texts: tuple[SourceFile, ...]

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """All of them."""
        return self.small + self.large + self.texts


@dataclass(frozen=True, slots=True)
class Order:
    """One job that a user wants, and what they do about it."""

    number: int
    kind: Kind
    user: int
    names: tuple[str, ...]
    """Files that are there."""
    ghosts: int = 0
    """Files that are not."""
    priority: int = 5
    webhook: bool = False
    wait: float = 0.0
    """Seconds after which it is cancelled."""

    @property
    def options(self) -> dict[str, object]:
        """The options of the request."""
        return {
            "priority": self.priority,
            **({"compression": "deflate"} if self.kind is Kind.DEFLATE else {}),
            **({"on_missing": "fail"} if self.kind is Kind.STRICT else {}),
        }

    @property
    def ends(self) -> frozenset[str]:
        """The states in which it may rightly end."""
        match self.kind:
            case Kind.STRICT | Kind.EMPTY:
                return frozenset({"failed"})
            case Kind.CANCELLED:
                return frozenset({"cancelled", "completed"})
            case _:
                return frozenset({"completed"})


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that is wanted of a run."""

    seed: int
    libraries: tuple[Library, ...]
    orders: tuple[Order, ...]
    victims: random.Random = field(compare=False)
    """Draws what dies next."""


def make_scenario(seed: int, *, jobs: int, users: int = 6) -> Scenario:
    """Return the scenario of a seed."""
    libraries = tuple(_library(user, random.Random(f"{seed}:library:{user}")) for user in range(users))
    draw = random.Random(f"{seed}:orders")
    kinds = draw.choices(list(_SHARES), weights=list(_SHARES.values()), k=jobs)
    # A short run has one of each kind as well.
    kinds[: len(_SHARES)] = list(_SHARES)[:jobs]
    draw.shuffle(kinds)
    equal = [_pick_equal(user, library, draw) for user, library in enumerate(libraries) for _ in range(2)]
    orders = tuple(_order(number, kind, libraries, equal, draw) for number, kind in enumerate(kinds))
    return Scenario(seed=seed, libraries=libraries, orders=orders, victims=random.Random(f"{seed}:victims"))


def _library(user: int, draw: random.Random) -> Library:
    return Library(
        small=tuple(SourceFile(f"u{user}/small-{n:02}.bin", draw.randint(0, 200 * KIB)) for n in range(30)),
        large=tuple(SourceFile(f"u{user}/large-{n}.bin", draw.randint(12 * MIB, 20 * MIB)) for n in range(2)),
        texts=tuple(SourceFile(f"u{user}/text-{n}.txt", draw.randint(1, 600 * KIB), text=True) for n in range(6)),
    )


def _names(files: Sequence[SourceFile], draw: random.Random, least: int, most: int) -> tuple[str, ...]:
    return tuple(file.name for file in draw.sample(files, draw.randint(least, min(most, len(files)))))


def _pick_equal(user: int, library: Library, draw: random.Random) -> tuple[int, tuple[str, ...]]:
    large = _names(library.large, draw, 1, 1) if draw.random() < 0.3 else ()
    return user, large + _names(library.small, draw, 3, 8)


def _order(
    number: int,
    kind: Kind,
    libraries: Sequence[Library],
    equal: Sequence[tuple[int, tuple[str, ...]]],
    draw: random.Random,
) -> Order:
    user = draw.randrange(len(libraries))
    library = libraries[user]
    names = _names(library.small, draw, 2, 10)
    ghosts, wait = 0, 0.0
    match kind:
        case Kind.EQUAL:
            user, names = draw.choice(equal)
        case Kind.LARGE:
            names = _names(library.large, draw, 1, 2) + names
        case Kind.DEFLATE:
            names = _names(library.texts, draw, 1, 6) + names[:3]
        case Kind.MISSING:
            ghosts = draw.randint(1, 3)
        case Kind.STRICT:
            ghosts = 1
        case Kind.EMPTY:
            names, ghosts = (), draw.randint(1, 3)
        case Kind.CANCELLED:
            names = _names(library.large, draw, 0, 1) + names
            wait = draw.choice([0.0, 0.0, 0.1, 0.5, 1.5])
        case _:
            pass
    return Order(
        number=number,
        kind=kind,
        user=user,
        names=names,
        ghosts=ghosts,
        priority=draw.choice([1, 5, 5, 5, 10]),
        webhook=draw.random() < 0.15 and kind is not Kind.DELETED,
        wait=wait,
    )


def ghost_ids(order: Order) -> list[int]:
    """Return ids that no file has, others for each job."""
    return [GHOST + order.number * 10 + each for each in range(order.ghosts)]


def digest(data: bytes) -> str:
    """Return the SHA-256 by which contents are compared."""
    return hashlib.sha256(data).hexdigest()


def turns(names: Sequence[str], draw: random.Random) -> Iterator[str]:
    """Yield names for ever, in random rounds: chance decides the order, and nobody is forgotten."""
    while True:
        yield from draw.sample(names, len(names))
