"""A day of the archivers under an autoscaler, second by second: pure arithmetic, the same each time; docs/scaling.md.

The autoscaler is Kubernetes' HorizontalPodAutoscaler with KEDA's metric of the type ``AverageValue``, and its defaults:
looked at every 15 s; a tenth more or less is let pass; at most doubled, or four more, at each look; fewer only if
nothing within the last five minutes asked for more. Sources: "Horizontal Pod Autoscaling" and
"HorizontalPodAutoscaler, behavior" in the documentation of Kubernetes; "Scaling Deployments" in KEDA's.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

DAY = 86_400
"""Seconds."""
LOOK = 15
"""Seconds between two looks at the metric."""
TOLERANCE = 0.1
STABILIZATION = 300
"""Seconds for which the highest wish of the past counts before replicas go."""
_MOST_MORE = 4

Load = Callable[[int], float]
"""Returns the tasks that arrive in a second of the day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Archivers, and the time that a task takes."""

    slots: int = 4
    """Tasks that one makes at a time: HAULYARD_ARCHIVER_SLOTS."""
    task_seconds: float = 0.2
    start_seconds: int = 20
    """From the wish for a replica until it takes tasks."""

    @property
    def per_second(self) -> float:
        """Tasks that one replica can do in a second."""
        return self.slots / self.task_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How many replicas there are to be."""

    name: str
    least: int
    most: int
    target: float = math.inf
    """Tasks for each replica; infinite: there are always ``least``."""
    counts_taken: bool = True
    """Tasks that are worked on count as well as those that wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a day was like."""

    rule: Rule
    replicas: tuple[int, ...]
    """At the end of each look: those that were wanted and paid for, whether they worked already or not."""
    ages: tuple[tuple[int, float], ...]
    """Seconds that tasks waited before they were begun, and how many waited so long; the shortest first."""
    left: float
    """Tasks that waited at the end of the day."""

    @property
    def replica_hours(self) -> float:
        """Hours of all replicas together."""
        return sum(self.replicas) * LOOK / 3600

    @property
    def done(self) -> float:
        """Tasks that were begun."""
        return sum(amount for _, amount in self.ages)

    def age(self, share: float) -> int:
        """Return the seconds that a share of the tasks (0 to 1) waited at most."""
        wanted, seen = share * self.done, 0.0
        for seconds, amount in self.ages:
            seen += amount
            if seen >= wanted:
                return seconds
        return self.ages[-1][0] if self.ages else 0


def wished(current: int, tasks: float, rule: Rule) -> int:
    """Return how many replicas the metric asks for, before what is allowed at one look.

    Args:
        current: replicas that are there or being started.
        tasks: the metric.
        rule: with the metric's target.
    """
    if math.isinf(rule.target):
        return rule.least
    if current and abs(tasks / (rule.target * current) - 1) <= TOLERANCE:
        return current
    return min(max(math.ceil(tasks / rule.target), rule.least), rule.most)


def allowed(current: int, wishes: Sequence[int]) -> int:
    """Return how many replicas there are after a look.

    Args:
        current: replicas that are there or being started.
        wishes: of the looks within the time of stabilization, the newest last.
    """
    newest = wishes[-1]
    if newest >= current:
        return min(newest, max(2 * current, current + _MOST_MORE))
    return min(current, max(wishes))


