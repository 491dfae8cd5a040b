"""Two runs against each other, and one against those before it: statistics, verdicts, and where the figures come
from."""
