"""Amounts as people read them: counts, machine time, money. Programs get the numbers as they are."""

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def short_count(value: float) -> str:
    """Parameters or tokens to three digits, 3,758,464 -> 3.76M; nothing for NaN."""
    if value != value:
        return ""
    for size, unit in _UNITS:
        if value >= size * 0.9995:
            return f"{float(f'{value:.3g}') / size:g}{unit}"
    return f"{value:.3g}"


def machine_time(hours: float) -> str:
    """Time of one machine, in the unit that reads best; nothing for NaN."""
    if hours != hours:
        return ""
    for seconds, unit in ((3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if (amount := hours * 3600 / seconds) >= 0.9995:
            return f"{amount:,.0f} {unit}" if amount >= 99.95 else f"{amount:.3g} {unit}"
    return "under a second"


def dollars(value: float) -> str:
    """US dollars, estimated; nothing for NaN."""
    if value != value:
        return ""
    return f"about {value:,.2f} $" if value >= 0.005 else "under a cent"