def day(load: Load, fleet: Fleet, rule: Rule, *, seconds: int = DAY) -> Outcome:
    """Return what comes of a rule under a load.

    Tasks are a fluid: in each second those that waited longest are begun, as many as the replicas can do.
    """
    waiting: deque[tuple[int, float]] = deque()
    wishes: deque[int] = deque([rule.least], maxlen=STABILIZATION // LOOK)
    starting: deque[tuple[int, int]] = deque()
    """When replicas are there, and how many."""
    working = rule.least
    ages: dict[int, float] = {}
    replicas = []
    for now in range(seconds):
        while starting and starting[0][0] <= now:
            working += starting.popleft()[1]
        if arrived := load(now):
            waiting.append((now, arrived))
        begun = _begin(waiting, now, working * fleet.per_second, ages)
        if (now + 1) % LOOK:
            continue
        queue = sum(amount for _, amount in waiting)
        current = working + sum(count for _, count in starting)
        wishes.append(wished(current, queue + (begun * fleet.task_seconds if rule.counts_taken else 0.0), rule))
        wanted = allowed(current, wishes)
        if wanted > current:
            starting.append((now + fleet.start_seconds, wanted - current))
        while wanted < current and starting:  # those that do not work yet go first
            at, count = starting.pop()
            stay = max(count - (current - wanted), 0)
            current -= count - stay
            if stay:
                starting.append((at, stay))
        working -= max(current - wanted, 0)
        replicas.append(wanted)
    return Outcome(
        rule=rule,
        replicas=tuple(replicas),
        ages=tuple(sorted(ages.items())),
        left=sum(amount for _, amount in waiting),
    )


def _begin(waiting: deque[tuple[int, float]], now: int, can: float, ages: dict[int, float]) -> float:
    """Take what can be begun in this second off the queue; return how much that is."""
    begun = 0.0
    while waiting and begun < can:
        since, amount = waiting.popleft()
        taken = min(amount, can - begun)
        begun += taken
        ages[now - since] = ages.get(now - since, 0.0) + taken
        if amount > taken:
            waiting.appendleft((since, amount - taken))
    return begun


# A day's load

SHAPE = (3, 2, 1.5, 1, 1, 1.5, 3, 6, 10, 13, 14, 13, 11, 12, 13.5, 13, 11, 9, 7, 6, 5.5, 5, 4.5, 4)
"""How the jobs are spread over the hours of a day, by their starts; between two it is a straight line."""
BURST_AT = 15 * 3600
BURST_SECONDS = 300
BURST = 3.0
"""At three o'clock so many times as many come for five minutes."""

_MEAN = sum(SHAPE) / len(SHAPE)
PEAK = max(SHAPE) / _MEAN
"""The busiest hour against the mean, without the burst."""


def of_a_day(per_hour: float) -> Load:
    """Return a load with so many tasks an hour in the mean of a day (without the burst)."""

    def load(second: int) -> float:
        hour, part = divmod(second % DAY, 3600)
        begin, end = SHAPE[hour], SHAPE[(hour + 1) % len(SHAPE)]
        rate = per_hour / 3600 * (begin + (end - begin) * part / 3600) / _MEAN
        return rate * BURST if BURST_AT <= second % DAY < BURST_AT + BURST_SECONDS else rate

    return load


# How it looks

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 240, 40, 24


def chart(load: Load, fleet: Fleet, outcome: Outcome) -> str:
    """Return an SVG with the replicas of a day, and those that the load would keep busy."""
    busy = [load(look * LOOK) / fleet.per_second for look in range(len(outcome.replicas))]
    top = max(*outcome.replicas, *busy)
    replicas = _path([float(count) for count in outcome.replicas], top)
    hours = "".join(
        f'<text x="{_LEFT + _WIDTH * hour / 24:.0f}" y="{_HEIGHT + 16}">{hour}</text>' for hour in range(0, 25, 4)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {_HEIGHT + _BOTTOM}" '
        'font-family="sans-serif" font-size="11" fill="#57606a">\n'
        f"<title>Replicas over a day: {outcome.rule.name}</title>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f'<path d="M{_LEFT} 4V{_HEIGHT}H{_LEFT + _WIDTH}" fill="none" stroke="#57606a"/>\n'
        f'<text x="4" y="14">{top:.0f}</text><text x="4" y="{_HEIGHT}">0</text>{hours}\n'
        f'<path d="{replicas}" fill="none" stroke="#0969da" stroke-width="1.5"/>\n'
        f'<path d="{_path(busy, top)}" fill="none" stroke="#cf222e" stroke-width="1.5"/>\n'
        f'<text x="60" y="20" fill="#0969da">replicas</text>'
        f'<text x="120" y="20" fill="#cf222e">replicas that the load keeps busy</text>\n'
        "</svg>\n"
    )


def _path(values: Sequence[float], top: float) -> str:
    """Return the path of a line; of each eight points (two minutes) the highest."""
    step = 8
    highest = [max(values[start : start + step]) for start in range(0, len(values), step)]
    points = [
        f"{_LEFT + _WIDTH * index / len(highest):.1f} {_HEIGHT - (_HEIGHT - 8) * value / top:.1f}"
        for index, value in enumerate(highest)
    ]
    return "M" + "L".join(points)
