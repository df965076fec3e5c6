"""placeholder"""


def main(count: int, crashes: int, seed: int) -> int:
    print(count, crashes, seed)
    return 0
