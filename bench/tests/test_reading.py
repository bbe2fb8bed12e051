"""What is read: /proc, and the command line. What is written: tables."""

import argparse
import unittest

from bench.peers import __main__ as command_line
from bench.peers import proc, report

STATUS = "Name:\tcutout\nVmPeak:\t 5000000 kB\nVmHWM:\t 2808832 kB\nVmRSS:\t 1000 kB\n"
STAT = "4711 (a (b) c) S 1 4711 4711 0 -1 4194560 100 0 0 0 250 50 7 9 20 0 3 0 1 2 3"
MACHINE = "cpu  100 20 30 9000 500 4 5 6 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"
CPUINFO = "processor\t: 0\nmodel name\t: A  Processor @ 2 GHz\nprocessor\t: 1\nmodel name\t: A\n"


class Proc(unittest.TestCase):
    def test_the_peak_is_the_field_of_that_name_in_mib(self):
        self.assertEqual(proc.mib_of(STATUS, "VmHWM"), 2743)

    def test_a_missing_field_is_no_zero(self):
        with self.assertRaises(ValueError):
            proc.mib_of(STATUS, "VmH")

    def test_a_process_name_may_hold_spaces_and_brackets(self):
        self.assertEqual(proc.process_ticks_of(STAT), 300)

    def test_waiting_for_the_disk_is_not_busy_and_stolen_time_is(self):
        self.assertEqual(proc.busy_ticks_of(MACHINE), 165)

    def test_the_processor_is_named_once_and_tidily(self):
        self.assertEqual(proc.cpu_model_of(CPUINFO), "A Processor @ 2 GHz")


class CommandLine(unittest.TestCase):
    def test_a_variant_is_a_name_and_flags_as_a_shell_splits_them(self):
        found = command_line.variant("bf16:--provider=openvino --precision 'bf16'")
        self.assertEqual(
            found, command_line.Variant("bf16", ("--provider=openvino", "--precision", "bf16"))
        )
        self.assertEqual(command_line.variant("cutout:").flags, ())

    def test_a_variant_without_its_colon_is_refused(self):
        for text in ("cutout", ":--provider=openvino"):
            with self.assertRaises(argparse.ArgumentTypeError):
                command_line.variant(text)

    def test_worker_flags_reach_every_worker_and_no_remove(self):
        args = command_line.parse(
            ["--ours", "a:", "--ours", "b:--threads=1", "--worker-flag=--max-jobs=2"]
        )
        workers = command_line.cutouts(args.ours, "worker", args.worker_flag)
        self.assertEqual(
            [(c.name, c.flags) for c in workers],
            [("a", ("--max-jobs=2",)), ("b", ("--threads=1", "--max-jobs=2"))],
        )
        removes = command_line.cutouts(args.ours, "remove", [])
        self.assertEqual(
            [(c.name, c.flags) for c in removes], [("a remove", ()), ("b remove", ("--threads=1",))]
        )

    def test_an_unknown_workload_is_refused(self):
        self.assertEqual(command_line.workloads("cold"), ["cold"])
        with self.assertRaises(argparse.ArgumentTypeError):
            command_line.workloads("warm,hot")

    def test_results_do_not_say_where_the_checkout_is(self):
        root = command_line.environment.ROOT
        self.assertEqual(
            command_line.shown(("--model", f"{root}/.cache/x.toml")), ["--model", ".cache/x.toml"]
        )


class Tables(unittest.TestCase):
    def test_a_table_has_its_head_a_rule_and_as_many_cells_in_each_row(self):
        text = report.memory(
            {"cutout": {"ready": 1, "mixed": 2}, "rembg": {"ready": 3, "mixed": 4}}
        )
        lines = text.splitlines()
        self.assertEqual(lines[1], "| --- | --- | --- |")
        self.assertEqual(lines[3], "| rembg | 3 | 4 |")
        self.assertEqual({line.count("|") for line in lines}, {4})

    def test_the_one_that_others_are_compared_with_has_no_ratio(self):
        spread = {"median": 2.0, "least": 1.5, "most": 3.0, "count": 3}
        rows = [
            {"contender": "cutout", "seconds": spread, "others": 0.1, "times": None},
            {"contender": "rembg", "seconds": spread, "others": 0.0, "times": spread},
        ]
        ours, peer = report.cold_starts(rows).splitlines()[2:]
        self.assertEqual(ours, "| cutout | 2.00 (1.50 to 3.00) |  | 3 | 0.10 |")
        self.assertIn("| **2.00** (1.50 to 3.00) |", peer)


if __name__ == "__main__":
    unittest.main()
