#!/usr/bin/env python3
"""How many workers a load takes, how long a spike lasts, and what it costs: a simulation.

    bench/simulate.py answers                 the tables of docs/scale.md
    bench/simulate.py run [OPTION…]           one scenario
    bench/simulate.py sweep [OPTION…]         one scenario over targets and fleet sizes, by service level
    bench/simulate.py check [OPTION…]         a prediction against a real local worker
    bench/simulate.py roofline GRAPH SIDE     what a network costs an L4, by its operators

`--measured FILE` takes your own stage times, as `cutout bench stages --json` prints them (- is standard input).
Set-up brings the only dependency: `python3 scripts/setup.py simulation`.
"""

import sys

from scaling.cli import main

if __name__ == "__main__":
    sys.exit(main())
