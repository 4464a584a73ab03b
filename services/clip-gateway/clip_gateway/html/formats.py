"""Template filters for times, numbers and sizes in the reader's language."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from babel import Locale
from babel.dates import format_date, format_datetime
from babel.numbers import format_decimal
from babel.units import format_unit

_SIZES = (("gigabyte", 10**9), ("megabyte", 10**6), ("kilobyte", 10**3))


def filters(locale: Locale) -> Mapping[str, Callable[..., str]]:
    """Return the filters of one language.

    - ``moment``: a date and a time, marked as UTC
    - ``day``: a date, in UTC
    - ``number``: grouped digits, at most three decimals
    - ``size``: bytes in the largest unit in which the value is at least 1
    """

    def moment(at: datetime) -> str:
        return f"{format_datetime(at.astimezone(UTC), 'medium', locale=locale)} UTC"

    def day(at: datetime) -> str:
        return format_date(at.astimezone(UTC), "medium", locale=locale)

    def number(value: float) -> str:
        return format_decimal(value, locale=locale)

    def size(count: int) -> str:
        unit, factor = next((each for each in _SIZES if count >= each[1]), ("byte", 1))
        value = count / factor
        shown = round(value, 1 if 1 < value < 10 else 0)  # noqa: PLR2004 - two digits in every case
        return format_unit(shown, f"digital-{unit}", "short", locale=locale)

    return {"moment": moment, "day": day, "number": number, "size": size}
