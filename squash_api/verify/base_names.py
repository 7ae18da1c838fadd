"""Names inside specification documents: what they stand for, given where they are written.

A partial is called `package:path#id`, a specification `package.metric.name`.
"""


def partial_name(text: str, *, package: str, path: str) -> str:
    """Return the full name of a partial, as an `id` or a `base` with a `#` gives it.

    Parameters
    ----------
    package, path
        Where the text is written: they stand in for what it leaves out.

    Raises
    ------
    ValueError
        If the text is no such name.
    """
    text = text.removesuffix("\n")
    hash_at = text.rfind("#", 0, len(text) - 1) if "#" in text else -1
    place, name = (text[:hash_at], text[hash_at + 1 :]) if hash_at >= 0 else ("", text)
    if not name or name.split() != [name] or (place and place.split() != [place]):
        raise ValueError(f"{text!r} is no partial's name: write '#id' or 'path#id', without blanks")
    if hash_at < 0 and "#" in text:
        raise ValueError(f"{text!r} ends in '#': write the partial's id after it")
    named_package, colon, named_path = place.rpartition(":")
    if not colon or not named_package:
        named_package, named_path = package, place
    return f"{named_package}:{named_path or path}#{name}"


def split_specification(text: str, *, metric: str | None, package: str) -> tuple[str | None, str]:
    """Return metric and last part of a specification's name, from all that is known of it.

    The metric is None if neither the name nor `metric` says it.

    Raises
    ------
    ValueError
        If a name has too many parts, or two of them disagree.
    """
    *above, last = text.split(".")
    if len(above) > 2:
        raise ValueError(f"'{text}' has more than three parts: write package.metric.name")
    above_metric = [] if metric is None else metric.split(".")
    if len(above_metric) > 2:
        raise ValueError(f"the metric '{metric}' has more than two parts: write package.metric")
    packages = [parts[0] for parts in (above, above_metric) if len(parts) == 2]
    wrong = next((other for other in packages if other != package), None)
    if wrong is not None:
        raise ValueError(
            f"the package '{wrong}' is not '{package}', the directory this stands in: move the "
            f"document, or write '{package}'"
        )
    metrics = [parts[-1] for parts in (above, above_metric) if parts]
    if len(set(metrics)) > 1:
        raise ValueError(
            f"the name '{text}' and the metric '{metric}' disagree: write the metric once"
        )
    return (metrics[0] if metrics else None), last


def base_name(text: str, *, package: str, path: str) -> str:
    """Return the full name of a base, a partial if it holds a `#`, else a specification.

    Raises
    ------
    ValueError
        If the text can be neither.
    """
    if "#" in text:
        return partial_name(text, package=package, path=path)
    parts = text.split(".")
    if len(parts) == 3 and parts[0] != package:
        raise ValueError(f"the base '{text}' is of another package: only a partial of one can be")
    metric, last = split_specification(text, metric=None, package=package)
    if metric is None:
        raise ValueError(
            f"the base '{text}' names nothing: write '#{text}' for a partial of this file, "
            f"'path#{text}' for one of another, metric.{text} for a specification"
        )
    return f"{package}.{metric}.{last}"
