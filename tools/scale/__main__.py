"""python -m tools.scale --peers 50 | --simulated 1000"""

import argparse
import sys

from tools.scale import real, simulated


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.scale", description=__doc__)
    parser.add_argument("--peers", metavar="N", type=int, help="real peers, one process each")
    parser.add_argument("--batch", metavar="N", type=int, default=10, help="started at a time (10)")
    parser.add_argument("--simulated", metavar="N", type=int, help="simulated peers, one process")
    parser.add_argument("--crashes", metavar="N", type=int, help="simulated crashes (N / 10)")
    parser.add_argument("--seed", metavar="N", type=int, default=1)
    args = parser.parse_args(arguments)
    if args.simulated:
        return simulated.main(args.simulated, args.crashes or args.simulated // 10, args.seed)
    if not args.peers:
        parser.error("give --peers N or --simulated N")
    return real.main(args.peers, args.batch)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
