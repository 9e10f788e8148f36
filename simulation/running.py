"""Day after day: what the timetable says is done, everything is looked at, and what does not hold is kept."""

from collections.abc import Callable, Iterable
from datetime import datetime

from issuer.errors import IssuerError
from issuer.profiles.lint import LintError
from pkix.signing import SigningError
from settings.load import Settings
from simulation.events import perform
from simulation.history import History
from simulation.invariants import Broken
from simulation.looking import Observer, observer
from simulation.sight import Sight
from simulation.timetable import Entry, Plan, Publish, Random, RareEvent
from simulation.world import World, world

NOT_DONE = "what is asked for is done"


async def simulate(
    plan: Plan,
    entries: Iterable[Entry],
    settings: Settings,
    random: Random,
    tell: Callable[[datetime], None] = lambda _: None,
) -> History:
    """Let a CA live as a timetable says, in the empty instance and database of `settings`.

    Args:
        plan: when it begins and ends.
        entries: what happens: `timetable` of that plan, as a rule.
        settings: where.
        random: a seeded generator, which all choices are made with; keys of the CA and its servers are not.
        tell: is given each moment.

    Raises:
        NotNowError: the database went away.
    """
    history = History(plan)
    async with world(settings, plan, random) as made, observer(made) as eyes:
        before = None
        for entry in entries:
            tell(entry.at)
            history.broken += await _performed(made, entry)
            history.mark(entry)
            if _is_looked_at(entry):
                before = await _seen(history, eyes, before, everything=_is_special(entry))
    return history


async def _performed(made: World, entry: Entry) -> list[Broken]:
    made.clock.now = entry.at
    try:
        await perform(made, entry.event)
    except (IssuerError, LintError, SigningError) as e:
        return [Broken(entry.at, NOT_DONE, f"{type(entry.event).__name__}: {e}")]
    return []


async def _seen(history: History, eyes: Observer, before: Sight | None, *, everything: bool) -> Sight:
    now = await eyes.look(everything=everything)
    history.see(before, now)
    return now


def _is_looked_at(entry: Entry) -> bool:
    """After the lists of each day, and after whatever is no daily work."""
    return isinstance(entry.event, Publish | RareEvent)


def _is_special(entry: Entry) -> bool:
    """The first day of a month, so that everything is asked about from time to time."""
    return entry.at.day == 1 or isinstance(entry.event, RareEvent)
