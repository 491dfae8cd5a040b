from bench.bars import Bar


def measure_speed() -> list[Bar]:
    return []
