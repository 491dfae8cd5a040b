"""SQL that draws several percentiles of a histogram at once: nearest-rank, as ``shared.histogram`` draws them."""

from collections.abc import Iterable


def ranked(name: str, percents: Iterable[int]) -> str:
    """A lateral join that gives ``<name>_p<percent>_ms`` of the histogram ``told.<name>``, gone through once."""
    wanted = ", ".join(
        f"min(histogram_value_us(bucket)) FILTER (WHERE upto >= greatest(1, ceil({percent / 100} * total - 1e-9)))"
        f" / 1000 AS {name}_p{percent}_ms"
        for percent in percents
    )
    return f"""
  CROSS JOIN LATERAL (
    SELECT {wanted}
      FROM (SELECT histogram_bucket(element) AS bucket, sum(histogram_count(element)) OVER (ORDER BY element) AS upto,
                   (sum(histogram_count(element)) OVER ())::float8 AS total
              FROM unnest(told.{name}) AS element) AS counted
  ) AS {name}_ranked"""  # noqa: S608 - built from the code's own constants
